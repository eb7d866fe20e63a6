//! Unix sockets of our network namespace: which is connected to which.

use netlink_packet_core::{
    Emitable, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::unix::nlas::Nla;
use netlink_packet_sock_diag::unix::{ShowFlags, StateFlags, UnixRequest};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use std::collections::BTreeMap;
use std::io;

/// Bytes received at a time; the kernel fills less.
const BUFFER: usize = 64 << 10;

/// What is told of one socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// `TCP_ESTABLISHED`, `TCP_CLOSE` or `TCP_LISTEN`.
    pub state: u8,
    /// Inode of the socket that it is connected to; 0 = one that is closed, or was not accepted yet.
    pub peer: Option<u32>,
    /// Of a listening socket, the inodes of those that wait to be accepted; 0 = one that is closed.
    pub pending: Vec<u32>,
    /// Of a listening socket, how many may wait.
    pub backlog: u32,
    /// Inode of the file that it was bound to, and its device as the kernel packs it.
    pub file: Option<(u32, u32)>,
    /// `RCV_SHUTDOWN` 1, `SEND_SHUTDOWN` 2.
    pub shutdown: u8,
}

/// Reads all sockets, by inode.
///
/// # Errors
/// The kernel does not answer (`CONFIG_UNIX_DIAG`), or not as it should.
pub fn read() -> io::Result<BTreeMap<u32, Told>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    send_request(&socket)?;
    let mut all = BTreeMap::new();
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        if take(&buffer, &mut all)? {
            return Ok(all);
        }
    }
}

fn send_request(socket: &Socket) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = SockDiagMessage::UnixRequest(UnixRequest {
        // Unconnected ones too, whose state has no name here.
        state_flags: StateFlags::from_bits_retain(u32::MAX),
        inode: 0,
        show_flags: ShowFlags::PEER | ShowFlags::ICONS | ShowFlags::RQLEN | ShowFlags::VFS,
        cookie: [0xff; 8],
    });
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).map(drop)
}

/// Takes what a datagram tells, and returns whether it was the last.
fn take(mut bytes: &[u8], all: &mut BTreeMap<u32, Told>) -> io::Result<bool> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(bytes);
        let message = message.map_err(io::Error::other)?;
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            NetlinkPayload::InnerMessage(SockDiagMessage::UnixResponse(response)) => {
                let mut told = Told {
                    state: response.header.state,
                    ..Told::default()
                };
                for nla in &response.nlas {
                    match nla {
                        Nla::Peer(peer) => told.peer = Some(*peer),
                        Nla::PendingConnections(pending) => told.pending.clone_from(pending),
                        Nla::ReceiveQueueLength(_, most) => told.backlog = *most,
                        Nla::Vfs(file) => {
                            let mut bytes = [0; 8];
                            file.emit(&mut bytes);
                            let [inode, device] = [0, 4].map(|at| {
                                let word = bytes[at..at + 4].try_into();
                                u32::from_ne_bytes(word.expect("4 bytes"))
                            });
                            told.file = Some((inode, device));
                        }
                        Nla::Shutdown(shutdown) => told.shutdown = *shutdown,
                        _ => {}
                    }
                }
                all.insert(response.header.inode, told);
            }
            _ => {}
        }
        let len = (message.header.length as usize).next_multiple_of(4);
        bytes = bytes.get(len.max(1)..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_ends_of_a_pair_tell_of_each_other() {
        let (one, other) = UnixStream::pair().expect("a pair");
        one.shutdown(std::net::Shutdown::Write).expect("shutdown");
        let inode = |stream: &UnixStream| {
            let stat = crate::sys::file::statx(stream.as_fd()).expect("statx");
            stat.ino as u32
        };
        let all = read().expect("sock_diag");
        assert_eq!(all[&inode(&one)].peer, Some(inode(&other)));
        assert_eq!(all[&inode(&other)].peer, Some(inode(&one)));
        assert_eq!(
            (all[&inode(&one)].shutdown, all[&inode(&other)].shutdown),
            (2, 1)
        );
    }
}
