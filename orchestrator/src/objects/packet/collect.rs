//! From the kernel to the fact: of a copy of the descriptor, and by netlink what that does not tell.

use super::{COPY_THRESH, OPTIONS, SOL_PACKET};
use crate::netlink::raw_diag::PacketTold;
use crate::objects::sockopt::collect as sockopt;
use crate::snapshot::{InetOption, PacketMember, PacketSocket};
use crate::sys::poll::poll_now;
use crate::sys::{self, socket};
use std::os::fd::{AsFd, BorrowedFd};

/// Kinds of fanout by a program (`PACKET_FANOUT_CBPF`, `EBPF`), which cannot be read.
const PROGRAMS: [u32; 2] = [6, 7];

/// A socket, and what of it is lost.
#[derive(Debug)]
pub struct Collected {
    /// The socket.
    pub fact: PacketSocket,
    /// Packets wait in it.
    pub has_packets: bool,
    /// An error waits in it.
    pub has_error: bool,
}

/// Collects a socket of which the kernel has told this.
///
/// # Errors
/// Why it is not kept.
pub fn collect(own: impl AsFd, ino: u32, told: &PacketTold) -> Result<Collected, String> {
    let own = own.as_fd();
    let kind = socket::option(own, libc::SO_TYPE).map_err(lost)?;
    if ![libc::SOCK_RAW, libc::SOCK_DGRAM].contains(&kind) {
        return Err("a socket of packets of type SOCK_PACKET is not kept".into());
    }
    let name = socket::name(own).map_err(lost)?;
    let (protocol, index) = match name.get(..6) {
        Some(name) => (
            u16::from_ne_bytes([name[0], name[1]]),
            u32::from_ne_bytes([name[2], name[3], name[4], name[5]]),
        ),
        None => (0, 0),
    };
    if told
        .fanout
        .is_some_and(|fanout| PROGRAMS.contains(&(fanout >> 16 & 0xff)))
    {
        return Err(
            "its packets are handed out by a program (PACKET_FANOUT_DATA), which cannot be read"
                .into(),
        );
    }
    let mut members = Vec::new();
    for (index, kind, address, count) in &told.members {
        let member = PacketMember {
            interface: interface(*index)?,
            kind: *kind,
            address: address.clone(),
        };
        members.extend(std::iter::repeat_n(member, *count as usize));
    }
    let events = poll_now(own, libc::POLLIN).map_err(lost)?;
    Ok(Collected {
        fact: PacketSocket {
            ino,
            kind,
            protocol,
            interface: interface(index)?,
            options: sockopt::collect(own)?,
            values: values(own, told.copy_threshold),
            members,
            rings: told.rings,
            fanout: told.fanout,
        },
        has_packets: events & libc::POLLIN != 0,
        has_error: events & libc::POLLERR != 0,
    })
}

fn lost(error: sys::Error) -> String {
    format!("it cannot be asked: {error}")
}

fn interface(index: u32) -> Result<Vec<u8>, String> {
    match index {
        0 => Ok(Vec::new()),
        index => {
            socket::interface_name(index).ok_or_else(|| format!("its interface {index} is gone"))
        }
    }
}

fn values(own: BorrowedFd<'_>, copy_threshold: u32) -> Vec<InetOption> {
    let read = OPTIONS.iter().filter_map(|&name| {
        let mut value = [0; 4];
        match name {
            COPY_THRESH => value = copy_threshold.to_ne_bytes(),
            _ => drop(socket::option_of(own, SOL_PACKET, name, &mut value).ok()?),
        }
        (value != [0; 4]).then(|| InetOption {
            level: SOL_PACKET,
            name,
            value: value.to_vec(),
        })
    });
    read.collect()
}
