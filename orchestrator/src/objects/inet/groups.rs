//! Multicast groups that a socket is a member of.
//!
//! The kernel tells which groups anybody is a member of (`/proc/net/igmp`, `igmp6`), and of a socket, a group and an interface
//! what the socket hears of it, if it is a member (`MCAST_MSFILTER`): so each is asked.

use super::options::{SOL_IP, SOL_IPV6};
use crate::procfs::multicast;
use crate::snapshot::{InetGroup, InetSocket};
use crate::sys::socket;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

pub use crate::procfs::multicast::Candidate;

/// Most senders of one membership that are kept.
const MOST_SOURCES: usize = 256;
/// `struct group_filter`: bytes before the senders, and of each.
const FILTER_LEN: usize = 144;
const ADDRESS_LEN: usize = 128;
/// Where its parts are.
const GROUP_AT: usize = 8;
const MODE_AT: usize = 136;
const COUNT_AT: usize = 140;
/// `MCAST_INCLUDE`.
const INCLUDE: u32 = 1;

/// Returns the groups of a socket.
///
/// # Errors
/// Why they cannot be kept.
pub fn collect(
    own: BorrowedFd<'_>,
    fact: &InetSocket,
    known: &mut Option<Vec<Candidate>>,
) -> Result<Vec<InetGroup>, String> {
    if known.is_none() {
        let read = multicast::read();
        *known = Some(read.map_err(|error| format!("its groups cannot be asked: {error}"))?);
    }
    let mut groups = Vec::new();
    for candidate in known.iter().flatten() {
        if candidate.group.is_ipv6() && !fact.is_v6 {
            continue;
        }
        let level = level_of(&candidate.group);
        let mut buffer = filter(candidate.index, &candidate.group, &[], MOST_SOURCES as u32);
        buffer.resize(FILTER_LEN + MOST_SOURCES * ADDRESS_LEN, 0);
        if socket::option_of(own, level, libc::MCAST_MSFILTER, &mut buffer).is_err() {
            continue;
        }
        let word = |at: usize| {
            let bytes = buffer[at..at + 4].try_into();
            u32::from_ne_bytes(bytes.expect("4 bytes"))
        };
        let count = word(COUNT_AT) as usize;
        if count > MOST_SOURCES {
            return Err(format!(
                "it hears {count} senders of a group, which is not kept"
            ));
        }
        let sources = buffer[FILTER_LEN..].chunks_exact(ADDRESS_LEN).take(count);
        groups.push(InetGroup {
            interface: candidate.interface.clone(),
            group: candidate.group,
            is_include: word(MODE_AT) == INCLUDE,
            sources: sources.map(address_of).collect(),
        });
    }
    Ok(groups)
}

/// Returns the level at which memberships in a group are set.
pub fn level_of(group: &IpAddr) -> i32 {
    match group {
        IpAddr::V4(_) => SOL_IP,
        IpAddr::V6(_) => SOL_IPV6,
    }
}

/// Returns a `struct group_filter`.
pub fn filter(index: u32, group: &IpAddr, sources: &[IpAddr], count: u32) -> Vec<u8> {
    let mut bytes = request(index, group);
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(count.to_ne_bytes());
    bytes.extend(sources.iter().flat_map(storage));
    bytes
}

/// As [`filter`], with who is heard.
pub fn filter_of(index: u32, membership: &InetGroup) -> Vec<u8> {
    let count = membership.sources.len() as u32;
    let mut bytes = filter(index, &membership.group, &membership.sources, count);
    let mode = u32::from(membership.is_include) * INCLUDE;
    bytes[MODE_AT..MODE_AT + 4].copy_from_slice(&mode.to_ne_bytes());
    bytes
}

/// Returns a `struct group_req`.
pub fn request(index: u32, group: &IpAddr) -> Vec<u8> {
    let mut bytes = index.to_ne_bytes().to_vec();
    bytes.resize(GROUP_AT, 0);
    bytes.extend(storage(group));
    bytes
}

/// Returns a `struct sockaddr_storage`.
fn storage(address: &IpAddr) -> Vec<u8> {
    let mut bytes = super::plan::sockaddr(&(*address, 0).into(), 0);
    bytes.resize(ADDRESS_LEN, 0);
    bytes
}

fn address_of(bytes: &[u8]) -> IpAddr {
    match u16::from_ne_bytes([bytes[0], bytes[1]]) as i32 {
        libc::AF_INET6 => {
            let octets: [u8; 16] = bytes[8..24].try_into().expect("16 bytes");
            Ipv6Addr::from(octets).into()
        }
        _ => Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]).into(),
    }
}
