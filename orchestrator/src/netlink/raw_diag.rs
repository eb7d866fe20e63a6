//! Sockets of netlink and of packets, as `sock_diag(7)` tells of them: the crate for it has no messages of theirs (`linux/netlink_diag.h`,
//! `linux/packet_diag.h`).

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use std::collections::BTreeMap;
use std::io;

/// `SOCK_DIAG_BY_FAMILY`, flags of a request for all, and types of answers.
const BY_FAMILY: u16 = 20;
const REQUEST_ALL: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Bytes of a netlink header, and of the headers of both answers.
const HEADER: usize = 16;
const NETLINK_LEN: usize = 28;
/// `NETLINK_CONNECTED`. One that never was has 7 there, one that is not any more 0.
const CONNECTED: u8 = 1;
const PACKET_LEN: usize = 16;
/// All protocols of netlink (`NDIAG_PROTO_ALL`).
const ALL_PROTOCOLS: u8 = 255;
/// `PACKET_SHOW_INFO`, `MCLIST`, `RING_CFG`, `FANOUT`.
const SHOW: u32 = 0xf;
/// Bytes received at a time.
const BUFFER: usize = 64 << 10;
/// Most bytes of an address.
const MAX_ADDRESS: usize = 32;

/// A ring of frames: sizes, as `struct tpacket_req3` has them.
pub type Ring = [u32; 7];

/// What is told of a socket of packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PacketTold {
    /// `PACKET_COPY_THRESH`.
    pub copy_threshold: u32,
    /// Memberships: index of the interface, type, address, how often.
    pub members: Vec<(u32, u16, Vec<u8>, u32)>,
    /// `PACKET_RX_RING`, `PACKET_TX_RING`.
    pub rings: [Option<Ring>; 2],
    /// `PACKET_FANOUT`.
    pub fanout: Option<u32>,
}

/// Returns which sockets of netlink are connected, by inode.
///
/// # Errors
/// The kernel does not answer (`CONFIG_NETLINK_DIAG`).
pub fn read_netlink() -> io::Result<BTreeMap<u32, bool>> {
    let mut request = vec![libc::AF_NETLINK as u8, ALL_PROTOCOLS, 0, 0];
    request.resize(20, 0);
    let mut all = BTreeMap::new();
    for body in ask(&request)? {
        if let (Some(ino), Some(state)) = (word(&body, 16), body.get(3)) {
            all.insert(ino, *state == CONNECTED && body.len() >= NETLINK_LEN);
        }
    }
    Ok(all)
}

/// Reads the sockets of packets, by inode.
///
/// # Errors
/// The kernel does not answer (`CONFIG_PACKET_DIAG`).
pub fn read_packet() -> io::Result<BTreeMap<u32, PacketTold>> {
    let mut request = vec![libc::AF_PACKET as u8, 0, 0, 0, 0, 0, 0, 0];
    request.extend(SHOW.to_ne_bytes());
    request.resize(20, 0);
    let mut all = BTreeMap::new();
    for body in ask(&request)? {
        if let (Some(ino), Some(rest)) = (word(&body, 4), body.get(PACKET_LEN..)) {
            all.insert(ino, packet(rest));
        }
    }
    Ok(all)
}

fn packet(attributes: &[u8]) -> PacketTold {
    const INFO: u16 = 0;
    const MEMBERS: u16 = 1;
    const RECEIVE: u16 = 2;
    const SEND: u16 = 3;
    const FANOUT: u16 = 4;
    let mut told = PacketTold::default();
    for (kind, value) in parts(attributes) {
        match kind {
            INFO => told.copy_threshold = word(value, 12).unwrap_or(0),
            MEMBERS => told.members = value.chunks_exact(12 + MAX_ADDRESS).map(member).collect(),
            RECEIVE => told.rings[0] = ring(value),
            SEND => told.rings[1] = ring(value),
            FANOUT => told.fanout = word(value, 0),
            _ => {}
        }
    }
    told
}

fn member(bytes: &[u8]) -> (u32, u16, Vec<u8>, u32) {
    let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    let len = usize::from(half(10)).min(MAX_ADDRESS);
    let [index, count] = [0, 4].map(|at| word(bytes, at).unwrap_or(0));
    (index, half(8), bytes[12..12 + len].to_vec(), count)
}

fn ring(bytes: &[u8]) -> Option<Ring> {
    let mut ring = Ring::default();
    for (place, word_at) in ring.iter_mut().zip(0..) {
        *place = word(bytes, word_at * 4)?;
    }
    (ring[0] != 0).then_some(ring)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

/// Parts of a sequence of a length, a type and a value each.
fn parts(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut all = Vec::new();
    while let Some(header) = bytes.get(..4) {
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(value) = bytes.get(4..len) else {
            break;
        };
        all.push((u16::from_ne_bytes([header[2], header[3]]), value));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// Asks, and returns what follows the header of each answer.
fn ask(request: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = ((HEADER + request.len()) as u32).to_ne_bytes().to_vec();
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST_ALL.to_ne_bytes());
    message.extend([0; 8]);
    message.extend_from_slice(request);
    socket.send(&message, 0)?;
    let mut all = Vec::new();
    loop {
        let mut buffer = Vec::with_capacity(BUFFER);
        socket.recv(&mut buffer, 0)?;
        let mut left = &buffer[..];
        while let (Some(len), Some(header)) = (word(left, 0), left.get(..HEADER)) {
            let body = left.get(HEADER..len as usize).unwrap_or_default();
            match u16::from_ne_bytes([header[4], header[5]]) {
                DONE => return Ok(all),
                ERROR => {
                    let errno = word(body, 0).unwrap_or(0) as i32;
                    return Err(io::Error::from_raw_os_error(-errno));
                }
                _ => all.push(body.to_vec()),
            }
            let len = (len as usize).max(HEADER).next_multiple_of(4);
            left = left.get(len..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;
    use std::os::fd::AsFd;

    #[test]
    fn a_socket_of_netlink_is_told_of() {
        let one = socket::make(libc::AF_NETLINK, libc::SOCK_RAW, 0).expect("a socket");
        // To the kernel: that gives it a number, without which nobody tells of it.
        let kernel = [&(libc::AF_NETLINK as u16).to_ne_bytes()[..], &[0; 10]].concat();
        socket::connect(&one, &kernel).expect("connected");
        let ino = crate::sys::file::statx(one.as_fd()).expect("statx").ino as u32;
        match read_netlink() {
            Ok(told) => assert_eq!(told.get(&ino), Some(&true)),
            Err(error) => println!("skipped: {error} (a_socket_of_netlink_is_told_of)"),
        }
    }

    #[test]
    fn what_is_told_of_packets_is_taken_apart() {
        let attribute = |kind: u16, words: &[u32]| {
            let len = (4 + words.len() * 4) as u16;
            let head = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
            let words = words.iter().flat_map(|word| word.to_ne_bytes());
            head.into_iter().chain(words).collect::<Vec<u8>>()
        };
        let mut members = vec![1, 2, 1 | 6 << 16, 0x0201, 0];
        members.resize(11, 0);
        let bytes = [
            attribute(0, &[3, 1, 0, 77, 0, 2]),
            attribute(1, &members),
            attribute(2, &[4096, 1, 1024, 4, 0, 0, 0]),
            attribute(4, &[13]),
        ];
        let told = packet(&bytes.concat());
        assert_eq!(told.copy_threshold, 77);
        assert_eq!(told.members, [(1, 1, vec![1, 2, 0, 0, 0, 0], 2)]);
        assert_eq!(told.rings, [Some([4096, 1, 1024, 4, 0, 0, 0]), None]);
        assert_eq!(told.fanout, Some(13));
    }
}
