//! Sockets of the network: what they are bound to and connected to, their options, and the state of TCP connections.

use super::file::SocketOptions;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How the network is kept away from connections of TCP until they are restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkLock {
    /// By nftables.
    #[default]
    Nftables,
    /// By iptables.
    Iptables,
    /// By somebody else.
    Skip,
}

/// A socket of IPv4 or IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InetSocket {
    /// Its inode.
    pub ino: u32,
    /// Whether it is of IPv6.
    pub is_v6: bool,
    /// `SOCK_STREAM`, `SOCK_DGRAM` or `SOCK_RAW`.
    pub kind: i32,
    /// `IPPROTO_*`.
    pub protocol: i32,
    /// What can be done with it.
    pub state: InetState,
    /// What it is bound to; nothing where address and port are zero.
    pub local: SocketAddr,
    /// What it is connected to; nothing where address and port are zero.
    pub remote: SocketAddr,
    /// Name of the interface that a link-local address counts for.
    pub interface: Vec<u8>,
    /// Shut for receiving: bit 0, for sending: bit 1.
    pub shutdown: u8,
    /// Its options of `SOL_SOCKET`.
    pub options: SocketOptions,
    /// Its other options, where they are not as in a new socket.
    pub values: Vec<InetOption>,
    /// Groups that it is a member of.
    pub groups: Vec<InetGroup>,
    /// Of a connection of TCP, what it is in the middle of.
    pub stream: TcpStream,
    /// Datagrams that wait in it.
    pub datagrams: Vec<Datagram>,
}

/// A datagram that waits in a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub from: SocketAddr,
    /// What address it was sent to.
    pub to: IpAddr,
    /// How many hops it had left (`IP_RECVTTL`).
    pub hops: u8,
    /// Its class (`IP_RECVTOS`).
    pub class: u8,
    /// What it says.
    pub data: Vec<u8>,
}

/// What can be done with a socket of the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InetState {
    /// It is not connected.
    #[default]
    Closed,
    /// It waits for connections, of which so many may wait.
    Listening(u32),
    /// It is connected, and keeps no state of that: all but TCP.
    Connected,
    /// It is a connection of TCP, in this state.
    Connection(TcpState),
}

/// States of a connection of TCP (`net/tcp_states.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpState {
    /// Both directions are open.
    Established = 1,
    /// It has asked for a connection.
    SynSent = 2,
    /// It is shut for sending, and the other end does not know yet.
    FinWait1 = 4,
    /// It is shut for sending.
    FinWait2 = 5,
    /// The other end is shut for sending.
    CloseWait = 8,
    /// The other end was shut, then this one, and the other end does not know yet.
    LastAck = 9,
    /// This end was shut, then the other one, which does not know yet.
    Closing = 11,
}

impl TcpState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Established,
        Self::SynSent,
        Self::FinWait1,
        Self::FinWait2,
        Self::CloseWait,
        Self::LastAck,
        Self::Closing,
    ];

    /// Returns the state with this number.
    pub fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u32 == number)
    }

    /// Returns whether this end is shut for sending: the end of what it sends has a number too.
    pub fn has_sent_end(self) -> bool {
        matches!(
            self,
            Self::FinWait1 | Self::FinWait2 | Self::LastAck | Self::Closing
        )
    }

    /// Returns whether the other end is.
    pub fn has_received_end(self) -> bool {
        matches!(self, Self::CloseWait | Self::LastAck | Self::Closing)
    }
}

/// What a connection of TCP is in the middle of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpStream {
    /// Number of the next byte that it awaits, an end that has come counted.
    pub receive_next: u32,
    /// Bytes that nobody has read; a connection that is over may have such too.
    pub received: Vec<u8>,
    /// It is over, and an error tells of it that nobody has heard of.
    pub is_reset: bool,
    /// Number of the next byte that the program writes, its end counted.
    pub send_next: u32,
    /// Bytes that the other end has not confirmed.
    pub sent: Vec<u8>,
    /// How many of these, the last ones, were not sent.
    pub unsent: u32,
    /// `TCPI_OPT_*`: 1 timestamps, 2 selective acknowledgements, 4 scaled windows.
    pub options: u8,
    /// By how many bits windows are scaled that the other end tells.
    pub send_scale: u8,
    /// And those that this one tells.
    pub receive_scale: u8,
    /// Most bytes of a segment.
    pub mss: u32,
    /// What its clock for timestamps shows.
    pub timestamp: Option<u32>,
    /// `struct tcp_repair_window`: snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup.
    pub window: Option<[u32; 5]>,
}

impl TcpStream {
    /// Returns the number of the byte after those that have come.
    pub fn receive_end(&self, state: TcpState) -> u32 {
        let end = u32::from(state.has_received_end());
        self.receive_next.wrapping_sub(end)
    }

    /// Returns the number of the byte after those that were written.
    pub fn send_end(&self, state: TcpState) -> u32 {
        self.send_next.wrapping_sub(u32::from(state.has_sent_end()))
    }
}

/// An option of a protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct InetOption {
    /// `SOL_IP`, `SOL_IPV6`, `SOL_TCP`, `SOL_UDP` or another.
    pub level: i32,
    /// Its number.
    pub name: i32,
    /// Its value as `getsockopt` tells it.
    pub value: Vec<u8>,
}

/// A membership in a multicast group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InetGroup {
    /// Name of the interface.
    pub interface: Vec<u8>,
    /// The group.
    pub group: IpAddr,
    /// Only these senders are heard; else all but these.
    pub is_include: bool,
    /// Senders.
    pub sources: Vec<IpAddr>,
}

/// No address and no port.
pub const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// The same of IPv6.
pub const NOWHERE_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

impl InetSocket {
    /// Returns whether it is one of TCP. A raw socket may have the same protocol.
    pub fn is_tcp(&self) -> bool {
        self.kind == libc::SOCK_STREAM && self.protocol == libc::IPPROTO_TCP
    }

    /// Returns the state of its connection of TCP, if it is one.
    pub fn connection(&self) -> Option<TcpState> {
        match self.state {
            InetState::Connection(state) => Some(state),
            _ => None,
        }
    }

    /// Returns whether it is a connection of TCP, or was one until it was over.
    pub fn was_connected(&self) -> bool {
        let is_over = self.state == InetState::Closed && self.shutdown != 0;
        self.is_tcp() && is_over || self.connection().is_some()
    }

    /// Returns whether it is over, and bytes are left that nobody has read.
    pub fn has_rest(&self) -> bool {
        let is_left = !self.stream.received.is_empty() && self.local.port() != 0;
        self.state == InetState::Closed && is_left
    }

    /// Has it be closed, without a connection.
    pub fn close(&mut self) {
        let nowhere = if self.is_v6 { NOWHERE_V6 } else { NOWHERE };
        self.state = InetState::Closed;
        self.shutdown = 3;
        (self.local, self.remote) = (nowhere, nowhere);
        self.stream = TcpStream::default();
    }

    /// Returns whether the other is the other end of its connection.
    pub fn is_peer_of(&self, other: &Self) -> bool {
        let names = |one: &Self| [one.local, one.remote].map(canonical);
        let [local, remote] = names(other);
        self.connection().is_some() && names(self) == [remote, local]
    }

    /// Returns whether it has a name.
    pub fn is_bound(&self) -> bool {
        is_somewhere(&self.local)
    }

    /// Returns the words for it.
    pub fn words(&self) -> String {
        let protocol = match self.protocol {
            protocol if self.kind == libc::SOCK_RAW => format!("raw IP protocol {protocol}"),
            libc::IPPROTO_TCP => "TCP".into(),
            libc::IPPROTO_UDP => "UDP".into(),
            libc::IPPROTO_UDPLITE => "UDP-Lite".into(),
            libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => "ICMP".into(),
            other => format!("IP protocol {other}"),
        };
        let mut words = format!("{protocol} socket {}", self.ino);
        if self.is_bound() {
            words += &format!(" at {}", self.local);
        }
        if is_somewhere(&self.remote) {
            words += &format!(" to {}", self.remote);
        }
        words
    }
}

/// Returns an address as it is on the wire: IPv4 is IPv4, whatever the socket.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Returns whether there is anything in an address.
pub fn is_somewhere(address: &SocketAddr) -> bool {
    address.port() != 0 || !address.ip().is_unspecified()
}
