//! From the fact to operations. Pure.
//!
//! It is made without a protocol, so that nothing comes before all of it is there; it is bound last but for the fanout, which
//! takes sockets that run.

use super::{ADD_MEMBERSHIP, FANOUT, MAX_ADDRESS, RINGS, SOL_PACKET, VERSION, VERSION_3, WORDS};
use crate::objects::inet::plan::Interfaces;
use crate::objects::sockopt::plan as sockopt;
use crate::plan::Builder;
use crate::snapshot::{PacketMember, PacketSocket};

/// Returns the names of interfaces that it needs.
pub fn names(socket: &PacketSocket) -> impl Iterator<Item = &Vec<u8>> {
    let of_members = socket.members.iter().map(|member| &member.interface);
    [&socket.interface, &socket.options.device]
        .into_iter()
        .chain(of_members)
}

/// Adds a socket with all that it has, and returns its number.
pub fn plan_create(b: &mut Builder, socket: &PacketSocket, interfaces: &Interfaces) -> i32 {
    let fd = b.open(
        libc::SYS_socket,
        &[libc::AF_PACKET as u64, socket.kind as u64, 0],
    );
    sockopt::plan_buffers(b, fd, &socket.options);
    for value in &socket.values {
        sockopt::set_option(b, fd, (SOL_PACKET, value.name), &value.value);
    }
    let index = |name: &Vec<u8>| interfaces.get(name).copied().unwrap_or(0);
    for member in &socket.members {
        sockopt::set_option(
            b,
            fd,
            (SOL_PACKET, ADD_MEMBERSHIP),
            &request(member, index(&member.interface)),
        );
    }
    let is_third = |value: &[u8]| value == VERSION_3.to_ne_bytes();
    let mut values = socket.values.iter();
    let is_third = values.any(|value| value.name == VERSION && is_third(&value.value));
    for (option, ring) in RINGS.into_iter().zip(socket.rings) {
        if let Some(ring) = ring {
            let words = if is_third { &ring[..] } else { &ring[..WORDS] };
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            sockopt::set_option(b, fd, (SOL_PACKET, option), &bytes);
        }
    }
    sockopt::plan_options(b, fd, &socket.options);
    if socket.protocol != 0 || !socket.interface.is_empty() {
        plan_bind(b, fd, socket.protocol, index(&socket.interface));
    }
    if let Some(fanout) = socket.fanout {
        sockopt::set_option(b, fd, (SOL_PACKET, FANOUT), &fanout.to_ne_bytes());
    }
    fd
}

/// A `struct sockaddr_ll`.
fn plan_bind(b: &mut Builder, fd: i32, protocol: u16, index: u32) {
    let family = (libc::AF_PACKET as u16).to_ne_bytes();
    let mut name = [&family[..], &protocol.to_ne_bytes(), &index.to_ne_bytes()].concat();
    name.resize(20, 0);
    let at = b.put(&name);
    b.call_returns(libc::SYS_bind, &[fd as u64, at, name.len() as u64], 0);
}

/// A `struct packet_mreq` with room for the longest address.
fn request(member: &PacketMember, index: u32) -> Vec<u8> {
    let len = member.address.len() as u16;
    let head = [
        &index.to_ne_bytes()[..],
        &member.kind.to_ne_bytes(),
        &len.to_ne_bytes(),
    ];
    let mut bytes = [&head.concat()[..], &member.address].concat();
    bytes.resize(8 + MAX_ADDRESS, 0);
    bytes
}
