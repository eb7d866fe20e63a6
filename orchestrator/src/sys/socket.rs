//! Sockets: options, names, and what waits in them.

use super::{Result, check};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

/// Returns an option of `SOL_SOCKET` that is a number.
pub fn option(socket: impl AsFd, option: i32) -> Result<i32> {
    let mut value = 0_i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, which has as many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    check("getsockopt", result.into())?;
    Ok(value)
}

/// Returns an option of `SOL_SOCKET` that is two words (a `timeval`, a `linger` in the first).
pub fn option_pair(socket: impl AsFd, option: i32) -> Result<[i64; 2]> {
    let mut value = [0_i64; 2];
    let mut len = size_of::<[i64; 2]>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, which has as many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    check("getsockopt", result.into())?;
    Ok(value)
}

/// Sets an option of `SOL_SOCKET` that is a number.
pub fn set_option(socket: impl AsFd, option: i32, value: i32) -> Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `value`, which has as many.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            len,
        )
    };
    check("setsockopt", result.into()).map(drop)
}

/// Returns process, user and group of whoever made the other end (`SO_PEERCRED`).
pub fn peer_credentials(socket: impl AsFd) -> Result<[u32; 3]> {
    let mut value = [0_u32; 3];
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, which has as many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    check("getsockopt(SO_PEERCRED)", result.into())?;
    Ok(value)
}

/// Returns how many bytes the socket's name takes with its family: 2 for a Unix socket without one.
pub fn name_len(socket: impl AsFd) -> Result<usize> {
    let mut name = [0_u8; size_of::<libc::sockaddr_storage>()];
    let mut len = name.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `name`, which has as many.
    let result = unsafe {
        libc::getsockname(
            socket.as_fd().as_raw_fd(),
            name.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    check("getsockname", result.into())?;
    Ok(len as usize)
}

/// What a look into a queue found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peeked {
    /// Bytes of the message, of which at most the buffer's were copied.
    pub len: usize,
    /// Descriptors or credentials come with it.
    pub has_more_than_bytes: bool,
}

/// Looks at what the next `recv` would take (or, with `SO_PEEK_OFF`, what comes after that), and leaves it. `EAGAIN` where
/// there is nothing.
pub fn peek(socket: impl AsFd, buffer: &mut [u8]) -> Result<Peeked> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all of it is numbers and pointers that may be null.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: `message` names one buffer, which is ours, and no other room: descriptors are not taken.
    let result = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
    let len = check("recvmsg", result as i64)?;
    Ok(Peeked {
        len,
        has_more_than_bytes: message.msg_flags & libc::MSG_CTRUNC != 0,
    })
}
