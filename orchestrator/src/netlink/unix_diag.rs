//! Unix sockets of our network namespace: which is connected to which.

use super::ask;
use netlink_packet_core::Emitable;
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::unix::nlas::Nla;
use netlink_packet_sock_diag::unix::{ShowFlags, StateFlags, UnixRequest, UnixResponse};
use std::collections::BTreeMap;
use std::io;

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
    let request = SockDiagMessage::UnixRequest(UnixRequest {
        // Unconnected ones too, whose state has no name here.
        state_flags: StateFlags::from_bits_retain(u32::MAX),
        inode: 0,
        show_flags: ShowFlags::PEER | ShowFlags::ICONS | ShowFlags::RQLEN | ShowFlags::VFS,
        cookie: [0xff; 8],
    });
    let mut all = BTreeMap::new();
    ask(request, |message| {
        if let SockDiagMessage::UnixResponse(response) = message {
            all.insert(response.header.inode, told(&response));
        }
    })?;
    Ok(all)
}

fn told(response: &UnixResponse) -> Told {
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
    told
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
