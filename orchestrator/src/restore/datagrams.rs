//! Datagrams that waited in sockets come back as packets, from whoever sent them to the address that they were sent to, once
//! every socket has its name. A raw socket sends them; to an address of this machine they go by the loopback device, where
//! nobody asks whether such a sender could be there.
//!
//! Each is awaited in its socket before the next is sent: so they keep their order, and what is dropped on the way (by a rule of
//! the network) is known.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::connections::{holder, send_packet, take};
use crate::objects::inet::plan::sockaddr;
use crate::objects::inet::segment;
use crate::objects::sockopt::SO_BUF_LOCK;
use crate::snapshot::inet::canonical;
use crate::snapshot::{Datagram, FileKind, InetSocket, InetState, Snapshot};
use crate::sys::{self, socket};

/// `SO_MEMINFO` (4.12): its first word is the memory of what waits.
const SO_MEMINFO: i32 = 55;
/// How often a datagram is looked for, and how long it has between.
const LOOKS: u32 = 200;
const WAIT: Duration = Duration::from_millis(1);
/// An address without a family: whoever is connected to it is connected to nobody.
const NOBODY: [u8; 16] = [0; 16];
/// Room for what waits: the kernel counts more than its bytes.
const ROOM: u32 = 32 << 20;

/// Brings them back to sockets of a tree whose threads are all parked, and returns what was lost, in words.
pub(super) fn finish(snapshot: &Snapshot) -> Vec<String> {
    let mut lost = Vec::new();
    for file in &snapshot.files {
        let FileKind::Inet(one) = &file.kind else {
            continue;
        };
        if one.datagrams.is_empty() {
            continue;
        }
        let held = holder(snapshot, file.id);
        let back = match held.map(take) {
            Some(Ok(own)) => bring_back(&own, one).map_err(|error| error.to_string()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("no process has it".into()),
        };
        let reason = match back {
            Ok(count) if count == one.datagrams.len() => continue,
            Ok(count) => format!(
                "{} of {} did not come",
                one.datagrams.len() - count,
                one.datagrams.len()
            ),
            Err(reason) => reason,
        };
        lost.push(format!(
            "datagrams that waited in {}: {reason}",
            one.words()
        ));
    }
    lost
}

/// Returns how many have come.
fn bring_back(own: &OwnedFd, one: &InetSocket) -> sys::Result<usize> {
    let is_stranger = |datagram: &Datagram| datagram.from != canonical(one.remote);
    // It hears its other end only, and had heard others before.
    let is_parted = one.state == InetState::Connected && one.datagrams.iter().any(is_stranger);
    if is_parted {
        socket::connect(own, &NOBODY)?;
    }
    let half = one.options.receive_buffer / 2;
    socket::set_option(own, libc::SO_RCVBUFFORCE, half.max(ROOM) as i32)?;
    let mut count = 0;
    for datagram in &one.datagrams {
        if !has_come(own, one, datagram)? {
            break;
        }
        count += 1;
    }
    socket::set_option(own, libc::SO_RCVBUFFORCE, half as i32)?;
    socket::set_option(own, SO_BUF_LOCK, one.options.locked_buffers as i32)?;
    if is_parted {
        let scope = socket::interface_index(&one.interface).unwrap_or(0);
        socket::connect(own, &sockaddr(&one.remote, scope))?;
    }
    Ok(count)
}

/// Sends one, and returns whether it is there.
fn has_come(own: &OwnedFd, one: &InetSocket, datagram: &Datagram) -> sys::Result<bool> {
    let Some(to) = destination(one, datagram) else {
        return Ok(false);
    };
    let sent = Datagram {
        to,
        ..datagram.clone()
    };
    let packet = segment::datagram(one.protocol, &sent, one.local.port());
    let before = waiting(own)?;
    send_packet(&packet, to, 0)?;
    for _ in 0..LOOKS {
        if waiting(own)? > before {
            return Ok(true);
        }
        std::thread::sleep(WAIT);
    }
    Ok(false)
}

/// Returns an address of this machine at which the socket hears it: nothing is to leave the machine.
fn destination(one: &InetSocket, datagram: &Datagram) -> Option<IpAddr> {
    let loopback = match datagram.to {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
    };
    let bound = canonical(one.local).ip();
    let mut all = [datagram.to, loopback].into_iter();
    all.find(|to| (bound.is_unspecified() || bound == *to) && is_here(*to))
}

fn is_here(ip: IpAddr) -> bool {
    std::net::UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}

/// Returns the memory of what waits.
fn waiting(own: &OwnedFd) -> sys::Result<u32> {
    let mut words = [0; 36];
    socket::option_of(own, libc::SOL_SOCKET, SO_MEMINFO, &mut words)?;
    Ok(u32::from_ne_bytes([words[0], words[1], words[2], words[3]]))
}
