//! From the kernel to the fact: all is asked of a copy of the descriptor, which is the same socket.

use super::{SO_BUF_LOCK, SO_TIMESTAMPING_NEW, TABLE};
use crate::snapshot::SocketOptions;
use crate::sys::{self, socket};
use std::os::fd::{AsFd, BorrowedFd};

/// Collects the options of a socket.
///
/// # Errors
/// Why it is not kept.
pub fn collect(own: impl AsFd) -> Result<SocketOptions, String> {
    let own = own.as_fd();
    let ask = |option| socket::option(own, option).map_err(lost);
    Ok(SocketOptions {
        send_buffer: ask(libc::SO_SNDBUF)? as u32,
        receive_buffer: ask(libc::SO_RCVBUF)? as u32,
        locked_buffers: socket::option(own, SO_BUF_LOCK).unwrap_or(0) as u32,
        send_timeout: socket::option_pair(own, libc::SO_SNDTIMEO).map_err(lost)?,
        receive_timeout: socket::option_pair(own, libc::SO_RCVTIMEO).map_err(lost)?,
        values: values(own)?,
        device: socket::device(own).map_err(lost)?,
        filter: filter(own)?,
    })
}

fn lost(error: sys::Error) -> String {
    format!("it cannot be asked: {error}")
}

fn values(own: BorrowedFd<'_>) -> Result<Vec<(i32, u64)>, String> {
    let mut values = Vec::new();
    for option in TABLE {
        match socket::option_bytes(own, option.number, option.bytes) {
            Ok(value) if value != option.default => values.push((option.number, value)),
            Ok(_) => {}
            // Not an option of this kernel, or of this family.
            Err(error) if is_unknown(error.errno as i32) => {}
            Err(error) => return Err(lost(error)),
        }
    }
    // The old name tells of what was set under the new one too.
    if values
        .iter()
        .any(|(number, _)| *number == SO_TIMESTAMPING_NEW)
    {
        values.retain(|(number, _)| *number != libc::SO_TIMESTAMPING);
    }
    Ok(values)
}

fn is_unknown(errno: i32) -> bool {
    matches!(errno, libc::ENOPROTOOPT | libc::EOPNOTSUPP)
}

fn filter(own: BorrowedFd<'_>) -> Result<Vec<u64>, String> {
    match socket::filter(own) {
        Ok(filter) => Ok(filter),
        Err(error) if error.errno as i32 == libc::EACCES => {
            Err("a socket with a BPF program as its filter (SO_ATTACH_BPF) is not kept yet".into())
        }
        Err(error) => Err(lost(error)),
    }
}
