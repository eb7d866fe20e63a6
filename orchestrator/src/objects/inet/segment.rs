//! A segment of TCP as the other end of a connection would send it: the end of what it sends. Pure.

use std::net::{IpAddr, SocketAddr};

/// Flags of a segment.
const FIN: u8 = 1;
const ACK: u8 = 16;
/// Bytes of the headers, and how far a packet goes.
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: usize = 20;
const HOPS: u8 = 64;

/// Returns a packet from one end to the other that says that nothing more comes: number `sequence`, after all up to
/// `confirmed`.
pub fn end(
    from: SocketAddr,
    to: SocketAddr,
    sequence: u32,
    confirmed: u32,
    window: u16,
) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(TCP);
    tcp.extend(from.port().to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend(sequence.to_be_bytes());
    tcp.extend(confirmed.to_be_bytes());
    tcp.extend([(TCP as u8 / 4) << 4, FIN | ACK]);
    tcp.extend(window.to_be_bytes());
    tcp.extend([0; 4]);
    let protocol = libc::IPPROTO_TCP as u8;
    let len = TCP as u16;
    match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            put_checksum(&mut tcp, &addresses);
            let mut packet = vec![0x45, 0];
            packet.extend((IPV4 as u16 + len).to_be_bytes());
            packet.extend([0, 0, 0x40, 0, HOPS, protocol, 0, 0]);
            packet.extend(addresses);
            let sum = !folded(&packet);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            [packet, tcp].concat()
        }
        (from, to) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            let addresses = [octets(from), octets(to)].concat();
            put_checksum(&mut tcp, &addresses);
            let mut packet = Vec::with_capacity(IPV6 + TCP);
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(len.to_be_bytes());
            packet.extend([protocol, HOPS]);
            packet.extend(addresses);
            [packet, tcp].concat()
        }
    }
}

/// Puts the checksum over addresses, length, protocol and segment.
fn put_checksum(tcp: &mut [u8], addresses: &[u8]) {
    let pseudo = [0, libc::IPPROTO_TCP as u8, 0, tcp.len() as u8];
    let sum = !folded(&[addresses, &pseudo, tcp].concat());
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
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
        let packet = end(address("127.0.0.1:80"), address("10.1.2.3:4000"), 7, 9, 512);
        assert_eq!(packet.len(), IPV4 + TCP);
        assert_eq!(folded(&packet[..IPV4]), 0xffff);
        let pseudo = [&packet[12..20], &[0, 6, 0, 20], &packet[IPV4..]].concat();
        assert_eq!(folded(&pseudo), 0xffff);
        let packet = end(address("[::1]:80"), address("[::1]:81"), 7, 9, 512);
        let pseudo = [&packet[8..40], &[0, 6, 0, 20], &packet[IPV6..]].concat();
        assert_eq!(folded(&pseudo), 0xffff);
    }
}
