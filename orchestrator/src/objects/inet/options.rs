//! The options of sockets of the network, in one table: those that can be read, and what becomes of each.
//!
//! An option is kept where it is not as in a new socket of the same kind: so nothing is said of those that a program has left
//! alone, and settings of the machine stay the machine's.

use Holds::{Address, BackwardInterface, Interface, Name, Number};
use When::{Early, Late, Never, Unbound};

/// Options of IPv4.
pub const SOL_IP: i32 = libc::IPPROTO_IP;
/// Those of IPv6.
pub const SOL_IPV6: i32 = libc::IPPROTO_IPV6;
/// Those of TCP.
pub const SOL_TCP: i32 = libc::IPPROTO_TCP;
/// Those of UDP.
pub const SOL_UDP: i32 = libc::IPPROTO_UDP;
/// Those of UDP-Lite.
pub const SOL_UDPLITE: i32 = libc::IPPROTO_UDPLITE;
/// Those of raw sockets of ICMPv6.
pub const SOL_ICMPV6: i32 = libc::IPPROTO_ICMPV6;
/// Those of raw sockets of IPv4 (`SOL_RAW`).
pub const SOL_RAW: i32 = 255;

/// One option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Level and number (`linux/in.h`, `in6.h`, `tcp.h`, `udp.h`).
    pub level: i32,
    /// Number.
    pub name: i32,
    /// What it is called.
    pub words: &'static str,
    /// What its value is.
    pub holds: Holds,
    /// When it is set.
    pub when: When,
}

/// What the value of an option is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// A number of four bytes.
    Number,
    /// The index of an interface; 0 = none. Kept by its name.
    Interface,
    /// As before, most significant byte first.
    BackwardInterface,
    /// An address of IPv4.
    Address,
    /// Words of at most 16 bytes.
    Name,
    /// So many bytes.
    Bytes(usize),
}

/// When an option is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the socket has a name, which depends on it.
    Early,
    /// Later.
    Late,
    /// Later; of a connection, it tells something that the program has not set.
    Unbound,
    /// A socket that has it is refused.
    Never,
}

const fn row(level: i32, name: i32, words: &'static str, holds: Holds, when: When) -> Row {
    Row {
        level,
        name,
        words,
        holds,
        when,
    }
}

/// All of them.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    row(SOL_IP, libc::IP_TOS, "IP_TOS", Number, Late),
    row(SOL_IP, libc::IP_TTL, "IP_TTL", Number, Late),
    row(SOL_IP, libc::IP_HDRINCL, "IP_HDRINCL", Number, Late),
    row(SOL_IP, libc::IP_RECVOPTS, "IP_RECVOPTS", Number, Late),
    row(SOL_IP, libc::IP_RETOPTS, "IP_RETOPTS", Number, Late),
    row(SOL_IP, libc::IP_PKTINFO, "IP_PKTINFO", Number, Late),
    row(SOL_IP, libc::IP_MTU_DISCOVER, "IP_MTU_DISCOVER", Number, Late),
    row(SOL_IP, libc::IP_RECVERR, "IP_RECVERR", Number, Late),
    row(SOL_IP, libc::IP_RECVTTL, "IP_RECVTTL", Number, Late),
    row(SOL_IP, libc::IP_RECVTOS, "IP_RECVTOS", Number, Late),
    row(SOL_IP, libc::IP_FREEBIND, "IP_FREEBIND", Number, Early),
    row(SOL_IP, libc::IP_PASSSEC, "IP_PASSSEC", Number, Late),
    row(SOL_IP, libc::IP_TRANSPARENT, "IP_TRANSPARENT", Number, Early),
    row(SOL_IP, libc::IP_RECVORIGDSTADDR, "IP_RECVORIGDSTADDR", Number, Late),
    row(SOL_IP, libc::IP_MINTTL, "IP_MINTTL", Number, Late),
    row(SOL_IP, libc::IP_NODEFRAG, "IP_NODEFRAG", Number, Late),
    row(SOL_IP, 23, "IP_CHECKSUM", Number, Late),
    row(SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, "IP_BIND_ADDRESS_NO_PORT", Number, Early),
    row(SOL_IP, 25, "IP_RECVFRAGSIZE", Number, Late),
    row(SOL_IP, 26, "IP_RECVERR_RFC4884", Number, Late),
    row(SOL_IP, libc::IP_MULTICAST_IF, "IP_MULTICAST_IF", Address, Late),
    row(SOL_IP, libc::IP_MULTICAST_TTL, "IP_MULTICAST_TTL", Number, Late),
    row(SOL_IP, libc::IP_MULTICAST_LOOP, "IP_MULTICAST_LOOP", Number, Late),
    row(SOL_IP, libc::IP_MULTICAST_ALL, "IP_MULTICAST_ALL", Number, Late),
    row(SOL_IP, 50, "IP_UNICAST_IF", BackwardInterface, Late),
    row(SOL_IP, 51, "IP_LOCAL_PORT_RANGE", Number, Late),
    row(SOL_IPV6, libc::IPV6_V6ONLY, "IPV6_V6ONLY", Number, Early),
    row(SOL_IPV6, libc::IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS", Number, Late),
    row(SOL_IPV6, libc::IPV6_MULTICAST_IF, "IPV6_MULTICAST_IF", Interface, Late),
    row(SOL_IPV6, libc::IPV6_MULTICAST_HOPS, "IPV6_MULTICAST_HOPS", Number, Late),
    row(SOL_IPV6, libc::IPV6_MULTICAST_LOOP, "IPV6_MULTICAST_LOOP", Number, Late),
    row(SOL_IPV6, 29, "IPV6_MULTICAST_ALL", Number, Late),
    row(SOL_IPV6, libc::IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER", Number, Late),
    row(SOL_IPV6, libc::IPV6_RECVERR, "IPV6_RECVERR", Number, Late),
    row(SOL_IPV6, 31, "IPV6_RECVERR_RFC4884", Number, Late),
    row(SOL_IPV6, 33, "IPV6_FLOWINFO_SEND", Number, Late),
    row(SOL_IPV6, 36, "IPV6_HDRINCL", Number, Late),
    row(SOL_IPV6, libc::IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO", Number, Late),
    row(SOL_IPV6, libc::IPV6_RECVHOPLIMIT, "IPV6_RECVHOPLIMIT", Number, Late),
    row(SOL_IPV6, libc::IPV6_RECVHOPOPTS, "IPV6_RECVHOPOPTS", Number, Late),
    row(SOL_IPV6, libc::IPV6_RECVRTHDR, "IPV6_RECVRTHDR", Number, Late),
    row(SOL_IPV6, libc::IPV6_RECVDSTOPTS, "IPV6_RECVDSTOPTS", Number, Late),
    row(SOL_IPV6, libc::IPV6_RECVPATHMTU, "IPV6_RECVPATHMTU", Number, Late),
    row(SOL_IPV6, libc::IPV6_DONTFRAG, "IPV6_DONTFRAG", Number, Late),
    row(SOL_IPV6, libc::IPV6_RECVTCLASS, "IPV6_RECVTCLASS", Number, Late),
    row(SOL_IPV6, libc::IPV6_TCLASS, "IPV6_TCLASS", Number, Late),
    row(SOL_IPV6, 70, "IPV6_AUTOFLOWLABEL", Number, Late),
    row(SOL_IPV6, 72, "IPV6_ADDR_PREFERENCES", Number, Late),
    row(SOL_IPV6, 73, "IPV6_MINHOPCOUNT", Number, Late),
    row(SOL_IPV6, 74, "IPV6_RECVORIGDSTADDR", Number, Late),
    row(SOL_IPV6, 75, "IPV6_TRANSPARENT", Number, Early),
    row(SOL_IPV6, 76, "IPV6_UNICAST_IF", BackwardInterface, Late),
    row(SOL_IPV6, 77, "IPV6_RECVFRAGSIZE", Number, Late),
    row(SOL_IPV6, 78, "IPV6_FREEBIND", Number, Early),
    row(SOL_TCP, libc::TCP_NODELAY, "TCP_NODELAY", Number, Late),
    row(SOL_TCP, libc::TCP_MAXSEG, "TCP_MAXSEG", Number, Unbound),
    row(SOL_TCP, libc::TCP_CORK, "TCP_CORK", Number, Late),
    row(SOL_TCP, libc::TCP_KEEPIDLE, "TCP_KEEPIDLE", Number, Late),
    row(SOL_TCP, libc::TCP_KEEPINTVL, "TCP_KEEPINTVL", Number, Late),
    row(SOL_TCP, libc::TCP_KEEPCNT, "TCP_KEEPCNT", Number, Late),
    row(SOL_TCP, libc::TCP_SYNCNT, "TCP_SYNCNT", Number, Late),
    row(SOL_TCP, libc::TCP_LINGER2, "TCP_LINGER2", Number, Late),
    row(SOL_TCP, libc::TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT", Number, Late),
    row(SOL_TCP, libc::TCP_WINDOW_CLAMP, "TCP_WINDOW_CLAMP", Number, Unbound),
    row(SOL_TCP, libc::TCP_CONGESTION, "TCP_CONGESTION", Name, Late),
    row(SOL_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS, "TCP_THIN_LINEAR_TIMEOUTS", Number, Late),
    row(SOL_TCP, libc::TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT", Number, Late),
    row(SOL_TCP, libc::TCP_FASTOPEN, "TCP_FASTOPEN", Number, Unbound),
    row(SOL_TCP, 25, "TCP_NOTSENT_LOWAT", Number, Late),
    row(SOL_TCP, 27, "TCP_SAVE_SYN", Number, Unbound),
    row(SOL_TCP, 30, "TCP_FASTOPEN_CONNECT", Number, Unbound),
    row(SOL_TCP, 31, "TCP_ULP", Name, Never),
    row(SOL_TCP, 34, "TCP_FASTOPEN_NO_COOKIE", Number, Unbound),
    row(SOL_TCP, 36, "TCP_INQ", Number, Late),
    row(SOL_TCP, 37, "TCP_TX_DELAY", Number, Late),
    row(SOL_TCP, 44, "TCP_RTO_MAX_MS", Number, Late),
    row(SOL_UDP, 1, "UDP_CORK", Number, Never),
    row(SOL_UDP, 100, "UDP_ENCAP", Number, Never),
    row(SOL_UDP, 101, "UDP_NO_CHECK6_TX", Number, Late),
    row(SOL_UDP, 102, "UDP_NO_CHECK6_RX", Number, Late),
    row(SOL_UDP, 103, "UDP_SEGMENT", Number, Late),
    row(SOL_UDP, 104, "UDP_GRO", Number, Late),
    row(SOL_UDPLITE, 1, "UDP_CORK", Number, Never),
    row(SOL_UDPLITE, 10, "UDPLITE_SEND_CSCOV", Number, Late),
    row(SOL_UDPLITE, 11, "UDPLITE_RECV_CSCOV", Number, Late),
    row(SOL_RAW, 1, "ICMP_FILTER", Number, Late),
    row(SOL_ICMPV6, 1, "ICMP6_FILTER", Holds::Bytes(32), Late),
];

/// Returns the row of an option.
pub fn find(level: i32, name: i32) -> Option<&'static Row> {
    ROWS.iter()
        .find(|row| (row.level, row.name) == (level, name))
}

impl Row {
    /// Returns whether a socket may have it.
    pub fn is_for(&self, is_v6: bool, kind: i32, protocol: i32) -> bool {
        let is_raw = kind == libc::SOCK_RAW;
        // What an accepted one tells there is of its other end.
        if kind == libc::SOCK_STREAM && self.words.contains("MULTICAST") {
            return false;
        }
        match self.level {
            SOL_IP => !(is_v6 && is_raw),
            SOL_IPV6 => is_v6,
            SOL_TCP => protocol == libc::IPPROTO_TCP && !is_raw,
            SOL_UDP => protocol == libc::IPPROTO_UDP && !is_raw,
            SOL_UDPLITE => protocol == libc::IPPROTO_UDPLITE && !is_raw,
            SOL_RAW => is_raw && !is_v6 && protocol == libc::IPPROTO_ICMP,
            SOL_ICMPV6 => is_raw && is_v6 && protocol == libc::IPPROTO_ICMPV6,
            _ => false,
        }
    }

    /// Returns the most bytes that its value has.
    pub fn most_bytes(&self) -> usize {
        match self.holds {
            Number | Interface | BackwardInterface | Address => 4,
            Name => 16,
            Holds::Bytes(len) => len,
        }
    }

    /// Returns whether it is set of a socket in this state.
    pub fn is_set(&self, is_connection: bool) -> bool {
        match self.when {
            Early | Late => true,
            Unbound => !is_connection,
            Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a peer loses without a word.
    #[test]
    fn nothing_that_others_lose_is_missing() {
        let names = [
            "TCP_CONGESTION",
            "TCP_MAXSEG",
            "TCP_SYNCNT",
            "TCP_LINGER2",
            "TCP_DEFER_ACCEPT",
            "TCP_WINDOW_CLAMP",
            "TCP_USER_TIMEOUT",
            "TCP_FASTOPEN",
            "TCP_NOTSENT_LOWAT",
            "TCP_THIN_LINEAR_TIMEOUTS",
            "TCP_SAVE_SYN",
            "TCP_TX_DELAY",
            "IP_TRANSPARENT",
            "IP_MTU_DISCOVER",
            "IP_MINTTL",
            "IP_RECVTTL",
            "IP_RECVTOS",
            "IP_RECVERR",
            "IP_MULTICAST_TTL",
            "IP_MULTICAST_LOOP",
            "IP_MULTICAST_ALL",
            "IPV6_UNICAST_HOPS",
            "IPV6_MULTICAST_HOPS",
            "IPV6_TCLASS",
            "IPV6_MTU_DISCOVER",
            "IPV6_DONTFRAG",
            "UDP_SEGMENT",
            "UDP_GRO",
        ];
        for name in names {
            let mut rows = ROWS.iter();
            assert!(
                rows.any(|row| row.words == name && row.when != Never),
                "{name}"
            );
        }
    }

    #[test]
    fn each_is_there_once() {
        for (index, row) in ROWS.iter().enumerate() {
            let same = |other: &&Row| (other.level, other.name) == (row.level, row.name);
            assert!(
                ROWS[..index].iter().all(|other| !same(&other)),
                "{}",
                row.words
            );
        }
    }
}
