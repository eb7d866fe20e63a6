//! From the kernel to the fact. All is asked of a copy of the descriptor, which is the same socket, and of new sockets of our
//! own, to know what a program has changed. Nothing is asked that would take what waits in a socket, its error too.

use super::options::{Holds, ROWS, Row, SOL_TCP, When};
use super::{datagrams, groups};
use crate::netlink::inet_diag::{self, Told};
use crate::objects::sockopt::collect as sockopt;
use crate::procfs::connected;
use crate::snapshot::inet::{NOWHERE, NOWHERE_V6, is_somewhere};
use crate::snapshot::{InetOption, InetSocket, InetState, TcpState, TcpStream};
use crate::sys::poll::poll_now;
use crate::sys::{fd, socket};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// States of TCP (`net/tcp_states.h`).
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;
/// Bytes of `struct tcp_info` that are looked at: the state, and of a listening socket how many wait and how many may.
const TCP_INFO_LEN: usize = 32;
const WAITING_AT: usize = 24;
const BACKLOG_AT: usize = 28;
/// `SO_NETNS_COOKIE` (5.14).
const SO_NETNS_COOKIE: i32 = 71;
/// `RCV_SHUTDOWN`, and that with `SEND_SHUTDOWN`.
const RECEIVE: u8 = 1;
const BOTH: u8 = 3;
/// Protocols whose sockets of datagrams are kept.
const DATAGRAMS: [i32; 4] = [
    libc::IPPROTO_UDP,
    libc::IPPROTO_UDPLITE,
    libc::IPPROTO_ICMP,
    libc::IPPROTO_ICMPV6,
];
/// Bytes of addresses behind the family.
const V4_LEN: usize = 6;
const V6_LEN: usize = 26;
/// How often a datagram that is not sent yet is looked for, and how long the device has for it between.
const UNSENT_LOOKS: usize = 20;
const UNSENT_WAIT: Duration = Duration::from_millis(1);

/// Values of the options of the table; `None` = there is none such.
type Values = Vec<Option<Vec<u8>>>;

/// What is asked once for all sockets.
#[derive(Debug, Default)]
pub struct Asked {
    /// Values of options of new sockets: by family, type and protocol.
    fresh: BTreeMap<(bool, i32, i32), Values>,
    /// Sockets that the kernel tells of: by family and protocol.
    told: BTreeMap<(bool, i32), BTreeMap<u32, Told>>,
    /// Where sockets are connected to that have no ports.
    connected: Option<BTreeMap<u32, IpAddr>>,
    /// Groups that somebody is a member of.
    groups: Option<Vec<groups::Candidate>>,
}

/// What the user allows of sockets of TCP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choices {
    /// Connections that nobody has accepted are left out.
    pub skip_pending: bool,
    /// Connections are kept.
    pub keep_connections: bool,
    /// Connections are left out: their sockets are closed.
    pub close_connections: bool,
}

/// A socket, and what of it is lost.
#[derive(Debug)]
pub struct Collected {
    /// The socket.
    pub fact: InetSocket,
    /// Why datagrams that wait in it are lost.
    pub lost_datagrams: Option<String>,
    /// An error waits in it.
    pub has_error: bool,
}

/// Why a socket is refused, and what would let it pass.
type Refused = (String, &'static str);

/// Collects a socket.
///
/// # Errors
/// Why it is not kept.
pub fn collect(
    own: impl AsFd,
    ino: u32,
    asked: &mut Asked,
    choices: Choices,
) -> Result<Collected, Refused> {
    let own = own.as_fd();
    let ask = |option| socket::option(own, option).map_err(lost);
    let is_v6 = ask(libc::SO_DOMAIN)? == libc::AF_INET6;
    let (kind, protocol) = (ask(libc::SO_TYPE)?, ask(libc::SO_PROTOCOL)?);
    refuse_kind(kind, protocol)?;
    refuse_foreign(own)?;
    let events = poll_now(own, libc::POLLIN | libc::POLLRDHUP).map_err(lost)?;
    let (local, interface) = address(&socket::name(own).map_err(lost)?, is_v6);
    let (remote, other) = address(&socket::peer_name(own).unwrap_or_default(), is_v6);
    let mut fact = InetSocket {
        ino,
        is_v6,
        kind,
        protocol,
        state: InetState::Closed,
        local,
        remote,
        interface: if interface.is_empty() {
            other
        } else {
            interface
        },
        shutdown: 0,
        options: sockopt::collect(own).map_err(plain)?,
        values: Vec::new(),
        groups: Vec::new(),
        stream: TcpStream::default(),
        datagrams: Vec::new(),
    };
    if fact.is_tcp() {
        fact.state = tcp_state(own, choices)?;
        let is_shut = events & libc::POLLRDHUP != 0;
        match fact.state {
            InetState::Closed => fact.shutdown = u8::from(is_shut) * BOTH,
            InetState::Connection(_) if choices.close_connections => fact.close(),
            InetState::Connection(state) => {
                if state == TcpState::SynSent {
                    fact.remote = remote_asked(&fact, asked).map_err(plain)?;
                }
                if socket::has_urgent(own) {
                    return Err(plain("a byte waits in it that was sent out of band".into()));
                }
                // An end that has come shuts it too.
                let is_own = is_shut && !state.has_received_end();
                fact.shutdown = u8::from(is_own) * RECEIVE;
            }
            _ => {}
        }
        if fact.state == InetState::Closed && !choices.close_connections && waiting(own) != 0 {
            if fact.local.port() == 0 {
                let reason = "its connection is over, and bytes wait in it that nobody has read";
                return Err(plain(reason.into()));
            }
            fact.stream.received = received(own)?;
            fact.stream.is_reset = events & libc::POLLERR != 0;
        }
    } else {
        let is_udp = matches!(protocol, libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE);
        if is_udp && kind == libc::SOCK_DGRAM {
            refuse_unsent(own)?;
        }
        let is_icmp = matches!(protocol, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6);
        if (kind == libc::SOCK_RAW || is_icmp) && !is_somewhere(&fact.remote) {
            fact.remote = remote_without_port(&fact, asked).map_err(plain)?;
        }
        if is_somewhere(&fact.remote) {
            fact.state = InetState::Connected;
        }
        fact.shutdown = shutdown(&fact, events, asked)?;
        fact.groups = groups::collect(own, &fact, &mut asked.groups).map_err(plain)?;
    }
    fact.values = values(own, &fact, asked)?;
    let lost_datagrams = match events & libc::POLLIN != 0 && !fact.is_tcp() {
        true => read_datagrams(own, &mut fact, events, asked).err(),
        false => None,
    };
    Ok(Collected {
        lost_datagrams,
        has_error: events & libc::POLLERR != 0 && !fact.stream.is_reset,
        fact,
    })
}

fn plain(reason: String) -> Refused {
    (reason, "")
}

fn lost(error: crate::sys::Error) -> Refused {
    plain(format!("it cannot be asked: {error}"))
}

fn refuse_kind(kind: i32, protocol: i32) -> Result<(), Refused> {
    let is_known = match kind {
        libc::SOCK_STREAM => protocol == libc::IPPROTO_TCP,
        libc::SOCK_DGRAM => DATAGRAMS.contains(&protocol),
        libc::SOCK_RAW => true,
        _ => false,
    };
    let name = match protocol {
        _ if is_known => return Ok(()),
        libc::IPPROTO_MPTCP => "an MPTCP socket",
        libc::IPPROTO_SCTP => "an SCTP socket",
        libc::IPPROTO_DCCP => "a DCCP socket",
        _ => {
            return Err(plain(format!(
                "a socket of type {kind} and IP protocol {protocol} is not kept yet"
            )));
        }
    };
    Err(plain(format!("{name} is not kept yet")))
}

/// Refuses one of another network namespace than ours.
///
/// # Errors
/// It is of another.
pub(crate) fn refuse_foreign(own: BorrowedFd<'_>) -> Result<(), Refused> {
    let cookie = |fd: BorrowedFd<'_>| {
        let mut cookie = [0; 8];
        let read = socket::option_of(fd, libc::SOL_SOCKET, SO_NETNS_COOKIE, &mut cookie);
        read.ok().map(|_| cookie)
    };
    let ours = socket::make(libc::AF_INET, libc::SOCK_DGRAM, 0)
        .or_else(|_| socket::make(libc::AF_INET6, libc::SOCK_DGRAM, 0));
    match ours.map_err(lost).map(|ours| cookie(ours.as_fd()))? {
        Some(ours) if cookie(own) != Some(ours) => Err(plain(
            "it is of another network namespace, which is not kept yet".into(),
        )),
        _ => Ok(()),
    }
}

/// Refuses one that holds back a part of a datagram. What a device has not sent yet is waited for.
fn refuse_unsent(own: BorrowedFd<'_>) -> Result<(), Refused> {
    for _ in 0..UNSENT_LOOKS {
        if socket::unread_by_others(own).map_err(lost)? == 0 {
            return Ok(());
        }
        std::thread::sleep(UNSENT_WAIT);
    }
    let reason = "it is corked: a part of a datagram waits in it for the rest, which is not kept";
    Err(plain(reason.into()))
}

/// Returns the state of a socket of TCP.
fn tcp_state(own: BorrowedFd<'_>, choices: Choices) -> Result<InetState, Refused> {
    let mut info = [0; TCP_INFO_LEN];
    socket::option_of(own, SOL_TCP, libc::TCP_INFO, &mut info).map_err(lost)?;
    let word = |at: usize| {
        let bytes = info[at..at + 4].try_into();
        u32::from_ne_bytes(bytes.expect("4 bytes"))
    };
    match info[0] {
        CLOSE => Ok(InetState::Closed),
        LISTEN if word(WAITING_AT) != 0 && !choices.skip_pending => {
            let reason = format!(
                "{} connections wait to be accepted, which are not kept",
                word(WAITING_AT)
            );
            let remedy = "use --skip-in-flight to leave connections out that wait to be accepted";
            Err((reason, remedy))
        }
        LISTEN => Ok(InetState::Listening(word(BACKLOG_AT))),
        other => match TcpState::of(other.into()) {
            Some(_) if !choices.keep_connections && !choices.close_connections => Err((
                "it is a connection of TCP".into(),
                "use --tcp-established to keep it, or --tcp-close to leave it out",
            )),
            Some(state) => Ok(InetState::Connection(state)),
            None => Err(plain(format!("it is a connection in state {other}"))),
        },
    }
}

/// Returns in which directions a socket is shut that keeps no state of a connection.
fn shutdown(fact: &InetSocket, events: i16, asked: &mut Asked) -> Result<u8, Refused> {
    let is_told = fact.kind == libc::SOCK_DGRAM
        && matches!(fact.protocol, libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE);
    // The kernel tells of those that have a port. Of others it can be seen, but for one shut for sending alone.
    if is_told && fact.local.port() != 0 {
        let known = told(asked, fact.is_v6, fact.protocol).map_err(plain)?;
        return Ok(known.get(&fact.ino).map_or(0, |told| told.shutdown) & BOTH);
    }
    Ok(
        match (events & libc::POLLRDHUP != 0, events & libc::POLLHUP != 0) {
            (_, true) => BOTH,
            (true, false) => RECEIVE,
            (false, false) => 0,
        },
    )
}

/// Returns where a socket is connected to that has no port there.
fn remote_without_port(fact: &InetSocket, asked: &mut Asked) -> Result<SocketAddr, String> {
    let known = match &mut asked.connected {
        Some(known) => known,
        none => none.insert(connected::read().map_err(|error| error.to_string())?),
    };
    let found = known.get(&fact.ino);
    Ok(found.map_or(fact.remote, |&address| SocketAddr::new(address, 0)))
}

/// Returns to whom a connection is to be that nobody has answered yet: `getpeername` says that it is none.
fn remote_asked(fact: &InetSocket, asked: &mut Asked) -> Result<SocketAddr, String> {
    let known = told(asked, fact.is_v6, fact.protocol)?.get(&fact.ino);
    let remote = known.map(|told| told.remote).filter(is_somewhere);
    remote.ok_or_else(|| "the kernel does not tell whom it has asked for a connection".into())
}

/// Returns the sockets of a protocol, which are asked for once.
fn told(asked: &mut Asked, is_v6: bool, protocol: i32) -> Result<&BTreeMap<u32, Told>, String> {
    match asked.told.entry((is_v6, protocol)) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(place) => {
            let read = inet_diag::read(is_v6, protocol as u8);
            let read =
                read.map_err(|error| format!("the kernel does not tell of sockets: {error}"))?;
            Ok(place.insert(read))
        }
    }
}

/// Reads what waits in a socket of datagrams.
fn read_datagrams(
    own: BorrowedFd<'_>,
    fact: &mut InetSocket,
    events: i16,
    asked: &mut Asked,
) -> Result<(), String> {
    if events & libc::POLLERR != 0 {
        return Err("a look would take the error that waits in it".into());
    }
    if datagrams::is_kept(fact) {
        for is_v6 in [false, true] {
            told(asked, is_v6, fact.protocol)?;
        }
    }
    let none = BTreeMap::new();
    let known = [false, true].map(|is_v6| asked.told.get(&(is_v6, fact.protocol)).unwrap_or(&none));
    fact.datagrams = datagrams::read(own, fact, known)?;
    Ok(())
}

/// Returns the options that are not as in a new socket.
fn values(
    own: BorrowedFd<'_>,
    fact: &InetSocket,
    asked: &mut Asked,
) -> Result<Vec<InetOption>, Refused> {
    let key = (fact.is_v6, fact.kind, fact.protocol);
    let fresh = match asked.fresh.entry(key) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => {
            let family = if fact.is_v6 {
                libc::AF_INET6
            } else {
                libc::AF_INET
            };
            let new = socket::make(family, fact.kind, fact.protocol).map_err(lost)?;
            let values = ROWS.iter().map(|row| read(new.as_fd(), fact, row));
            place.insert(values.collect())
        }
    };
    let mut values = Vec::new();
    for (row, fresh) in ROWS.iter().zip(fresh) {
        let Some(value) = read(own, fact, row).filter(|value| Some(value) != fresh.as_ref()) else {
            continue;
        };
        if !row.is_set(fact.was_connected()) && row.when != When::Never {
            continue;
        }
        if row.when == When::Never {
            return Err(plain(format!(
                "a socket with {} is not kept yet",
                row.words
            )));
        }
        values.push(InetOption {
            level: row.level,
            name: row.name,
            value: named(row, value)?,
        });
    }
    Ok(values)
}

/// Reads an option; `None` = this socket has none such.
fn read(own: BorrowedFd<'_>, fact: &InetSocket, row: &Row) -> Option<Vec<u8>> {
    if !row.is_for(fact.is_v6, fact.kind, fact.protocol) {
        return None;
    }
    let mut value = vec![0; row.most_bytes()];
    let len = socket::option_of(own, row.level, row.name, &mut value).ok()?;
    value.truncate(len);
    if row.holds == Holds::Name {
        let end = value.iter().position(|byte| *byte == 0);
        value.truncate(end.unwrap_or(len));
    }
    Some(value)
}

/// Returns a value as it is kept: an interface by its name.
fn named(row: &Row, value: Vec<u8>) -> Result<Vec<u8>, Refused> {
    let number = match (row.holds, <[u8; 4]>::try_from(&value[..])) {
        (Holds::Interface, Ok(bytes)) => u32::from_ne_bytes(bytes),
        (Holds::BackwardInterface, Ok(bytes)) => u32::from_be_bytes(bytes),
        _ => return Ok(value),
    };
    if number == 0 {
        return Ok(Vec::new());
    }
    let gone = || plain(format!("{}: interface {number} is gone", row.words));
    socket::interface_name(number).ok_or_else(gone)
}

/// Returns the address in what the kernel says behind the family, and the name of the interface that it counts for.
pub(super) fn address(bytes: &[u8], is_v6: bool) -> (SocketAddr, Vec<u8>) {
    let port = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
    if is_v6 && bytes.len() >= V6_LEN {
        let ip: [u8; 16] = bytes[6..22].try_into().expect("16 bytes");
        let scope = u32::from_ne_bytes(bytes[22..26].try_into().expect("4 bytes"));
        let interface = match scope {
            0 => None,
            scope => socket::interface_name(scope),
        };
        let address = SocketAddr::new(Ipv6Addr::from(ip).into(), port(bytes));
        return (address, interface.unwrap_or_default());
    }
    if !is_v6 && bytes.len() >= V4_LEN {
        let ip = Ipv4Addr::new(bytes[2], bytes[3], bytes[4], bytes[5]);
        return (SocketAddr::new(ip.into(), port(bytes)), Vec::new());
    }
    (nowhere(is_v6), Vec::new())
}

fn nowhere(is_v6: bool) -> SocketAddr {
    if is_v6 { NOWHERE_V6 } else { NOWHERE }
}

/// Returns the bytes that wait in a socket of TCP whose connection is over. A look takes no error where there are bytes.
fn received(own: BorrowedFd<'_>) -> Result<Vec<u8>, Refused> {
    let len = waiting(own);
    let mut bytes = vec![0; len];
    match socket::look(own, &mut bytes).map_err(lost)? {
        seen if seen == len => Ok(bytes),
        seen => Err(plain(format!("it holds {len} bytes and shows {seen}"))),
    }
}

/// Returns how many bytes wait in a socket of TCP.
fn waiting(own: BorrowedFd<'_>) -> usize {
    // Of one that is closed and was never connected, nobody tells.
    fd::readable_bytes(own).unwrap_or(0)
}
