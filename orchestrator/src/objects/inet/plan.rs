//! From the fact to operations. Pure.
//!
//! Options of a protocol come before those of `SOL_SOCKET`: `IP_TOS` changes `SO_PRIORITY`. What decides about a name comes
//! before it: the device, `SO_REUSEPORT`, whether an address has to be there, whether IPv4 is meant too. A port of TCP is taken
//! with `SO_REUSEADDR`, whatever the socket has: connections at the same port may be made before or after it, and what is
//! left of those of before the dump does not matter. [`plan_reuse`] gives back what it had, when all are made.

use super::options::{self, Holds, When};
use super::{connection, groups};
use crate::objects::sockopt::plan::{self as sockopt, set_option};
use crate::plan::Builder;
use crate::snapshot::inet::is_somewhere;
use crate::snapshot::{InetOption, InetSocket, InetState};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Interfaces of the machine by name, and their indices.
pub type Interfaces = BTreeMap<Vec<u8>, u32>;

/// Returns the names of interfaces that it needs.
pub fn names(socket: &InetSocket) -> impl Iterator<Item = &Vec<u8>> {
    let values = socket.values.iter().filter(|value| {
        let row = options::find(value.level, value.name);
        row.is_some_and(|row| matches!(row.holds, Holds::Interface | Holds::BackwardInterface))
    });
    let of_values = values.map(|value| &value.value);
    let of_groups = socket.groups.iter().map(|group| &group.interface);
    [&socket.interface, &socket.options.device]
        .into_iter()
        .chain(of_values)
        .chain(of_groups)
}

/// Adds a socket with all that it has, and returns its number.
///
/// `has_twins`: others are made at its port, whatever they have of `SO_REUSEPORT` by now.
pub fn plan_create(
    b: &mut Builder,
    socket: &InetSocket,
    interfaces: &Interfaces,
    has_twins: bool,
) -> i32 {
    let family = if socket.is_v6 {
        libc::AF_INET6
    } else {
        libc::AF_INET
    };
    let args = [family as u64, socket.kind as u64, socket.protocol as u64];
    let fd = b.open(libc::SYS_socket, &args);
    plan_device(b, fd, &socket.options.device);
    sockopt::plan_buffers(b, fd, &socket.options);
    plan_values(b, fd, socket, interfaces, When::Early);
    if has_twins || has(socket, libc::SO_REUSEPORT) {
        set_number(b, fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1);
    }
    if has_twins || is_forced(socket) || is_reused(socket) {
        set_number(b, fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
    }
    let connection = socket.connection();
    let takes_any = is_forced(socket) && socket.state == InetState::Closed;
    if connection.is_some() || takes_any {
        connection::plan_repair(b, fd);
    }
    let scope = interfaces.get(&socket.interface).copied().unwrap_or(0);
    plan_name(b, fd, socket, scope);
    if socket.has_rest() {
        connection::plan_rest(b, fd, socket);
    }
    if takes_any {
        connection::plan_repaired(b, fd);
    }
    plan_values(b, fd, socket, interfaces, When::Late);
    plan_groups(b, fd, socket, interfaces);
    if socket.state == InetState::Connected {
        let (at, len) = put_address(b, &socket.remote, scope);
        b.call_returns(libc::SYS_connect, &[fd as u64, at, len], 0);
    }
    if let Some(state) = connection {
        connection::plan_connection(b, fd, socket, state, scope);
    }
    if let InetState::Listening(backlog) = socket.state {
        b.call_returns(libc::SYS_listen, &[fd as u64, u64::from(backlog)], 0);
    }
    sockopt::plan_options(b, fd, &socket.options);
    if is_forced(socket) && connection.is_none() {
        set_number(b, fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
    }
    if has_twins {
        set_number(b, fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1);
    }
    // What is over is shut by that.
    if socket.shutdown != 0 && !socket.has_rest() {
        // RCV_SHUTDOWN 1, SEND_SHUTDOWN 2 become SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2. One that is not connected is shut too, and
        // says that it is not.
        let args = [fd as u64, u64::from(socket.shutdown) - 1];
        b.call_or(libc::SYS_shutdown, &args, libc::ENOTCONN);
    }
    fd
}

/// Adds what is to be had of `SO_REUSEADDR` and `SO_REUSEPORT` once all names are taken.
pub fn plan_reuse(b: &mut Builder, fd: i32, socket: &InetSocket, has_twins: bool) {
    if has_twins && !has(socket, libc::SO_REUSEPORT) {
        set_number(b, fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 0);
    }
    let is_forced = has_twins || is_forced(socket);
    if is_forced && socket.connection().is_none() && !is_reused(socket) {
        set_number(b, fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 0);
    }
}

/// Returns whether two sockets are made at one port.
pub fn are_twins(one: &InetSocket, other: &InetSocket) -> bool {
    let of = |socket: &InetSocket| (socket.protocol, socket.local.port());
    let is_connection = one.connection().is_some() || other.connection().is_some();
    one.ino != other.ino && of(one) == of(other) && one.local.port() != 0 && !is_connection
}

/// Returns whether the socket takes its name whoever has the port.
pub fn is_forced(socket: &InetSocket) -> bool {
    socket.is_tcp() && socket.local.port() != 0
}

/// Returns whether the socket has `SO_REUSEADDR`.
pub fn is_reused(socket: &InetSocket) -> bool {
    has(socket, libc::SO_REUSEADDR)
}

fn has(socket: &InetSocket, option: i32) -> bool {
    let mut values = socket.options.values.iter();
    values.any(|(number, value)| *number == option && *value != 0)
}

fn plan_device(b: &mut Builder, fd: i32, device: &[u8]) {
    if !device.is_empty() {
        set_option(b, fd, (libc::SOL_SOCKET, libc::SO_BINDTODEVICE), device);
    }
}

/// A raw socket has its protocol for a port.
fn plan_name(b: &mut Builder, fd: i32, socket: &InetSocket, scope: u32) {
    let is_raw = socket.kind == libc::SOCK_RAW;
    let is_bound = match is_raw {
        true => !socket.local.ip().is_unspecified(),
        false => is_somewhere(&socket.local),
    };
    if is_bound {
        let port = if is_raw { 0 } else { socket.local.port() };
        let name = SocketAddr::new(socket.local.ip(), port);
        let (at, len) = put_address(b, &name, scope);
        b.call_returns(libc::SYS_bind, &[fd as u64, at, len], 0);
    }
}

fn plan_values(b: &mut Builder, fd: i32, socket: &InetSocket, interfaces: &Interfaces, when: When) {
    for value in &socket.values {
        let Some(row) = options::find(value.level, value.name) else {
            continue;
        };
        let is_connection = socket.was_connected();
        let is_early = row.when == When::Early;
        if is_early == (when == When::Early) && row.is_set(is_connection) {
            let bytes = bytes_of(value, row.holds, interfaces);
            set_option(b, fd, (value.level, value.name), &bytes);
        }
    }
}

/// Returns a value as the kernel takes it.
fn bytes_of(option: &InetOption, holds: Holds, interfaces: &Interfaces) -> Vec<u8> {
    let index = interfaces.get(&option.value).copied().unwrap_or(0);
    match holds {
        Holds::Interface => index.to_ne_bytes().to_vec(),
        Holds::BackwardInterface => index.to_be_bytes().to_vec(),
        Holds::Number | Holds::Address | Holds::Name | Holds::Bytes(_) => option.value.clone(),
    }
}

fn plan_groups(b: &mut Builder, fd: i32, socket: &InetSocket, interfaces: &Interfaces) {
    for membership in &socket.groups {
        let index = interfaces.get(&membership.interface).copied().unwrap_or(0);
        let level = groups::level_of(&membership.group);
        let request = groups::request(index, &membership.group);
        set_option(b, fd, (level, libc::MCAST_JOIN_GROUP), &request);
        if membership.is_include || !membership.sources.is_empty() {
            let filter = groups::filter_of(index, membership);
            set_option(b, fd, (level, libc::MCAST_MSFILTER), &filter);
        }
    }
}

/// Adds an option that is a number.
pub fn set_number(b: &mut Builder, fd: i32, level: i32, option: i32, value: i32) {
    set_option(b, fd, (level, option), &value.to_ne_bytes());
}

/// Puts an address into the data and returns where it is, and its length.
pub fn put_address(b: &mut Builder, address: &SocketAddr, scope: u32) -> (u64, u64) {
    let bytes = sockaddr(address, scope);
    (b.put(&bytes), bytes.len() as u64)
}

/// Returns a `struct sockaddr_in` or `sockaddr_in6`. An interface is told of link-local addresses only.
pub fn sockaddr(address: &SocketAddr, scope: u32) -> Vec<u8> {
    let family = |family: i32| (family as u16).to_ne_bytes();
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(v4) => {
            let mut bytes = [&family(libc::AF_INET)[..], &port, &v4.ip().octets()].concat();
            bytes.resize(16, 0);
            bytes
        }
        SocketAddr::V6(v6) => {
            let octets = v6.ip().octets();
            let is_link_local = v6.ip().is_unicast_link_local() || octets[..2] == [0xff, 2];
            let scope = if is_link_local { scope } else { 0 };
            let family = family(libc::AF_INET6);
            [&family[..], &port, &[0; 4], &octets, &scope.to_ne_bytes()].concat()
        }
    }
}
