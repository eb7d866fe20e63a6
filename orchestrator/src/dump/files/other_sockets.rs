//! Sockets of netlink and of packets.

use super::FileTable;
use crate::netlink::raw_diag::{self, PacketTold};
use crate::objects::inet::collect::refuse_foreign;
use crate::objects::{netlink, packet};
use crate::snapshot::FileKind;
use crate::support::{Loss, Lost};
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};

/// What is asked once for all of them.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Which of netlink are connected; `None` = not asked yet, or the kernel does not tell.
    netlink: Option<Option<BTreeMap<u32, bool>>>,
    packet: Option<Result<BTreeMap<u32, PacketTold>, String>>,
}

impl FileTable {
    /// Returns a socket of netlink, or why it is not kept.
    pub(super) fn netlink_socket(&mut self, own: &OwnedFd, ino: u32) -> Result<FileKind, String> {
        refuse_foreign(own.as_fd()).map_err(|(reason, _)| reason)?;
        let asked = &mut self.sockets.others.netlink;
        let connected = asked.get_or_insert_with(|| raw_diag::read_netlink().ok());
        let collected = netlink::collect::collect(own, ino, connected.as_ref())?;
        if collected.has_error {
            self.lose(Lost::SocketError, format!("in netlink socket {ino}"));
        }
        Ok(FileKind::Netlink(collected.fact))
    }

    /// Returns a socket of packets, or why it is not kept.
    pub(super) fn packet_socket(&mut self, own: &OwnedFd, ino: u32) -> Result<FileKind, String> {
        refuse_foreign(own.as_fd()).map_err(|(reason, _)| reason)?;
        let asked = &mut self.sockets.others.packet;
        let told = asked.get_or_insert_with(|| {
            let read = raw_diag::read_packet();
            read.map_err(|error| format!("the kernel does not tell of sockets of packets: {error}"))
        });
        let told = told.as_ref().map_err(String::clone)?;
        let told = told.get(&ino).ok_or("the kernel does not tell of it")?;
        let collected = packet::collect::collect(own, ino, told)?;
        if collected.has_packets {
            self.lose(Lost::Datagrams, format!("in packet socket {ino}"));
        }
        if collected.has_error {
            self.lose(Lost::SocketError, format!("in packet socket {ino}"));
        }
        Ok(FileKind::Packet(collected.fact))
    }

    fn lose(&mut self, what: Lost, detail: String) {
        self.losses.push(Loss::with(what, detail));
    }
}
