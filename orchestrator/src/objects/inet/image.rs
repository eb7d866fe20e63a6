//! Between the fact and its record in `files.img`. What the peer has fields for goes there; the rest is in ours.

use super::datagrams::image as datagrams;
use super::options::{self, Holds, SOL_ICMPV6, SOL_IP, SOL_IPV6, SOL_RAW, SOL_TCP, When};
use crate::image::error::{Checked, wrong};
use crate::objects::sockopt::image as sockopt;
use crate::snapshot::inet::{NOWHERE, NOWHERE_V6};
use crate::snapshot::{
    InetGroup, InetOption, InetSocket, InetState, OpenFile, TcpState, TcpStream,
};
use proto::pb;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// States of TCP, which the peer uses for all (`net/tcp_states.h`).
const ESTABLISHED: u32 = 1;
const CLOSE: u32 = 7;
const LISTEN: u32 = 10;
/// Id of the network namespace within the image set.
const NET_NS: u32 = 2;
/// Bytes of a name of an interface (`IFNAMSIZ`).
const MAX_INTERFACE: usize = 16;
/// Most senders of a membership.
const MAX_SOURCES: usize = 256;
/// Numbers of protocols end before it: that of raw sockets may be one that no packet has (`linux/in.h`).
const IPPROTO_MAX: i32 = 263;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &InetSocket,
) -> pb::InetSkEntry {
    let (state, backlog) = match fact.state {
        InetState::Closed => (CLOSE, 0),
        InetState::Listening(backlog) => (LISTEN, backlog),
        InetState::Connected => (ESTABLISHED, 0),
        InetState::Connection(state) => (state as u32, 0),
    };
    let mut values = fact.values.clone();
    let family = if fact.is_v6 {
        libc::AF_INET6
    } else {
        libc::AF_INET
    };
    let ip_opts = ip_to_record(&mut values);
    let tcp_opts = fact.is_tcp().then(|| tcp_to_record(&mut values));
    let v6only = take(&mut values, SOL_IPV6, libc::IPV6_V6ONLY).map(|value| value != 0);
    let is_over = fact.was_connected() && fact.connection().is_none();
    let nowhere = if fact.is_v6 { NOWHERE_V6 } else { NOWHERE };
    let local = if is_over { nowhere } else { fact.local };
    let ext = pb::ExtInetSk {
        option: values.into_iter().map(option_to_record).collect(),
        group: fact.groups.iter().map(group_to_record).collect(),
        past_name: (is_over && fact.is_bound()).then(|| name_to_record(&fact.local)),
        received: Some(fact.stream.received.clone()).filter(|bytes| is_over && !bytes.is_empty()),
        is_reset: (is_over && fact.stream.is_reset).then_some(true),
        datagram: fact.datagrams.iter().map(datagrams::to_record).collect(),
    };
    pb::InetSkEntry {
        id: file.id.0,
        ino: fact.ino,
        family: family as u32,
        r#type: fact.kind as u32,
        proto: fact.protocol as u32,
        state,
        src_port: local.port().into(),
        dst_port: fact.remote.port().into(),
        flags: file.flags,
        backlog,
        src_addr: words(&local.ip()),
        dst_addr: words(&fact.remote.ip()),
        fown,
        opts: sockopt::to_record(&fact.options),
        v6only: v6only.or(fact.is_v6.then_some(false)),
        ip_opts: Some(ip_opts),
        ifname: (!fact.interface.is_empty()).then(|| fact.interface.clone()),
        ns_id: Some(NET_NS),
        shutdown: Some(shutdown_to_record(fact)).filter(|shut| *shut != 0),
        tcp_opts,
        ext: (ext != pb::ExtInetSk::default()).then_some(ext),
    }
}

/// A connection is shut by its state too.
fn shutdown_to_record(fact: &InetSocket) -> i32 {
    let by_state = fact.connection().map_or(0, |state| {
        u8::from(state.has_received_end()) | u8::from(state.has_sent_end()) << 1
    });
    i32::from(fact.shutdown | by_state)
}

pub(super) fn name_to_record(name: &SocketAddr) -> Vec<u8> {
    [&name.port().to_be_bytes()[..], &octets(&name.ip())].concat()
}

/// Takes the value of an option out of a list.
fn take(values: &mut Vec<InetOption>, level: i32, name: i32) -> Option<u32> {
    let is_it = |option: &InetOption| (option.level, option.name) == (level, name);
    let place = values.iter().position(is_it)?;
    Some(number(&values.remove(place).value))
}

/// As [`take`], of a flag.
fn take_flag(values: &mut Vec<InetOption>, level: i32, name: i32) -> Option<bool> {
    take(values, level, name).map(|value| value != 0)
}

fn number(value: &[u8]) -> u32 {
    let mut bytes = [0; 4];
    let len = value.len().min(4);
    bytes[..len].copy_from_slice(&value[..len]);
    u32::from_ne_bytes(bytes)
}

/// Options of IP that the peer keeps.
fn ip_to_record(values: &mut Vec<InetOption>) -> pb::IpOptsEntry {
    let mut filter = take_words(values, SOL_RAW, 1);
    filter.extend(take_words(values, SOL_ICMPV6, 1));
    let raw = pb::IpOptsRawEntry {
        hdrincl: take_flag(values, SOL_IP, libc::IP_HDRINCL),
        nodefrag: take_flag(values, SOL_IP, libc::IP_NODEFRAG),
        checksum: take_flag(values, SOL_IP, 23),
        icmpv_filter: filter,
    };
    let freebind = take_flag(values, SOL_IP, libc::IP_FREEBIND);
    let freebind = take_flag(values, SOL_IPV6, 78).or(freebind);
    pb::IpOptsEntry {
        freebind,
        raw: (raw != pb::IpOptsRawEntry::default()).then_some(raw),
        pktinfo: take_flag(values, SOL_IP, libc::IP_PKTINFO),
        tos: take(values, SOL_IP, libc::IP_TOS),
        ttl: take(values, SOL_IP, libc::IP_TTL),
    }
}

fn take_words(values: &mut Vec<InetOption>, level: i32, name: i32) -> Vec<u32> {
    let is_it = |option: &InetOption| (option.level, option.name) == (level, name);
    match values.iter().position(is_it) {
        Some(place) => values.remove(place).value.chunks(4).map(number).collect(),
        None => Vec::new(),
    }
}

/// Options of TCP that the peer keeps.
fn tcp_to_record(values: &mut Vec<InetOption>) -> pb::TcpOptsEntry {
    pb::TcpOptsEntry {
        cork: take_flag(values, SOL_TCP, libc::TCP_CORK),
        nodelay: take_flag(values, SOL_TCP, libc::TCP_NODELAY),
        keepcnt: take(values, SOL_TCP, libc::TCP_KEEPCNT),
        keepidle: take(values, SOL_TCP, libc::TCP_KEEPIDLE),
        keepintvl: take(values, SOL_TCP, libc::TCP_KEEPINTVL),
    }
}

fn option_to_record(option: InetOption) -> pb::ExtInetOption {
    pb::ExtInetOption {
        level: option.level as u32,
        number: option.name as u32,
        value: option.value,
    }
}

fn group_to_record(group: &InetGroup) -> pb::ExtInetGroup {
    pb::ExtInetGroup {
        interface: group.interface.clone(),
        group: octets(&group.group),
        include: group.is_include,
        source: group.sources.iter().map(octets).collect(),
    }
}

pub(super) fn octets(ip: &IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// An address as its bytes lie in memory.
fn words(ip: &IpAddr) -> Vec<u32> {
    octets(ip).chunks(4).map(number).collect()
}

/// Returns the fact in `record`, or the name of what it is that is not restored yet.
pub(crate) fn from_record(record: &pb::InetSkEntry) -> Checked<Result<InetSocket, String>> {
    let is_v6 = match record.family as i32 {
        libc::AF_INET => false,
        libc::AF_INET6 => true,
        other => return wrong!("family {other} is none of the network"),
    };
    let (kind, protocol) = (record.r#type as i32, record.proto as i32);
    let is_known = match kind {
        libc::SOCK_STREAM => protocol == libc::IPPROTO_TCP,
        libc::SOCK_DGRAM | libc::SOCK_RAW => (0..IPPROTO_MAX).contains(&protocol),
        _ => false,
    };
    if !is_known {
        return Ok(Err(format!(
            "socket of type {kind} and IP protocol {protocol}"
        )));
    }
    let is_tcp = protocol == libc::IPPROTO_TCP && kind == libc::SOCK_STREAM;
    let state = match record.state {
        CLOSE => InetState::Closed,
        LISTEN if is_tcp => InetState::Listening(record.backlog),
        ESTABLISHED if !is_tcp => InetState::Connected,
        other => match TcpState::of(other).filter(|_| is_tcp) {
            Some(state) => InetState::Connection(state),
            None => return wrong!("state {other} is none of such a socket"),
        },
    };
    let shutdown = record.shutdown.unwrap_or(0);
    if !(0..=3).contains(&shutdown) {
        return wrong!("shutdown {shutdown} is not known");
    }
    let mut shutdown = shutdown as u8;
    if let InetState::Connection(state) = state {
        // What its state says is no wish of the program.
        shutdown &= u8::from(!state.has_received_end());
    }
    let mut local = address(&record.src_addr, record.src_port, is_v6)?;
    if is_tcp && state == InetState::Closed && record.dst_port != 0 {
        // The peer tells of a connection that is over what it was connected to, and that it is shut for reading.
        shutdown = 3;
    }
    let interface = record.ifname.clone().unwrap_or_default();
    check_interface(&interface)?;
    let ext = record.ext.clone().unwrap_or_default();
    if let Some(name) = &ext.past_name {
        local = name_from_record(name, is_v6)?;
    }
    let groups = ext.group.iter().map(group_from_record);
    let datagrams = ext
        .datagram
        .iter()
        .map(|record| datagrams::from_record(record, protocol));
    Ok(Ok(InetSocket {
        ino: record.ino,
        is_v6,
        kind,
        protocol,
        state,
        local,
        remote: address(&record.dst_addr, record.dst_port, is_v6)?,
        interface,
        shutdown,
        options: sockopt::from_record(&record.opts)?,
        values: values_from_record(record, is_v6, &ext)?,
        groups: groups.collect::<Checked<_>>()?,
        stream: rest_of_connection(&ext, state, is_tcp)?,
        datagrams: datagrams.collect::<Checked<_>>()?,
    }))
}

/// Returns what is left of a connection that is over.
fn rest_of_connection(ext: &pb::ExtInetSk, state: InetState, is_tcp: bool) -> Checked<TcpStream> {
    let received = ext.received.clone().unwrap_or_default();
    if !(received.is_empty() || is_tcp && state == InetState::Closed) {
        return wrong!("bytes are left in a socket that is no connection which is over");
    }
    Ok(TcpStream {
        received,
        is_reset: ext.is_reset.unwrap_or(false),
        ..TcpStream::default()
    })
}

fn check_interface(name: &[u8]) -> Checked<()> {
    match name.len() >= MAX_INTERFACE || name.contains(&0) {
        true => wrong!("a name of {} bytes is none of an interface", name.len()),
        false => Ok(()),
    }
}

fn address(words: &[u32], port: u32, is_v6: bool) -> Checked<SocketAddr> {
    let Ok(port) = u16::try_from(port) else {
        return wrong!("{port} is no port");
    };
    if words.is_empty() {
        let nowhere = if is_v6 { NOWHERE_V6 } else { NOWHERE };
        return Ok(SocketAddr::new(nowhere.ip(), port));
    }
    let octets: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let ip = ip_from(&octets)?;
    match ip.is_ipv6() == is_v6 {
        true => Ok(SocketAddr::new(ip, port)),
        false => wrong!("{ip} is no address of its family"),
    }
}

pub(super) fn name_from_record(name: &[u8], is_v6: bool) -> Checked<SocketAddr> {
    let (Some(port), Some(octets)) = (name.get(..2), name.get(2..)) else {
        return wrong!("{} bytes are no name", name.len());
    };
    let ip = ip_from(octets)?;
    match ip.is_ipv6() == is_v6 {
        true => Ok(SocketAddr::new(ip, u16::from_be_bytes([port[0], port[1]]))),
        false => wrong!("{ip} is no address of its family"),
    }
}

pub(super) fn ip_from(octets: &[u8]) -> Checked<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Ok(Ipv4Addr::from(octets).into());
    }
    match <[u8; 16]>::try_from(octets) {
        Ok(octets) => Ok(Ipv6Addr::from(octets).into()),
        Err(_) => wrong!("{} bytes are no address", octets.len()),
    }
}

fn group_from_record(record: &pb::ExtInetGroup) -> Checked<InetGroup> {
    check_interface(&record.interface)?;
    if record.source.len() > MAX_SOURCES {
        return wrong!("{} senders of a group are too many", record.source.len());
    }
    let sources = record.source.iter().map(|source| ip_from(source));
    let group = ip_from(&record.group)?;
    let sources: Vec<IpAddr> = sources.collect::<Checked<_>>()?;
    let is_other = |source: &IpAddr| source.is_ipv6() != group.is_ipv6();
    if !group.is_multicast() || sources.iter().any(is_other) {
        return wrong!("{group} is no group, or its senders are of another family");
    }
    Ok(InetGroup {
        interface: record.interface.clone(),
        group,
        is_include: record.include,
        sources,
    })
}

fn values_from_record(
    record: &pb::InetSkEntry,
    is_v6: bool,
    ext: &pb::ExtInetSk,
) -> Checked<Vec<InetOption>> {
    let mut values = Vec::new();
    let mut add = |level: i32, name: i32, value: Option<u32>| {
        if let Some(value) = value {
            values.push(InetOption {
                level,
                name,
                value: value.to_ne_bytes().to_vec(),
            });
        }
    };
    let flag = |value: Option<bool>| value.filter(|value| *value).map(u32::from);
    let ip = record.ip_opts.clone().unwrap_or_default();
    let raw = ip.raw.clone().unwrap_or_default();
    add(SOL_IPV6, libc::IPV6_V6ONLY, flag(record.v6only));
    match is_v6 {
        true => add(SOL_IPV6, 78, flag(ip.freebind)),
        false => add(SOL_IP, libc::IP_FREEBIND, flag(ip.freebind)),
    }
    add(SOL_IP, libc::IP_PKTINFO, flag(ip.pktinfo));
    add(SOL_IP, libc::IP_TOS, ip.tos);
    add(SOL_IP, libc::IP_TTL, ip.ttl);
    add(SOL_IP, libc::IP_HDRINCL, flag(raw.hdrincl));
    add(SOL_IP, libc::IP_NODEFRAG, flag(raw.nodefrag));
    add(SOL_IP, 23, flag(raw.checksum));
    let tcp = record.tcp_opts.unwrap_or_default();
    let so = &record.opts;
    add(SOL_TCP, libc::TCP_NODELAY, flag(tcp.nodelay));
    add(SOL_TCP, libc::TCP_CORK, flag(tcp.cork));
    add(SOL_TCP, libc::TCP_KEEPCNT, tcp.keepcnt.or(so.tcp_keepcnt));
    add(
        SOL_TCP,
        libc::TCP_KEEPIDLE,
        tcp.keepidle.or(so.tcp_keepidle),
    );
    add(
        SOL_TCP,
        libc::TCP_KEEPINTVL,
        tcp.keepintvl.or(so.tcp_keepintvl),
    );
    if !raw.icmpv_filter.is_empty() {
        let words = raw.icmpv_filter.iter();
        values.push(InetOption {
            level: if is_v6 { SOL_ICMPV6 } else { SOL_RAW },
            name: 1,
            value: words.flat_map(|word| word.to_ne_bytes()).collect(),
        });
    }
    for option in &ext.option {
        values.push(option_from_record(option)?);
    }
    let (kind, protocol) = (record.r#type as i32, record.proto as i32);
    // The peer keeps some for sockets that cannot have them.
    values.retain(|value| {
        options::find(value.level, value.name).is_some_and(|row| {
            row.is_for(is_v6, kind, protocol) && value.value.len() <= row.most_bytes()
        })
    });
    Ok(values)
}

fn option_from_record(record: &pb::ExtInetOption) -> Checked<InetOption> {
    let (level, name) = (record.level as i32, record.number as i32);
    let row = options::find(level, name).filter(|row| row.when != When::Never);
    let Some(row) = row else {
        return wrong!("option {name} of level {level} is not known");
    };
    let len = record.value.len();
    let fits = match row.holds {
        Holds::Number | Holds::Address => len == 4 || len == 1,
        Holds::Bytes(wanted) => len == wanted,
        Holds::Name => (1..row.most_bytes()).contains(&len) && !record.value.contains(&0),
        Holds::Interface | Holds::BackwardInterface => {
            check_interface(&record.value)?;
            true
        }
    };
    match fits {
        true => Ok(InetOption {
            level,
            name,
            value: record.value.clone(),
        }),
        false => wrong!("{len} bytes are no value of {}", row.words),
    }
}
