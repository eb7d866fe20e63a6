//! From the kernel to the fact: all is asked of a copy of the descriptor.

use super::{LIST_MEMBERSHIPS, MOST_WORDS, OPTIONS, SOL_NETLINK};
use crate::objects::sockopt::collect as sockopt;
use crate::snapshot::{InetOption, NetlinkSocket};
use crate::sys::poll::poll_now;
use crate::sys::{self, socket};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

/// Protocols of which more hangs on a socket than it tells.
const NETFILTER: i32 = 12;

/// A socket, and what of it is lost.
#[derive(Debug)]
pub struct Collected {
    /// The socket.
    pub fact: NetlinkSocket,
    /// An error waits in it.
    pub has_error: bool,
}

/// Collects a socket; `connected` are those that are, by inode, where the kernel tells.
///
/// # Errors
/// Why it is not kept.
pub fn collect(
    own: impl AsFd,
    ino: u32,
    connected: Option<&BTreeMap<u32, bool>>,
) -> Result<Collected, String> {
    let own = own.as_fd();
    let ask = |option| socket::option(own, option).map_err(lost);
    let (kind, protocol) = (ask(libc::SO_TYPE)?, ask(libc::SO_PROTOCOL)?);
    if protocol == NETFILTER {
        return Err("tables and queues of netfilter may belong to it, which are not kept".into());
    }
    let events = poll_now(own, libc::POLLIN).map_err(lost)?;
    if events & libc::POLLIN != 0 {
        return Err("a message of the kernel waits in it that nobody has read".into());
    }
    let name = socket::name(own).map_err(lost)?;
    let peer = socket::peer_name(own).map_err(lost)?;
    let [port, peer_port, peer_groups] = [word(&name, 2), word(&peer, 2), word(&peer, 6)];
    // One that is connected to the kernel looks as one that is not.
    let is_told = connected.and_then(|all| all.get(&ino)).copied();
    let is_connected = is_told.unwrap_or(false) || (peer_port, peer_groups) != (0, 0);
    let group = match peer_groups {
        0 => 0,
        groups => groups.trailing_zeros() + 1,
    };
    Ok(Collected {
        fact: NetlinkSocket {
            ino,
            kind,
            protocol,
            port,
            groups: groups(own)?,
            peer: is_connected.then_some((peer_port, group)),
            options: sockopt::collect(own)?,
            values: values(own),
        },
        has_error: events & libc::POLLERR != 0,
    })
}

fn lost(error: sys::Error) -> String {
    format!("it cannot be asked: {error}")
}

/// Returns a word behind the family of an address.
fn word(name: &[u8], at: usize) -> u32 {
    let bytes = name.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_ne_bytes)
}

fn groups(own: BorrowedFd<'_>) -> Result<Vec<u32>, String> {
    let mut bytes = [0; MOST_WORDS * 4];
    let len = socket::option_of(own, SOL_NETLINK, LIST_MEMBERSHIPS, &mut bytes).map_err(lost)?;
    let words = bytes[..len].chunks_exact(4);
    let mut groups: Vec<u32> = words.map(|bytes| word(bytes, 0)).collect();
    while groups.last() == Some(&0) {
        groups.pop();
    }
    Ok(groups)
}

fn values(own: BorrowedFd<'_>) -> Vec<InetOption> {
    let read = OPTIONS.iter().filter_map(|&name| {
        let mut value = [0; 4];
        socket::option_of(own, SOL_NETLINK, name, &mut value).ok()?;
        (value != [0; 4]).then(|| InetOption {
            level: SOL_NETLINK,
            name,
            value: value.to_vec(),
        })
    });
    read.collect()
}
