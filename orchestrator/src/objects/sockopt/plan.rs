//! From the fact to operations. Pure.
//!
//! Sizes of buffers come before what waits in a socket, other options after: a filter would take messages away, and to send
//! from a socket with `SO_PASSCRED` gives it a name (`unix_autobind`, `net/unix/af_unix.c`).

use super::{SO_BUF_LOCK, TABLE};
use crate::plan::Builder;
use crate::snapshot::SocketOptions;

/// Bits of `SO_BUF_LOCK`: both.
const ALL_LOCKED: u32 = 3;

/// Adds the sizes of buffers: without the limits of `net.core`; the kernel doubles what it is given, and takes both for
/// the program's choice.
pub fn plan_buffers(b: &mut Builder, fd: i32, options: &SocketOptions) {
    let [send, receive] = [options.send_buffer, options.receive_buffer].map(|size| size / 2);
    set(b, fd, libc::SO_SNDBUFFORCE, u64::from(send), 4);
    set(b, fd, libc::SO_RCVBUFFORCE, u64::from(receive), 4);
    if options.locked_buffers != ALL_LOCKED {
        set(b, fd, SO_BUF_LOCK, u64::from(options.locked_buffers), 4);
    }
}

/// Adds the other options.
pub fn plan_options(b: &mut Builder, fd: i32, options: &SocketOptions) {
    if !options.device.is_empty() {
        let at = b.put_cstr(&options.device);
        let len = options.device.len() as u64 + 1;
        set_at(b, fd, (libc::SOL_SOCKET, libc::SO_BINDTODEVICE), at, len);
    }
    plan_filter(b, fd, &options.filter);
    for option in TABLE {
        let mut values = options.values.iter();
        let Some(&(number, value)) = values.find(|(number, _)| *number == option.number) else {
            continue;
        };
        if number == libc::SO_LINGER && value as u32 == 0 {
            // How long is kept while it is off, and only taken while it is on.
            set(b, fd, number, value | 1, option.bytes);
        }
        set(b, fd, number, value, option.bytes);
    }
    let limits = [
        (libc::SO_SNDTIMEO, options.send_timeout),
        (libc::SO_RCVTIMEO, options.receive_timeout),
    ];
    for (option, [seconds, micros]) in limits.into_iter().filter(|(_, limit)| *limit != [0, 0]) {
        let at = b.put_words(&[seconds as u64, micros as u64]);
        set_at(b, fd, (libc::SOL_SOCKET, option), at, 16);
    }
}

/// Adds a filter: instructions of `struct sock_filter`, behind a `struct sock_fprog`.
fn plan_filter(b: &mut Builder, fd: i32, filter: &[u64]) {
    if filter.is_empty() {
        return;
    }
    let mut program = Vec::with_capacity(filter.len() * 8);
    for instruction in filter {
        program.extend_from_slice(&((instruction >> 48) as u16).to_ne_bytes());
        program.extend_from_slice(&[(instruction >> 40) as u8, (instruction >> 32) as u8]);
        program.extend_from_slice(&(*instruction as u32).to_ne_bytes());
    }
    let at = b.put(&program);
    let at = b.put_words(&[filter.len() as u64, at]);
    set_at(b, fd, (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER), at, 16);
}

/// Adds an option of any level, whose value is these bytes.
pub fn set_option(b: &mut Builder, fd: i32, (level, option): (i32, i32), value: &[u8]) {
    let at = b.put(value);
    set_at(b, fd, (level, option), at, value.len() as u64);
}

fn set(b: &mut Builder, fd: i32, option: i32, value: u64, bytes: usize) {
    set_option(
        b,
        fd,
        (libc::SOL_SOCKET, option),
        &value.to_le_bytes()[..bytes],
    );
}

fn set_at(b: &mut Builder, fd: i32, (level, option): (i32, i32), at: u64, len: u64) {
    let args = [fd as u64, level as u64, option as u64, at, len];
    b.call_returns(libc::SYS_setsockopt, &args, 0);
}
