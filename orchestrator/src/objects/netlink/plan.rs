//! From the fact to operations. Pure.

use super::{ADD_MEMBERSHIP, SOL_NETLINK};
use crate::objects::sockopt::plan as sockopt;
use crate::plan::Builder;
use crate::snapshot::NetlinkSocket;

/// Adds a socket with all that it has, and returns its number.
pub fn plan_create(b: &mut Builder, socket: &NetlinkSocket) -> i32 {
    let args = [libc::AF_NETLINK, socket.kind, socket.protocol].map(|number| number as u64);
    let fd = b.open(libc::SYS_socket, &args);
    sockopt::plan_buffers(b, fd, &socket.options);
    for value in &socket.values {
        sockopt::set_option(b, fd, (SOL_NETLINK, value.name), &value.value);
    }
    if socket.port != 0 {
        plan_address(b, fd, libc::SYS_bind, (socket.port, 0));
    }
    for (word, place) in socket.groups.iter().zip(0..) {
        for bit in (0..32).filter(|bit| word >> bit & 1 == 1) {
            let group: u32 = place * 32 + bit + 1;
            sockopt::set_option(b, fd, (SOL_NETLINK, ADD_MEMBERSHIP), &group.to_ne_bytes());
        }
    }
    if let Some((port, group)) = socket.peer {
        let groups = group.checked_sub(1).map_or(0, |place| 1 << place);
        plan_address(b, fd, libc::SYS_connect, (port, groups));
    }
    sockopt::plan_options(b, fd, &socket.options);
    fd
}

/// Adds a call that takes a `struct sockaddr_nl`.
fn plan_address(b: &mut Builder, fd: i32, call: i64, (port, groups): (u32, u32)) {
    let family = (libc::AF_NETLINK as u32).to_ne_bytes();
    let bytes = [family, port.to_ne_bytes(), groups.to_ne_bytes()].concat();
    let at = b.put(&bytes);
    b.call_returns(call, &[fd as u64, at, bytes.len() as u64], 0);
}
