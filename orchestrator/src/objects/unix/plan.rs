//! From the fact to operations. Pure.
//!
//! What a program has forbidden itself by `shutdown` comes last, after its options (`objects/sockopt`).

use crate::plan::Builder;
use crate::snapshot::{UnixMessage, UnixName, UnixSocket};

/// `SIOCUNIXFILE` of `linux/un.h`: a descriptor of the file that a socket is bound to.
pub const SIOCUNIXFILE: u64 = 0x89e0;

/// Adds a socket that does not wait, and returns its number.
pub fn plan_socket(b: &mut Builder, kind: i32) -> i32 {
    let kind = kind | libc::SOCK_NONBLOCK;
    b.open(libc::SYS_socket, &[libc::AF_UNIX as u64, kind as u64, 0])
}

/// Puts an address into the data and returns where it is, and its length; an empty name has none.
pub fn put_address(b: &mut Builder, name: &[u8]) -> (u64, u64) {
    if name.is_empty() {
        return (0, 0);
    }
    let mut bytes = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    bytes.extend_from_slice(name);
    if name[0] != 0 {
        bytes.push(0);
    }
    (b.put(&bytes), bytes.len() as u64)
}

/// Adds the name of a socket.
pub fn plan_bind(b: &mut Builder, fd: i32, name: &[u8]) {
    let (at, len) = put_address(b, name);
    b.call_returns(libc::SYS_bind, &[fd as u64, at, len], 0);
}

/// Adds owner and mode of the file of a name.
pub fn plan_owner(b: &mut Builder, name: &UnixName) {
    let Some([mode, uid, gid]) = name.mode else {
        return;
    };
    let path = b.put_cstr(&name.path());
    let cwd = libc::AT_FDCWD as u64;
    let args = [cwd, path, u64::from(uid), u64::from(gid), 0];
    b.call_returns(libc::SYS_fchownat, &args, 0);
    let args = [cwd, path, u64::from(mode & 0o7777)];
    b.call_returns(libc::SYS_fchmodat, &args, 0);
}

/// Adds a byte that nobody will read.
pub fn plan_byte(b: &mut Builder, fd: i32) {
    let at = b.put(&[0]);
    let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u64;
    b.call_returns(libc::SYS_sendto, &[fd as u64, at, 1, flags, 0, 0], 1);
}

/// Adds a message to this name, or to what the socket is connected to, with process, user and group, and descriptors.
pub fn plan_message(
    b: &mut Builder,
    fd: i32,
    to: &[u8],
    (message, credentials): (&UnixMessage, Option<[u32; 3]>),
    rights: &[i32],
) {
    let len = message.data.len() as u64;
    let data = b.put(&message.data);
    let (name, name_len) = put_address(b, to);
    let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u64;
    let mut control = Vec::new();
    if !rights.is_empty() {
        let words: Vec<u32> = rights.iter().map(|fd| *fd as u32).collect();
        put_control(&mut control, libc::SCM_RIGHTS, &words);
    }
    if let Some(credentials) = credentials {
        put_control(&mut control, libc::SCM_CREDENTIALS, &credentials);
    }
    if control.is_empty() {
        let args = [fd as u64, data, len, flags, name, name_len];
        return b.call_returns(libc::SYS_sendto, &args, len as i64);
    }
    let control_len = control.len() as u64;
    let control = b.put(&control);
    let part = b.put_words(&[data, len]);
    // `struct msghdr`: name and its length, parts and their number, control data and its length, flags.
    let header = b.put_words(&[name, name_len, part, 1, control, control_len, 0]);
    b.call_returns(libc::SYS_sendmsg, &[fd as u64, header, flags], len as i64);
}

/// Adds a `struct cmsghdr` of `SOL_SOCKET` with its data.
fn put_control(control: &mut Vec<u8>, kind: i32, words: &[u32]) {
    const HEADER: usize = 16;
    let len = HEADER + words.len() * 4;
    control.extend_from_slice(&(len as u64).to_ne_bytes());
    control.extend_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
    control.extend_from_slice(&kind.to_ne_bytes());
    control.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    control.resize(control.len().next_multiple_of(8), 0);
}

/// Adds a pair and returns the numbers of its ends.
pub fn plan_pair(b: &mut Builder, kind: i32) -> [i32; 2] {
    let ends = [b.fds.take_lowest(), b.fds.take_lowest()];
    let at = b.put(&[0; 8]);
    let args = [libc::AF_UNIX as u64, kind as u64, 0, at];
    b.call_returns(libc::SYS_socketpair, &args, 0);
    ends
}

/// Adds what waits in a socket: sent by its peer.
pub fn plan_queue(b: &mut Builder, socket: &UnixSocket, peer: i32) {
    for message in &socket.queue {
        let at = b.put(&message.data);
        let len = message.data.len() as u64;
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
