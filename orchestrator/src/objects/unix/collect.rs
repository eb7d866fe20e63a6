//! From the kernel to the fact. All is asked of a copy of the descriptor, which is the same socket.

use crate::snapshot::{SocketOptions, UnixSocket};
use crate::sys::socket::{self, Peeked};
use std::os::fd::AsFd;

/// Options that are numbers, and their values in a new socket: those that are kept.
pub const KEPT: [(i32, i32); 11] = [
    (libc::SO_REUSEADDR, 0),
    (libc::SO_DONTROUTE, 0),
    (libc::SO_BROADCAST, 0),
    (libc::SO_KEEPALIVE, 0),
    (libc::SO_OOBINLINE, 0),
    (libc::SO_PRIORITY, 0),
    (libc::SO_REUSEPORT, 0),
    (libc::SO_PASSCRED, 0),
    (libc::SO_RCVLOWAT, 1),
    (libc::SO_PASSSEC, 0),
    (libc::SO_MARK, 0),
];
/// Options that are numbers, and are not kept; `SO_PASSPIDFD` (6.5) and `SO_PASSRIGHTS` (6.16) by their numbers.
const REFUSED: [(i32, i32, &str); 12] = [
    (libc::SO_DEBUG, 0, "SO_DEBUG"),
    (libc::SO_NO_CHECK, 0, "SO_NO_CHECK"),
    (libc::SO_TIMESTAMP, 0, "SO_TIMESTAMP"),
    (libc::SO_TIMESTAMPNS, 0, "SO_TIMESTAMPNS"),
    (libc::SO_TIMESTAMPING, 0, "SO_TIMESTAMPING"),
    (libc::SO_RXQ_OVFL, 0, "SO_RXQ_OVFL"),
    (libc::SO_PEEK_OFF, -1, "SO_PEEK_OFF"),
    (libc::SO_LOCK_FILTER, 0, "SO_LOCK_FILTER"),
    (libc::SO_BUSY_POLL, 0, "SO_BUSY_POLL"),
    (76, 0, "SO_PASSPIDFD"),
    (83, 1, "SO_PASSRIGHTS"),
    (libc::SO_GET_FILTER, 0, "a filter"),
];
/// `SO_BUF_LOCK` (5.14): bit 0 the size for sending, bit 1 for receiving was set by the program.
const SO_BUF_LOCK: i32 = 72;
/// Longest message: more than any buffer may hold by default.
const MAX_MESSAGE: usize = 16 << 20;

/// Collects a socket, without what it is connected to.
///
/// # Errors
/// Why it is not kept.
pub fn collect(own: impl AsFd, ino: u32) -> Result<UnixSocket, String> {
    let own = own.as_fd();
    let lost = |error: crate::sys::Error| format!("it cannot be asked: {error}");
    let ask = |option| socket::option(own, option).map_err(lost);
    let domain = ask(libc::SO_DOMAIN)?;
    if domain != libc::AF_UNIX {
        return Err(format!(
            "a socket of address family {domain} is not kept yet"
        ));
    }
    if ask(libc::SO_ACCEPTCONN)? != 0 {
        return Err("a listening socket is not kept yet".into());
    }
    if socket::name_len(own).map_err(lost)? > size_of::<libc::sa_family_t>() {
        return Err("a Unix socket with a name is not kept yet".into());
    }
    for (option, default, name) in REFUSED {
        // An option that this kernel does not know is as in a new socket.
        if socket::option(own, option).is_ok_and(|value| value != default) {
            return Err(format!("a socket with {name} is not kept yet"));
        }
    }
    if socket::option_pair(own, libc::SO_LINGER).map_err(lost)? != [0, 0] {
        return Err("a socket with SO_LINGER is not kept yet".into());
    }
    let mut options = SocketOptions {
        send_buffer: ask(libc::SO_SNDBUF)? as u32,
        receive_buffer: ask(libc::SO_RCVBUF)? as u32,
        locked_buffers: socket::option(own, SO_BUF_LOCK).unwrap_or(0) as u32,
        send_timeout: socket::option_pair(own, libc::SO_SNDTIMEO).map_err(lost)?,
        receive_timeout: socket::option_pair(own, libc::SO_RCVTIMEO).map_err(lost)?,
        values: Vec::new(),
    };
    for (option, default) in KEPT {
        let value = ask(option)?;
        if value != default {
            options.values.push((option, value));
        }
    }
    let kind = ask(libc::SO_TYPE)?;
    Ok(UnixSocket {
        ino,
        kind,
        peer: 0,
        shutdown: 0,
        options,
        queue: queue(own, kind).map_err(|error| match error {
            Some(error) if matches!(error.errno as i32, libc::EINVAL | libc::ENOTCONN) => {
                "a socket that is connected to nothing is not kept yet".into()
            }
            Some(error) => lost(error),
            None => "what waits in it comes with descriptors or of several senders, which is not kept yet".into(),
        })?,
    })
}

/// Reads what waits in a socket, and leaves it there: the bytes of a stream are one message. `None` = it is not bytes alone.
fn queue(own: impl AsFd, kind: i32) -> Result<Vec<Vec<u8>>, Option<crate::sys::Error>> {
    let own = own.as_fd();
    let mut buffer = vec![0; MAX_MESSAGE];
    if kind == libc::SOCK_STREAM {
        let held = crate::sys::fd::readable_bytes(own).map_err(Some)?;
        return match next(own, &mut buffer)? {
            Some(peeked) if peeked.len == held => Ok(vec![buffer[..held].to_vec()]),
            None if held == 0 => Ok(Vec::new()),
            _ => Err(None),
        };
    }
    let mut all = Vec::new();
    socket::set_option(own, libc::SO_PEEK_OFF, 0).map_err(Some)?;
    let read = loop {
        match next(own, &mut buffer) {
            Ok(Some(peeked)) if peeked.len <= buffer.len() => {
                all.push(buffer[..peeked.len].to_vec());
            }
            Ok(Some(_)) => break Err(None),
            Ok(None) => break Ok(all),
            Err(error) => break Err(error),
        }
    };
    socket::set_option(own, libc::SO_PEEK_OFF, -1).map_err(Some)?;
    read
}

/// Looks at the next message; `None` inside = there is none.
fn next(own: impl AsFd, buffer: &mut [u8]) -> Result<Option<Peeked>, Option<crate::sys::Error>> {
    match socket::peek(own, buffer) {
        Ok(peeked) if peeked.has_more_than_bytes => Err(None),
        Ok(peeked) => Ok(Some(peeked)),
        Err(error) if error.errno as i32 == libc::EAGAIN => Ok(None),
        Err(error) => Err(Some(error)),
    }
}
