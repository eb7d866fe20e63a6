//! From the fact to operations. Pure.

use crate::objects::regular::plan::open_flags;
use crate::plan::{Builder, Report};
use crate::snapshot::PipeBuffer;

/// What `pipe2` gives, in bytes.
const DEFAULT_CAPACITY: u32 = 65536;
/// `F_SETPIPE_SZ`.
const F_SETPIPE_SZ: u64 = 1031;
/// O_LARGEFILE as the kernel keeps it on x86-64, where the C library's constant is 0: every `open` sets it, `pipe2` does not.
const LARGEFILE: u32 = 0o100_000;

/// Adds a pipe and returns the numbers of its ends: reading, writing.
pub fn plan_create(b: &mut Builder) -> [i32; 2] {
    let ends = [b.fds.take_lowest(), b.fds.take_lowest()];
    let at = b.put(&[0; 8]);
    b.call_returns(libc::SYS_pipe2, &[at, 0], 0);
    ends
}

/// Adds capacity and content. `limits`: `fs.pipe-max-size`, and whether it may be exceeded.
pub fn plan_fill(
    b: &mut Builder,
    [_, writing]: [i32; 2],
    buffer: &PipeBuffer,
    limits: (u32, bool),
    report: &mut Report,
) {
    let (max, can_exceed) = limits;
    let needed = buffer.data.len() as u32;
    let capacity = buffer.capacity.unwrap_or(DEFAULT_CAPACITY).max(needed);
    if capacity > max && !can_exceed {
        report.refuse(
            format!("pipe {}", buffer.pipe_id),
            format!("its capacity of {capacity} bytes is above fs.pipe-max-size ({max})"),
            format!("sysctl fs.pipe-max-size={capacity}"),
        );
    }
    if capacity != DEFAULT_CAPACITY {
        let args = [writing as u64, F_SETPIPE_SZ, u64::from(capacity)];
        b.call(libc::SYS_fcntl, &args);
    }
    if buffer.packets.is_empty() {
        if !buffer.data.is_empty() {
            b.write_all(writing, &buffer.data);
        }
        return;
    }
    // One write is one packet while the writing end is in packet mode; its own flags follow.
    set_flags(b, writing, libc::O_DIRECT as u64);
    let mut rest = &buffer.data[..];
    for &len in &buffer.packets {
        let (packet, others) = rest.split_at(rest.len().min(len as usize));
        b.write_all(writing, packet);
        rest = others;
    }
    set_flags(b, writing, 0);
}

fn set_flags(b: &mut Builder, fd: i32, flags: u64) {
    let args = [fd as u64, libc::F_SETFL as u64, flags];
    b.call_returns(libc::SYS_fcntl, &args, 0);
}

/// Returns which end a description is that `pipe2` made; `None` for one that was opened later.
pub fn original_end(flags: u32) -> Option<usize> {
    match flags & (libc::O_ACCMODE as u32 | LARGEFILE) {
        0 => Some(0),
        1 => Some(1),
        _ => None,
    }
}

/// Adds a further description of one of the ends.
pub fn plan_reopen(b: &mut Builder, [reading, _]: [i32; 2], flags: u32) -> i32 {
    // Either end's link leads to the same inode; the access mode says what is opened.
    let path = format!("/proc/self/fd/{reading}");
    // Packet mode is not to be had by `open` (`do_dentry_open`); it is set with the other flags.
    b.open_path(
        path.as_bytes(),
        open_flags(flags) & !(libc::O_DIRECT as u32),
    )
}
