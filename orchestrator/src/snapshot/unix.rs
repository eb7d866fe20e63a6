//! Unix sockets: what they are called, what they are connected to, and what waits in them.

use super::file::{FileId, SocketOptions};

/// A Unix socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnixSocket {
    /// Its inode.
    pub ino: u32,
    /// `SOCK_STREAM`, `SOCK_DGRAM` or `SOCK_SEQPACKET`.
    pub kind: i32,
    /// What can be done with it.
    pub state: UnixState,
    /// What it is called, if anything.
    pub name: Option<UnixName>,
    /// Inode of the socket that it is connected to; 0 = none, or one that is closed. A connection that waits to be accepted
    /// has that of the listening socket here.
    pub peer: u32,
    /// Datagrams: what it is connected to is closed. What that was called, if anything.
    pub lost_peer: Option<Vec<u8>>,
    /// It is not one of the tree's, but what one of the tree's is connected to.
    pub is_outside: bool,
    /// Shut for receiving: bit 0, for sending: bit 1.
    pub shutdown: u8,
    /// The next call on it is told that its other end was closed with something unread in it.
    pub is_reset: bool,
    /// Its options.
    pub options: SocketOptions,
    /// Process, user and group that it tells as those of its other end; of a listening socket, what it tells to others.
    pub peer_credentials: Option<[u32; 3]>,
    /// Messages that wait in it; the bytes of a stream are one, unless something comes with them.
    pub queue: Vec<UnixMessage>,
}

/// What can be done with a socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnixState {
    /// It is connected. For datagrams: it was connected to, or has been.
    #[default]
    Connected,
    /// It is not.
    Closed,
    /// It waits for connections, of which so many may wait.
    Listening(u32),
}

/// The name of a Unix socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnixName {
    /// As it was bound. An abstract one begins with a zero; a path does not end with one.
    pub bytes: Vec<u8>,
    /// Folder that a relative path counts from.
    pub folder: Vec<u8>,
    /// Its file is no longer there.
    pub is_deleted: bool,
    /// Mode, user and group of its file.
    pub mode: Option<[u32; 3]>,
}

/// A message that waits in a Unix socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnixMessage {
    /// Its bytes.
    pub data: Vec<u8>,
    /// What comes with it as descriptors.
    pub files: Vec<FileId>,
    /// What its sender was called, if anything.
    pub sender: Vec<u8>,
    /// Process, user and group that come with it.
    pub credentials: Option<[u32; 3]>,
}

impl UnixName {
    /// Returns whether it has no file.
    pub fn is_abstract(&self) -> bool {
        self.bytes.first() == Some(&0)
    }

    /// Returns the path of its file.
    pub fn path(&self) -> Vec<u8> {
        if self.bytes.first() == Some(&b'/') {
            return self.bytes.clone();
        }
        [&self.folder[..], b"/", &self.bytes].concat()
    }
}
