//! Packets as the other end would send them: the end of a connection of TCP, its breaking off, and datagrams. Pure.

use crate::snapshot::Datagram;
use std::net::{IpAddr, SocketAddr};

/// What a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Nothing more comes.
    End,
    /// The connection is broken off.
    Reset,
}

/// Flags of a segment.
const FIN: u8 = 1;
const RST: u8 = 4;
const ACK: u8 = 16;
/// Bytes of the headers, and how far a packet goes.
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: usize = 20;
const UDP: usize = 8;
const HOPS: u8 = 64;
/// Where the checksum is.
const TCP_SUM_AT: usize = 16;
const UDP_SUM_AT: usize = 6;

/// Returns a packet from one end to the other: number `sequence`, after all up to `confirmed`.
pub fn segment(
    says: Says,
    (from, to): (SocketAddr, SocketAddr),
    (sequence, confirmed): (u32, u32),
    window: u16,
) -> Vec<u8> {
    let flags = match says {
        Says::End => FIN | ACK,
        Says::Reset => RST | ACK,
    };
    let mut tcp = Vec::with_capacity(TCP);
    tcp.extend(from.port().to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend(sequence.to_be_bytes());
    tcp.extend(confirmed.to_be_bytes());
    tcp.extend([(TCP as u8 / 4) << 4, flags]);
    tcp.extend(window.to_be_bytes());
    tcp.extend([0; 4]);
    let addresses = Addresses::of(from.ip(), to.ip());
    addresses.put_checksum(libc::IPPROTO_TCP as u8, &mut tcp, TCP_SUM_AT);
    addresses.packet(libc::IPPROTO_TCP as u8, (HOPS, 0), &tcp)
}

/// Returns the packet of a datagram of UDP or UDP-Lite to a port.
pub fn datagram(protocol: i32, datagram: &Datagram, port: u16) -> Vec<u8> {
    let protocol = protocol as u8;
    let len = UDP + datagram.data.len();
    let mut udp = Vec::with_capacity(len);
    udp.extend(datagram.from.port().to_be_bytes());
    udp.extend(port.to_be_bytes());
    // That of UDP-Lite is how much the checksum is of: 0 is all.
    let told = match i32::from(protocol) {
        libc::IPPROTO_UDPLITE => 0,
        _ => len as u16,
    };
    udp.extend(told.to_be_bytes());
    udp.extend([0; 2]);
    udp.extend(&datagram.data);
    let addresses = Addresses::of(datagram.from.ip(), datagram.to);
    addresses.put_checksum(protocol, &mut udp, UDP_SUM_AT);
    addresses.packet(protocol, (datagram.hops, datagram.class), &udp)
}

/// Both addresses of a packet, as they are on the wire.
struct Addresses(Vec<u8>);

impl Addresses {
    fn of(from: IpAddr, to: IpAddr) -> Self {
        match (from.to_canonical(), to.to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Self([from.octets(), to.octets()].concat()),
            (from, to) => {
                let octets = |ip: IpAddr| match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                    IpAddr::V6(ip) => ip.octets(),
                };
                Self([octets(from), octets(to)].concat())
            }
        }
    }

    /// Puts the checksum over addresses, length, protocol and what is sent. 0 would say that there is none.
    fn put_checksum(&self, protocol: u8, sent: &mut [u8], at: usize) {
        let len = (sent.len() as u32).to_be_bytes();
        let pseudo = [&self.0[..], &len, &[0, 0, 0, protocol]].concat();
        let sum = !folded(&[&pseudo[..], sent].concat());
        let sum = if sum == 0 { u16::MAX } else { sum };
        sent[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    fn packet(&self, protocol: u8, (hops, class): (u8, u8), sent: &[u8]) -> Vec<u8> {
        let is_v4 = self.0.len() == 8;
        let mut packet = Vec::with_capacity(IPV6 + sent.len());
        if is_v4 {
            packet.extend([0x45, class]);
            packet.extend(((IPV4 + sent.len()) as u16).to_be_bytes());
            packet.extend([0, 0, 0x40, 0, hops, protocol, 0, 0]);
            packet.extend(&self.0);
            let sum = !folded(&packet);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            packet.extend([0x60 | class >> 4, class << 4, 0, 0]);
            packet.extend((sent.len() as u16).to_be_bytes());
            packet.extend([protocol, hops]);
            packet.extend(&self.0);
        }
        packet.extend(sent);
        packet
    }
}

/// Returns the sum of 16-bit words in one's complement (RFC 1071).
fn folded(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_headers_are_whole() {
        let address = |text: &str| text.parse().expect("an address");
        let packet = segment(
            Says::End,
            (address("127.0.0.1:80"), address("10.1.2.3:4000")),
            (7, 9),
            512,
        );
        assert_eq!(packet.len(), IPV4 + TCP);
        assert_eq!(folded(&packet[..IPV4]), 0xffff);
        let pseudo = [&packet[12..20], &[0, 6, 0, 20], &packet[IPV4..]].concat();
        assert_eq!(folded(&pseudo), 0xffff);
        let packet = segment(
            Says::Reset,
            (address("[::1]:80"), address("[::1]:81")),
            (7, 9),
            512,
        );
        let pseudo = [&packet[8..40], &[0, 6, 0, 20], &packet[IPV6..]].concat();
        assert_eq!(folded(&pseudo), 0xffff);
    }

    #[test]
    fn sums_of_datagrams_are_whole() {
        for (protocol, from, to) in [
            (libc::IPPROTO_UDP, "8.8.8.8:53", "127.0.0.1"),
            (libc::IPPROTO_UDPLITE, "[2001:db8::1]:53", "::1"),
        ] {
            let one = Datagram {
                from: from.parse().expect("an address"),
                to: to.parse().expect("an address"),
                hops: 7,
                class: 0x12,
                data: b"odd".to_vec(),
            };
            let packet = datagram(protocol, &one, 99);
            let (header, addresses) = match one.to.is_ipv4() {
                true => (IPV4, 12..20),
                false => (IPV6, 8..40),
            };
            let pseudo = [
                &packet[addresses],
                &[0, protocol as u8, 0, 11],
                &packet[header..],
            ];
            assert_eq!(folded(&pseudo.concat()), 0xffff, "{from}");
        }
    }
}
