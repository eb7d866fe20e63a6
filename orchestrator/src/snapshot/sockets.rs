//! Sockets of netlink and of packets.

use super::file::SocketOptions;
use super::inet::InetOption;

/// A socket of netlink.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetlinkSocket {
    /// Its inode.
    pub ino: u32,
    /// `SOCK_RAW` or `SOCK_DGRAM`.
    pub kind: i32,
    /// `NETLINK_*`.
    pub protocol: i32,
    /// Its number; 0 = it is not bound.
    pub port: u32,
    /// Groups that it is a member of, by bits: that of group 1 is the lowest of the first word.
    pub groups: Vec<u32>,
    /// Number and group that it is connected to.
    pub peer: Option<(u32, u32)>,
    /// Its options of `SOL_SOCKET`.
    pub options: SocketOptions,
    /// Those of `SOL_NETLINK` that are not as in a new socket.
    pub values: Vec<InetOption>,
}

/// A socket of packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PacketSocket {
    /// Its inode.
    pub ino: u32,
    /// `SOCK_RAW` or `SOCK_DGRAM`.
    pub kind: i32,
    /// `ETH_P_*`, most significant byte first; 0 = it hears nothing.
    pub protocol: u16,
    /// Name of the interface that it is bound to.
    pub interface: Vec<u8>,
    /// Its options of `SOL_SOCKET`.
    pub options: SocketOptions,
    /// Those of `SOL_PACKET` that are not as in a new socket.
    pub values: Vec<InetOption>,
    /// What else it hears.
    pub members: Vec<PacketMember>,
    /// `PACKET_RX_RING`, `PACKET_TX_RING`: the words of `struct tpacket_req3`.
    pub rings: [Option<[u32; 7]>; 2],
    /// `PACKET_FANOUT`.
    pub fanout: Option<u32>,
}

/// A membership of a socket of packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PacketMember {
    /// Name of the interface.
    pub interface: Vec<u8>,
    /// `PACKET_MR_*`.
    pub kind: u16,
    /// The address.
    pub address: Vec<u8>,
}
