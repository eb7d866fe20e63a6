//! From a connection of TCP to operations, in the mode of repair ([`super::repair`]): in it `connect` asks nobody, and what is
//! written goes to the queue that was chosen. The mode is left last of all, from outside (`restore/connections.rs`), which also
//! sends what was not sent, and brings the connection to its state, where one of its halves is closed. Pure.

use super::options::SOL_TCP;
use super::plan::{put_address, set_number};
use super::repair::{
    NO_QUEUE, OFF_SILENTLY, ON, RECEIVE_QUEUE, SACK, SCALED, SEND_QUEUE, TCP_QUEUE_SEQ, TCP_REPAIR,
    TCP_REPAIR_OPTIONS, TCP_REPAIR_QUEUE, TCP_REPAIR_WINDOW, TCP_TIMESTAMP, TIMESTAMPS,
};
use crate::objects::sockopt::plan as sockopt;
use crate::objects::sockopt::plan::set_option;
use crate::plan::Builder;
use crate::snapshot::{InetSocket, InetState, SocketOptions, TcpState, TcpStream};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Codes of options (`net/tcp.h`).
const MSS: u32 = 2;
const WINDOW: u32 = 3;
const SACK_PERMITTED: u32 = 4;
const TIMESTAMP: u32 = 8;
/// A port at which nobody is (discard), and the least size of a segment that all can.
const NOBODY: u16 = 9;
const LEAST_MSS: u32 = 536;
/// Bytes that are written at a time: the kernel makes one buffer of each.
const CHUNK: usize = 16 << 10;
/// Room beside what is written: for the kernel's own.
const ROOM: u64 = 1 << 20;

/// Adds the mode of repair, in which a port is taken whoever has it.
pub fn plan_repair(b: &mut Builder, fd: i32) {
    set_number(b, fd, SOL_TCP, TCP_REPAIR, ON);
}

/// Adds the end of that mode, where nothing was connected. It takes `SO_REUSEADDR` away.
pub fn plan_repaired(b: &mut Builder, fd: i32) {
    set_number(b, fd, SOL_TCP, TCP_REPAIR, OFF_SILENTLY);
}

/// Adds a connection to nobody for a socket whose own is over and has bytes left, so that they can be put there. It is broken off
/// at the end, from outside.
pub fn plan_rest(b: &mut Builder, fd: i32, socket: &InetSocket) {
    let stand_in = stand_in(socket);
    plan_connection(b, fd, &stand_in, TcpState::Established, 0);
}

/// Returns the connection that stands for one that is over: to an address of this machine at which nobody is, one for each socket.
pub fn stand_in(socket: &InetSocket) -> InetSocket {
    let [_, high, middle, low] = socket.ino.to_be_bytes();
    let remote = match socket.local.ip().to_canonical() {
        IpAddr::V4(_) => {
            let ip = Ipv4Addr::new(127, high, middle, low.max(1));
            let ip = if socket.is_v6 {
                ip.to_ipv6_mapped().into()
            } else {
                ip.into()
            };
            SocketAddr::new(ip, NOBODY)
        }
        IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), socket.ino as u16 | 1),
    };
    InetSocket {
        remote,
        state: InetState::Connection(TcpState::Established),
        stream: TcpStream {
            receive_next: 1_u32.wrapping_add(socket.stream.received.len() as u32),
            send_next: 1,
            received: socket.stream.received.clone(),
            mss: LEAST_MSS,
            ..TcpStream::default()
        },
        ..socket.clone()
    }
}

/// Adds the connection of a socket that has its name, with what waits in it.
pub fn plan_connection(b: &mut Builder, fd: i32, socket: &InetSocket, state: TcpState, scope: u32) {
    if state == TcpState::SynSent {
        return;
    }
    let stream = &socket.stream;
    let received = &stream.received[..];
    let sent = &stream.sent[..stream.sent.len() - stream.unsent as usize];
    let begin = |end: u32, len: usize| end.wrapping_sub(len as u32);
    let receive_end = stream.receive_end(state);
    let send_begin = begin(stream.send_end(state), stream.sent.len());
    plan_sequence(b, fd, SEND_QUEUE, send_begin);
    plan_sequence(b, fd, RECEIVE_QUEUE, begin(receive_end, received.len()));
    let (at, len) = put_address(b, &socket.remote, scope);
    b.call_returns(libc::SYS_connect, &[fd as u64, at, len], 0);
    plan_agreed(b, fd, socket);
    plan_room(
        b,
        fd,
        &socket.options,
        received.len().max(stream.sent.len()),
    );
    plan_queue(b, fd, RECEIVE_QUEUE, received);
    plan_queue(b, fd, SEND_QUEUE, sent);
    sockopt::plan_buffers(b, fd, &socket.options);
    if let Some(mut window) = stream.window {
        // An end that has come comes again.
        for place in [0, 4] {
            if window[place].wrapping_sub(receive_end) as i32 > 0 {
                window[place] = receive_end;
            }
        }
        let bytes: Vec<u8> = window.iter().flat_map(|word| word.to_ne_bytes()).collect();
        set_option(b, fd, (SOL_TCP, TCP_REPAIR_WINDOW), &bytes);
    }
    set_number(b, fd, SOL_TCP, TCP_REPAIR_QUEUE, NO_QUEUE);
}

fn plan_sequence(b: &mut Builder, fd: i32, queue: i32, number: u32) {
    set_number(b, fd, SOL_TCP, TCP_REPAIR_QUEUE, queue);
    set_number(b, fd, SOL_TCP, TCP_QUEUE_SEQ, number as i32);
}

/// Adds what both ends have agreed on when they connected.
fn plan_agreed(b: &mut Builder, fd: i32, socket: &InetSocket) {
    let stream = &socket.stream;
    let scales = u32::from(stream.send_scale) | u32::from(stream.receive_scale) << 16;
    let agreed = [
        (SCALED, WINDOW, scales),
        (SACK, SACK_PERMITTED, 0),
        (TIMESTAMPS, TIMESTAMP, 0),
    ];
    let mut options = vec![(MSS, stream.mss)];
    let has = agreed.iter().filter(|(bit, ..)| stream.options & bit != 0);
    options.extend(has.map(|(_, code, value)| (*code, *value)));
    let bytes: Vec<u8> = options
        .iter()
        .flat_map(|(code, value)| [code.to_ne_bytes(), value.to_ne_bytes()].concat())
        .collect();
    set_option(b, fd, (SOL_TCP, TCP_REPAIR_OPTIONS), &bytes);
    if let Some(timestamp) = stream.timestamp {
        set_number(b, fd, SOL_TCP, TCP_TIMESTAMP, timestamp as i32);
    }
}

/// Adds buffers that hold what is written, whatever they were.
fn plan_room(b: &mut Builder, fd: i32, options: &SocketOptions, len: usize) {
    let wanted = len as u64 + ROOM;
    let larger = |size: u32| u64::from(size).max(wanted).min(i32::MAX as u64 / 2) as i32;
    let sizes = [
        (libc::SO_SNDBUFFORCE, larger(options.send_buffer)),
        (libc::SO_RCVBUFFORCE, larger(options.receive_buffer)),
    ];
    for (option, size) in sizes {
        set_number(b, fd, libc::SOL_SOCKET, option, size);
    }
}

fn plan_queue(b: &mut Builder, fd: i32, queue: i32, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    set_number(b, fd, SOL_TCP, TCP_REPAIR_QUEUE, queue);
    let at = b.put(bytes);
    let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u64;
    let mut done = 0;
    for chunk in bytes.chunks(CHUNK) {
        let len = chunk.len() as u64;
        let args = [fd as u64, at + done, len, flags, 0, 0];
        b.call_returns(libc::SYS_sendto, &args, len as i64);
        done += len;
    }
}
