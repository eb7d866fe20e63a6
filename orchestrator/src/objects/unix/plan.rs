//! From the fact to operations. Pure.
//!
//! Sizes of buffers come before what waits in them, other options after: to send from a socket with `SO_PASSCRED` gives it a
//! name (`unix_autobind`, `net/unix/af_unix.c`). What a program has forbidden itself by `shutdown` comes last.

use crate::plan::Builder;
use crate::snapshot::{SocketOptions, UnixSocket};

/// `SO_SNDBUFFORCE` and `SO_RCVBUFFORCE`: without the limits of `net.core`; the kernel doubles what it is given.
const SNDBUFFORCE: i32 = libc::SO_SNDBUFFORCE;
const RCVBUFFORCE: i32 = libc::SO_RCVBUFFORCE;
/// Bits of `SO_BUF_LOCK`.
const SEND_LOCKED: u32 = 1;
const RECEIVE_LOCKED: u32 = 2;

/// Adds a pair and returns the numbers of its ends.
pub fn plan_pair(b: &mut Builder, kind: i32) -> [i32; 2] {
    let ends = [b.fds.take_lowest(), b.fds.take_lowest()];
    let at = b.put(&[0; 8]);
    let args = [libc::AF_UNIX as u64, kind as u64, 0, at];
    b.call_returns(libc::SYS_socketpair, &args, 0);
    ends
}

/// Adds the sizes of an end's buffers.
pub fn plan_buffers(b: &mut Builder, fd: i32, options: &SocketOptions) {
    if options.locked_buffers & SEND_LOCKED != 0 {
        set(b, fd, SNDBUFFORCE, options.send_buffer as i32 / 2);
    }
    if options.locked_buffers & RECEIVE_LOCKED != 0 {
        set(b, fd, RCVBUFFORCE, options.receive_buffer as i32 / 2);
    }
}

/// Adds the other options of an end.
pub fn plan_options(b: &mut Builder, fd: i32, options: &SocketOptions) {
    for &(option, value) in &options.values {
        set(b, fd, option, value);
    }
    let limits = [
        (libc::SO_SNDTIMEO, options.send_timeout),
        (libc::SO_RCVTIMEO, options.receive_timeout),
    ];
    for (option, [seconds, micros]) in limits.into_iter().filter(|(_, limit)| *limit != [0, 0]) {
        let at = b.put_words(&[seconds as u64, micros as u64]);
        let args = [fd as u64, libc::SOL_SOCKET as u64, option as u64, at, 16];
        b.call_returns(libc::SYS_setsockopt, &args, 0);
    }
}

fn set(b: &mut Builder, fd: i32, option: i32, value: i32) {
    let at = b.put(&value.to_le_bytes());
    let args = [fd as u64, libc::SOL_SOCKET as u64, option as u64, at, 4];
    b.call_returns(libc::SYS_setsockopt, &args, 0);
}

/// Adds what waits in a socket: sent by its peer.
pub fn plan_queue(b: &mut Builder, socket: &UnixSocket, peer: i32) {
    for message in &socket.queue {
        let at = b.put(message);
        let len = message.len() as u64;
        let args = [peer as u64, at, len, libc::MSG_DONTWAIT as u64, 0, 0];
        b.call_returns(libc::SYS_sendto, &args, len as i64);
    }
}

/// Adds the directions in which it is shut.
pub fn plan_shutdown(b: &mut Builder, fd: i32, shutdown: u8) {
    // RCV_SHUTDOWN 1, SEND_SHUTDOWN 2 become SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2.
    if shutdown != 0 {
        let args = [fd as u64, u64::from(shutdown) - 1];
        b.call_returns(libc::SYS_shutdown, &args, 0);
    }
}
