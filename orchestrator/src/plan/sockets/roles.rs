//! What each socket is to others: found before the first step is thought of. Pure.

use crate::plan::family::{Family, Kind};
use crate::snapshot::{FileId, FileKind, OpenFile, Snapshot, UnixSocket, UnixState};
use std::collections::BTreeMap;

/// What a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is outside of the tree.
    Outside,
    /// It waits for connections.
    Listener,
    /// It is by itself, or sends datagrams to a name.
    Plain,
    /// One end of a pair that was made at once; the other end.
    End(u32),
    /// The other end is closed, and has no name that would tell more.
    Widow,
    /// What a listening socket, of this inode or gone, has accepted from this socket; 0 = from one that is closed.
    Accepted { listener: Option<u32>, client: u32 },
    /// What the other side of a connection has accepted.
    Client { accepted: u32 },
    /// A connection that this listening socket has not accepted yet.
    Pending { listener: u32 },
    /// A connection to a socket outside.
    Leaving { outside: u32 },
}

/// All sockets of a snapshot, and who has them.
#[derive(Debug)]
pub struct Sockets<'a> {
    /// By inode.
    pub all: BTreeMap<u32, (&'a OpenFile, &'a UnixSocket)>,
    /// First member that has each file.
    pub holders: BTreeMap<FileId, usize>,
    family: &'a Family,
}

impl<'a> Sockets<'a> {
    /// Returns those of a snapshot.
    pub fn of(snapshot: &'a Snapshot, family: &'a Family) -> Self {
        let mut holders = BTreeMap::new();
        for (place, member) in family.members.iter().enumerate() {
            if let Kind::Living(task) = member.kind {
                for entry in &snapshot.tasks[task].fds {
                    holders.entry(entry.file).or_insert(place);
                }
            }
        }
        let all = snapshot.files.iter().filter_map(|file| match &file.kind {
            FileKind::Unix(socket) => Some((socket.ino, (file, socket))),
            _ => None,
        });
        Self {
            all: all.collect(),
            holders,
            family,
        }
    }

    /// Returns the socket of this inode.
    pub fn get(&self, ino: u32) -> Option<&'a UnixSocket> {
        self.all.get(&ino).map(|(_, socket)| *socket)
    }

    /// Returns the last member that lives: when it is planned, all that others make is known.
    pub fn filler(&self) -> usize {
        let mut members = self.family.members.iter();
        members
            .rposition(|member| matches!(member.kind, Kind::Living(_)))
            .unwrap_or(0)
    }

    /// Returns the first member that has one of these sockets.
    pub fn holder(&self, inos: &[u32]) -> usize {
        let holders = inos.iter().filter_map(|ino| {
            let (file, _) = self.all.get(ino)?;
            self.holders.get(&file.id).copied()
        });
        holders.min().unwrap_or_else(|| self.filler())
    }

    /// Returns the member whose process these credentials tell of.
    pub fn actor(&self, socket: Option<&UnixSocket>) -> Option<usize> {
        let [pid, ..] = socket?.peer_credentials?;
        let mut members = self.family.members.iter();
        members
            .position(|member| member.pid as u32 == pid && matches!(member.kind, Kind::Living(_)))
    }

    /// Returns what a socket is, or why it cannot be made again.
    pub fn role(&self, socket: &UnixSocket) -> Result<Role, String> {
        if socket.is_outside {
            return Ok(Role::Outside);
        }
        if matches!(socket.state, UnixState::Listening(_)) {
            return match socket.kind {
                libc::SOCK_DGRAM => Err("a socket for datagrams does not listen".into()),
                _ => Ok(Role::Listener),
            };
        }
        let peer = self.get(socket.peer);
        if peer.is_some_and(|peer| peer.is_outside && peer.name.is_none()) {
            return Err(format!(
                "its other end was outside and has no name: give it with --inherit-fd fd[N]:socket[{}]",
                socket.ino
            ));
        }
        if socket.peer != 0 && peer.is_none_or(|peer| peer.kind != socket.kind) {
            return Err(format!(
                "its other end {} is not in the images",
                socket.peer
            ));
        }
        if socket.kind == libc::SOCK_DGRAM {
            return self.role_of_datagrams(socket, peer);
        }
        Ok(match peer {
            _ if socket.state == UnixState::Closed => Role::Plain,
            None if socket.name.is_none() => Role::Widow,
            None => Role::Accepted {
                listener: self.listener_of(socket),
                client: 0,
            },
            Some(peer) if peer.is_outside => Role::Leaving { outside: peer.ino },
            Some(peer) if matches!(peer.state, UnixState::Listening(_)) => {
                Role::Pending { listener: peer.ino }
            }
            Some(peer) if peer.peer != socket.ino || peer.ino == socket.ino => {
                return Err(format!("its other end {} is another's", peer.ino));
            }
            Some(peer) => self.role_of_connected(socket, peer),
        })
    }

    fn role_of_datagrams(
        &self,
        socket: &UnixSocket,
        peer: Option<&UnixSocket>,
    ) -> Result<Role, String> {
        let Some(peer) = peer else {
            let is_alone = socket.lost_peer.as_ref().is_some_and(Vec::is_empty);
            return Ok(if is_alone { Role::Widow } else { Role::Plain });
        };
        let is_mutual = peer.peer == socket.ino && peer.ino != socket.ino;
        if is_mutual && (socket.name.is_none() || peer.name.is_none()) {
            return Ok(Role::End(peer.ino));
        }
        match peer.name {
            Some(_) => Ok(Role::Plain),
            None => Err(format!(
                "it is connected to socket {}, which has no name and is not connected to it",
                peer.ino
            )),
        }
    }

    /// Tells two that are connected apart: whoever was accepted has the name of the listening socket.
    fn role_of_connected(&self, socket: &UnixSocket, peer: &UnixSocket) -> Role {
        let [own, others] = [socket, peer].map(|end| self.listener_of(end));
        let is_accepted = match (&socket.name, &peer.name) {
            (None, None) => return Role::End(peer.ino),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            // Else the accepted one is the younger.
            (Some(_), Some(_)) => match (own, others) {
                (Some(_), None) => true,
                (None, Some(_)) => false,
                _ => socket.ino > peer.ino,
            },
        };
        match is_accepted {
            true => Role::Accepted {
                listener: own,
                client: peer.ino,
            },
            false => Role::Client { accepted: peer.ino },
        }
    }

    /// Returns the listening socket that has the name of this one.
    fn listener_of(&self, socket: &UnixSocket) -> Option<u32> {
        let name = socket.name.as_ref()?;
        let is_it = |other: &&UnixSocket| {
            let theirs = other.name.as_ref();
            matches!(other.state, UnixState::Listening(_))
                && !other.is_outside
                && other.kind == socket.kind
                && theirs.is_some_and(|theirs| {
                    (&theirs.bytes, &theirs.folder, theirs.is_deleted)
                        == (&name.bytes, &name.folder, name.is_deleted)
                })
        };
        let mut all = self.all.values().map(|(_, socket)| *socket);
        all.find(is_it).map(|listener| listener.ino)
    }

    /// Returns whether a socket is an end of a pair that [`super::plan_pair`] makes: nothing of it is seen from elsewhere.
    pub fn is_simple(&self, socket: &UnixSocket, own_identity: (u32, u32)) -> bool {
        let Some(peer) = self.get(socket.peer) else {
            return false;
        };
        let ends = [socket, peer];
        let maker = self.holder(&[socket.ino, peer.ino]);
        let is_plain = |end: &UnixSocket| {
            let file = self.all[&end.ino].0.id;
            let mut queue = end.queue.iter();
            let is_bytes = |message: &crate::snapshot::UnixMessage| {
                message.files.is_empty()
                    && message.sender.is_empty()
                    && message.credentials.is_none()
            };
            let is_own = |[_, uid, gid]: [u32; 3]| (uid, gid) == own_identity;
            end.name.is_none()
                && !end.is_reset
                && self.holders.contains_key(&file)
                && queue.all(is_bytes)
                && end.peer_credentials.is_none_or(is_own)
                && self.actor(Some(end)).is_none_or(|actor| actor == maker)
        };
        self.role(socket) == Ok(Role::End(peer.ino)) && ends.into_iter().all(is_plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Owner, UnixName};

    fn socket(ino: u32, peer: u32, name: &[u8]) -> UnixSocket {
        UnixSocket {
            ino,
            peer,
            kind: libc::SOCK_STREAM,
            state: UnixState::Connected,
            name: (!name.is_empty()).then(|| UnixName {
                bytes: name.to_vec(),
                ..UnixName::default()
            }),
            ..UnixSocket::default()
        }
    }

    fn listening(ino: u32, name: &[u8]) -> UnixSocket {
        UnixSocket {
            state: UnixState::Listening(5),
            ..socket(ino, 0, name)
        }
    }

    fn roles(sockets: Vec<UnixSocket>) -> Vec<Result<Role, String>> {
        let file = |socket: UnixSocket| OpenFile {
            id: FileId(socket.ino),
            flags: 0,
            owner: Owner::default(),
            kind: FileKind::Unix(socket),
        };
        let snapshot = Snapshot {
            files: sockets.into_iter().map(file).collect(),
            ..Snapshot::default()
        };
        let family = Family::default();
        let all = Sockets::of(&snapshot, &family);
        let told = all.all.values();
        told.map(|(_, socket)| all.role(socket)).collect()
    }

    #[test]
    fn who_was_accepted_has_the_name() {
        let all = vec![
            listening(1, b"/s"),
            socket(2, 3, b""),
            socket(3, 2, b"/s"),
            socket(4, 1, b""),
        ];
        let accepted = Role::Accepted {
            listener: Some(1),
            client: 2,
        };
        assert_eq!(
            roles(all),
            [
                Ok(Role::Listener),
                Ok(Role::Client { accepted: 3 }),
                Ok(accepted),
                Ok(Role::Pending { listener: 1 }),
            ]
        );
    }

    #[test]
    fn pairs_widows_and_nonsense() {
        let pair = roles(vec![socket(1, 2, b""), socket(2, 1, b"")]);
        assert_eq!(pair, [Ok(Role::End(2)), Ok(Role::End(1))]);
        assert_eq!(roles(vec![socket(1, 0, b"")]), [Ok(Role::Widow)]);
        assert!(roles(vec![socket(1, 1, b"")])[0].is_err());
        assert!(roles(vec![socket(1, 7, b"")])[0].is_err());
    }
}
