//! From the kernel to the fact. All is asked of a copy of the descriptor, which is the same socket. What it is connected to is
//! told for all sockets at once, by netlink.
//!
//! A queue is read with MSG_PEEK, which leaves it; SO_PEEK_OFF and SO_PASSCRED are set for that moment, and only where there is
//! something to read. An error that waits in a socket is told once, by whichever call comes first: so nothing is asked of
//! such a socket that would tell it.

use crate::netlink::unix_diag::Told;
use crate::objects::sockopt::collect as sockopt;
use crate::snapshot::{SocketOptions, UnixName, UnixSocket, UnixState};
use crate::sys::file::{FileStat, statx, statx_path};
use crate::sys::poll::{Ready, poll_readable};
use crate::sys::socket;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// `TCP_ESTABLISHED` and `TCP_LISTEN`.
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;
/// What `/proc` adds to the name of a file that has none any more.
const DELETED: &[u8] = b" (deleted)";
/// What the kernel tells of a socket that nobody has given credentials: no process, no user, no group.
const NO_CREDENTIALS: [u32; 3] = [0, u32::MAX, u32::MAX];

/// A socket, and whether something waits in it that is to be read.
#[derive(Debug)]
pub struct Collected {
    /// The socket, with an empty queue.
    pub fact: UnixSocket,
    /// Its queue is not empty.
    pub has_messages: bool,
}

/// What a socket says of itself: nothing else has to be known for it.
#[derive(Debug)]
pub struct Asked {
    kind: i32,
    /// As it was bound, empty where it has none.
    name: Vec<u8>,
    ready: Ready,
    credentials: Option<[u32; 3]>,
    options: SocketOptions,
}

impl Asked {
    /// Returns whether nothing can be read from it, so that nothing waits in it either.
    pub fn is_quiet(&self) -> bool {
        self.ready == Ready::default()
    }
}

/// Asks a socket.
///
/// # Errors
/// Why it is not kept.
pub fn ask(own: impl AsFd) -> Result<Asked, String> {
    let own = own.as_fd();
    let kind = socket::option(own, libc::SO_TYPE).map_err(lost)?;
    let name = socket::name(own).map_err(lost)?;
    let ready = poll_readable(&[own], Some(Duration::ZERO)).map_err(lost)?[0];
    if ready.error && kind != libc::SOCK_STREAM {
        return Err("an error waits in it, which is not kept yet".into());
    }
    Ok(Asked {
        kind,
        name,
        ready,
        credentials: socket::peer_credentials(own).ok(),
        options: sockopt::collect(own)?,
    })
}

/// Collects a socket, without what it is connected to and what waits in it. `cwd` tells the working directory of a process
/// that has it.
///
/// # Errors
/// Why it is not kept.
pub fn collect(
    own: impl AsFd,
    asked: Asked,
    (ino, told): (u32, &Told),
    cwd: impl FnOnce() -> Vec<u8>,
) -> Result<Collected, String> {
    let state = match told.state {
        LISTEN => UnixState::Listening(told.backlog),
        ESTABLISHED => UnixState::Connected,
        _ => UnixState::Closed,
    };
    let name = match asked.name {
        bytes if bytes.is_empty() => None,
        bytes => Some(name(own.as_fd(), bytes, cwd)?),
    };
    let fact = UnixSocket {
        ino,
        kind: asked.kind,
        state,
        name,
        shutdown: told.shutdown,
        is_reset: asked.ready.error,
        options: asked.options,
        peer_credentials: asked.credentials.filter(|told| *told != NO_CREDENTIALS),
        ..UnixSocket::default()
    };
    let is_listening = matches!(state, UnixState::Listening(_));
    Ok(Collected {
        fact,
        has_messages: asked.ready.readable && !is_listening,
    })
}

fn lost(error: crate::sys::Error) -> String {
    format!("it cannot be asked: {error}")
}

/// Returns the name that a socket was bound to. Whether its file is there is asked of the file itself: somebody else may
/// have put another one in its place.
fn name(
    own: BorrowedFd<'_>,
    mut bytes: Vec<u8>,
    cwd: impl FnOnce() -> Vec<u8>,
) -> Result<UnixName, String> {
    if bytes[0] == 0 {
        return Ok(UnixName {
            bytes,
            ..UnixName::default()
        });
    }
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    let shown = String::from_utf8_lossy(&bytes).into_owned();
    let untold =
        |error: &dyn std::fmt::Display| format!("its file {shown} cannot be asked: {error}");
    let file = socket::unix_file(own).map_err(|error| untold(&error))?;
    let stat = statx(&file).map_err(|error| untold(&error))?;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let link = link.map_err(|error| untold(&error))?.into_os_string();
    let link = link.as_bytes();
    let is_deleted = stat.nlink == 0 || link.ends_with(DELETED);
    let real = link.strip_suffix(DELETED).unwrap_or(link);
    let mut name = UnixName {
        folder: Vec::new(),
        is_deleted,
        mode: Some([stat.mode, stat.uid, stat.gid]),
        bytes,
    };
    if name.bytes[0] != b'/' {
        name.folder = folder(&name, real, &cwd(), &stat);
    }
    if !is_deleted && !leads_to(&name.path(), &stat) {
        let reason = format!(
            "its file {shown} was renamed, or is seen from another root, which is not kept yet"
        );
        return Err(reason);
    }
    Ok(name)
}

fn leads_to(path: &[u8], stat: &FileStat) -> bool {
    let path = CString::new(path).unwrap_or_default();
    statx_path(&path).is_ok_and(|found| (found.dev, found.ino) == (stat.dev, stat.ino))
}

/// Returns the folder that a relative name counts from: the working directory of whoever bound it, which may be another by now.
fn folder(name: &UnixName, real: &[u8], cwd: &[u8], stat: &FileStat) -> Vec<u8> {
    let begin = real.strip_suffix(&name.bytes[..]);
    let begin = begin.and_then(|begin| begin.strip_suffix(b"/"));
    let in_cwd = UnixName {
        folder: cwd.to_vec(),
        ..name.clone()
    };
    match begin {
        _ if !name.is_deleted && leads_to(&in_cwd.path(), stat) => cwd.to_vec(),
        Some(b"") => b"/".to_vec(),
        Some(begin) => begin.to_vec(),
        None => cwd.to_vec(),
    }
}
