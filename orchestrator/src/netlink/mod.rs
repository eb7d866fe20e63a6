//! What the kernel tells and takes by netlink: sockets (`sock_diag(7)`), rules of nftables, and `raw` messages. No decisions.

pub mod inet_diag;
pub mod nft;
pub mod raw;
pub mod raw_diag;
pub mod unix_diag;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use std::io;

/// Bytes received at a time; the kernel fills less.
const BUFFER: usize = 64 << 10;

/// Asks for all sockets of a kind, and hands on what is told of each.
fn ask(request: SockDiagMessage, mut take: impl FnMut(SockDiagMessage)) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        if take_all(&buffer, &mut take)? {
            return Ok(());
        }
    }
}

/// Takes what a datagram tells, and returns whether it was the last.
fn take_all(mut bytes: &[u8], take: &mut impl FnMut(SockDiagMessage)) -> io::Result<bool> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(bytes);
        let message = message.map_err(io::Error::other)?;
        let len = (message.header.length as usize).next_multiple_of(4);
        match message.payload {
            // A kernel without such sockets ends with an error.
            NetlinkPayload::Done(done) if done.code < 0 => {
                return Err(io::Error::from_raw_os_error(-done.code));
            }
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            NetlinkPayload::InnerMessage(inner) => take(inner),
            _ => {}
        }
        bytes = bytes.get(len.max(1)..).unwrap_or_default();
    }
    Ok(false)
}
