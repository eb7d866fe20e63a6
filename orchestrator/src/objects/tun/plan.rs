//! From the fact to operations. Pure.

use crate::objects::regular::plan::open_flags;
use crate::plan::Builder;
use crate::snapshot::{Tun, TunQueue};

/// Numbers and flags of `include/uapi/linux/if_tun.h`.
const TUNSETIFF: u64 = 0x4004_54ca;
const TUNSETSNDBUF: u64 = 0x4004_54d4;
const TUNSETVNETHDRSZ: u64 = 0x4004_54d8;
const TUNSETQUEUE: u64 = 0x4004_54d9;
const IFF_DETACH_QUEUE: u16 = 0x400;
/// `IFF_VNET_HDR`, and `IFF_PERSIST`, which is told and not set.
const VNET_HEADER: u16 = 0x4000;
const PERSISTENT: u16 = 0x800;
/// Bytes of a name, and of `struct ifreq`.
const NAME_LEN: usize = 16;
const REQUEST_LEN: usize = 40;

/// Returns the name of the device that it needs.
pub fn name(tun: &Tun) -> Option<&Vec<u8>> {
    tun.queue.as_ref().map(|queue| &queue.device)
}

/// Adds the opening, and that it is attached as it was.
pub fn plan_open(b: &mut Builder, tun: &Tun, flags: u32) -> i32 {
    let fd = b.open_path(&tun.node.path, open_flags(flags));
    if let Some(queue) = &tun.queue {
        plan_queue(b, fd, queue);
    }
    fd
}

fn plan_queue(b: &mut Builder, fd: i32, queue: &TunQueue) {
    let request = |flags: u16| {
        let mut bytes = queue.device.clone();
        bytes.resize(NAME_LEN, 0);
        bytes.extend(flags.to_le_bytes());
        bytes.resize(REQUEST_LEN, 0);
        bytes
    };
    plan_control(b, fd, TUNSETIFF, &request(queue.flags & !PERSISTENT));
    if queue.flags & VNET_HEADER != 0 && queue.vnet_header != 0 {
        plan_control(b, fd, TUNSETVNETHDRSZ, &queue.vnet_header.to_le_bytes());
    }
    if !matches!(queue.send_buffer, 0 | i32::MAX) {
        plan_control(b, fd, TUNSETSNDBUF, &queue.send_buffer.to_le_bytes());
    }
    if queue.is_detached {
        plan_control(b, fd, TUNSETQUEUE, &request(IFF_DETACH_QUEUE));
    }
}

fn plan_control(b: &mut Builder, fd: i32, request: u64, bytes: &[u8]) {
    let at = b.put(bytes);
    b.call_returns(libc::SYS_ioctl, &[fd as u64, request, at], 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_detached_was_attached_before() {
        let mut b = Builder::for_test();
        let tun = Tun {
            queue: Some(TunQueue {
                device: b"tap0".to_vec(),
                flags: 0x1902,
                is_detached: true,
                vnet_header: 10,
                send_buffer: i32::MAX,
            }),
            ..Tun::default()
        };
        plan_open(&mut b, &tun, libc::O_RDWR as u32);
        let calls = b.calls();
        let requests: Vec<u64> = calls[1..].iter().map(|(_, args)| args[1]).collect();
        assert_eq!(requests, [TUNSETIFF, TUNSETQUEUE]);
    }
}
