//! Datagrams that wait in a socket of UDP or UDP-Lite: looked at with `MSG_PEEK`, and brought back as packets that come from
//! whoever sent them (`restore/datagrams.rs`).
//!
//! What of them is told beside sender and data are the address that they were sent to, hops and class: by options that are
//! set for the look and put back after it. A packet has no other way to one socket than its address and port: so they are
//! kept only where nobody else has the port.

pub mod image;

use super::collect::address;
use super::options::{SOL_IP, SOL_IPV6, SOL_UDP};
use crate::netlink::inet_diag::Told;
use crate::snapshot::inet::canonical;
use crate::snapshot::{Datagram, InetSocket};
use crate::sys::socket::{self, Peeked};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

/// Longest datagram, and how many may wait: more than any buffer holds by default.
const MAX_DATAGRAM: usize = 64 << 10;
const MOST: usize = 1 << 16;
/// `UDP_GRO`: a datagram that holds several comes with the length of each.
const UDP_GRO: i32 = 104;
/// Options that have a look tell more, and what they tell.
const TELLING: [(i32, i32); 6] = [
    (SOL_IP, libc::IP_PKTINFO),
    (SOL_IP, libc::IP_RECVTTL),
    (SOL_IP, libc::IP_RECVTOS),
    (SOL_IPV6, libc::IPV6_RECVPKTINFO),
    (SOL_IPV6, libc::IPV6_RECVHOPLIMIT),
    (SOL_IPV6, libc::IPV6_RECVTCLASS),
];

/// A socket that tells all of a datagram, until this goes.
struct Telling<'a> {
    own: BorrowedFd<'a>,
    before: Vec<(i32, i32, i32)>,
    offset: Option<i32>,
}

impl<'a> Telling<'a> {
    fn begin(own: BorrowedFd<'a>) -> Self {
        let mut before = Vec::new();
        for (level, option) in TELLING {
            let mut value = [0; 4];
            let was = socket::option_of(own, level, option, &mut value);
            let on = 1_i32.to_ne_bytes();
            if was.is_ok() && socket::set_option_of(own, level, option, &on).is_ok() {
                before.push((level, option, i32::from_ne_bytes(value)));
            }
        }
        let offset = socket::option(own, libc::SO_PEEK_OFF).ok();
        Self {
            own,
            before,
            offset,
        }
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        for (level, option, value) in self.before.drain(..) {
            let put_back = socket::set_option_of(self.own, level, option, &value.to_ne_bytes());
            if let Err(error) = put_back {
                tracing::error!(
                    "option {option} of a socket stays as it is to look at it: {error}"
                );
            }
        }
        if let Some(offset) = self.offset {
            let _ = socket::set_option(self.own, libc::SO_PEEK_OFF, offset);
        }
    }
}

/// Returns what waits in a socket; `told` are all sockets of its protocol, by their inodes.
///
/// # Errors
/// Why it is lost.
pub fn read(
    own: BorrowedFd<'_>,
    fact: &InetSocket,
    told: [&BTreeMap<u32, Told>; 2],
) -> Result<Vec<Datagram>, String> {
    if !is_kept(fact) {
        return Err("of such sockets they are not kept".into());
    }
    let port = fact.local.port();
    let mut others = told.into_iter().flatten();
    if others.any(|(ino, other)| *ino != fact.ino && other.port == port) {
        return Err("another socket has the port too".into());
    }
    let telling = Telling::begin(own);
    let mut queue = Queue {
        telling,
        buffer: vec![0; MAX_DATAGRAM],
        is_v6: fact.is_v6,
    };
    queue.read()
}

/// Returns whether what waits in such a socket can be kept.
pub fn is_kept(fact: &InetSocket) -> bool {
    let protocols = [libc::IPPROTO_UDP, libc::IPPROTO_UDPLITE];
    fact.kind == libc::SOCK_DGRAM && protocols.contains(&fact.protocol) && fact.local.port() != 0
}

struct Queue<'a> {
    telling: Telling<'a>,
    buffer: Vec<u8>,
    is_v6: bool,
}

impl Queue<'_> {
    /// Reads all. One look without an offset comes first: with one, the kernel shows an empty datagram only once.
    fn read(&mut self) -> Result<Vec<Datagram>, String> {
        let mut all = Vec::new();
        let first = self.look(-1)?;
        all.extend(first.filter(|first| first.data.is_empty()));
        let mut at = 0;
        while let Some(datagram) = self.look(at)? {
            at += datagram.data.len() as i32;
            all.push(datagram);
            if all.len() == MOST {
                return Err(format!("more than {MOST} wait in it"));
            }
        }
        Ok(all)
    }

    /// Looks at one behind so many bytes; `None` = there is none.
    fn look(&mut self, offset: i32) -> Result<Option<Datagram>, String> {
        let own = self.telling.own;
        let lost = |error: crate::sys::Error| format!("they cannot be looked at: {error}");
        socket::set_option(own, libc::SO_PEEK_OFF, offset).map_err(lost)?;
        match socket::peek(own, &mut self.buffer) {
            Ok(peeked) => datagram(&peeked, &self.buffer, self.is_v6).map(Some),
            Err(error) if error.errno as i32 == libc::EAGAIN => Ok(None),
            Err(error) => Err(lost(error)),
        }
    }
}

fn datagram(peeked: &Peeked, buffer: &[u8], is_v6: bool) -> Result<Datagram, String> {
    let Some(data) = buffer.get(..peeked.len) else {
        return Err(format!("one of {} bytes waits in it", peeked.len));
    };
    let (from, _) = address(&peeked.sender, is_v6);
    let mut to = None;
    let (mut hops, mut class) = (0, 0);
    for (level, kind, value) in &peeked.others {
        match (*level, *kind) {
            (SOL_IP, libc::IP_PKTINFO) => to = to.or(ipv4(value.get(8..12))),
            (SOL_IPV6, libc::IPV6_PKTINFO) => to = to.or(ipv6(value.get(..16))),
            (SOL_IP, libc::IP_TTL) | (SOL_IPV6, libc::IPV6_HOPLIMIT) => hops = first(value),
            (SOL_IP, libc::IP_TOS) | (SOL_IPV6, libc::IPV6_TCLASS) => class = first(value),
            (SOL_UDP, UDP_GRO) => return Err("several have come as one (UDP_GRO)".into()),
            _ => {}
        }
    }
    let to = to
        .ok_or("nobody tells where one was sent to")?
        .to_canonical();
    let is_near = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let from = canonical(from);
    if to.is_multicast() || to == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err("one was sent to many".into());
    }
    if is_near(to) || is_near(from.ip()) {
        return Err("one has come from a link-local address".into());
    }
    Ok(Datagram {
        from,
        to,
        hops,
        class,
        data: data.to_vec(),
    })
}

fn ipv4(bytes: Option<&[u8]>) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes?)
        .ok()
        .map(|octets| Ipv4Addr::from(octets).into())
}

fn ipv6(bytes: Option<&[u8]>) -> Option<IpAddr> {
    <[u8; 16]>::try_from(bytes?)
        .ok()
        .map(|octets| Ipv6Addr::from(octets).into())
}

/// Values are small numbers, in one byte or four.
fn first(value: &[u8]) -> u8 {
    value.first().copied().unwrap_or(0)
}
