//! Unix sockets. A pair without names is made at once by whoever has it ([`pairs`]); all others come of one script for the
//! whole tree ([`script`]): a list of steps in the order in which the kernel needs them.
//!
//! Why a script: which process makes a socket is seen from the other end of it (`SO_PEERCRED` tells who called `socketpair`,
//! `listen` or `connect`, and nobody can say it for another), a connection needs a listening socket, and a queue a sender. So
//! the steps of one tree are of several tasks, and each waits for the one before where that is another task's. Every socket of
//! the script has a number of its own above all descriptors, which is known before any program is planned; those who have
//! it take it from there.

mod act;
mod pairs;
mod roles;
mod script;
mod writer;

pub use act::{plan_place, plan_turns};
pub use pairs::plan_pair;
pub use script::Script;

use crate::snapshot::{FileId, UnixMessage, UnixName, UnixSocket};
use std::collections::BTreeMap;

/// When a step is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// While all make what is shared.
    Make,
    /// When all is made, and may wait in a queue.
    Fill,
}

/// A step and who makes it.
#[derive(Debug, Clone)]
pub struct Turn<'a> {
    /// The member of the family.
    actor: usize,
    phase: Phase,
    step: Step<'a>,
    /// The socket that it is for, in words.
    object: String,
    /// Words at which it meets those who made the step before, and make the one after.
    before: Option<u64>,
    after: Option<u64>,
}

/// User and group that a socket tells to its other end.
type Identity = Option<(u32, u32)>;

/// What is to be done. Numbers are of the actor's descriptors.
#[derive(Debug, Clone)]
enum Step<'a> {
    /// A socket without a name; it does not wait until the script is over.
    Socket { fd: i32, kind: i32 },
    /// Two that are connected.
    Pair {
        fds: [i32; 2],
        kind: i32,
        identity: Identity,
    },
    /// Sizes of buffers.
    Buffers { fd: i32, of: &'a UnixSocket },
    /// Its name.
    Bind { fd: i32, name: Vec<u8>, at: At },
    /// A descriptor of its file.
    Node { of: i32, fd: i32 },
    /// From here on it can be connected to.
    Listen {
        fd: i32,
        backlog: u32,
        identity: Identity,
    },
    /// A connection.
    Connect {
        fd: i32,
        to: Address,
        identity: Identity,
    },
    /// The other end of the connection that waits.
    Accept { from: i32, fd: i32 },
    /// A message. The socket that sends it may be another member's.
    Send {
        from: (usize, i32),
        to: Option<Address>,
        message: &'a UnixMessage,
    },
    /// A byte that nobody will read.
    Unread { fd: i32 },
    /// Nothing more comes, or can be sent.
    Shutdown { fd: i32, shutdown: u8 },
    /// Options and status flags.
    Settle {
        fd: i32,
        of: &'a UnixSocket,
        flags: u32,
    },
    /// Owner and mode of its file.
    Owner { name: &'a UnixName },
    /// It has served.
    Close { fd: i32 },
}

/// Where a name counts from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    /// Nowhere: it is abstract, or begins with the root.
    Nowhere,
    /// A folder.
    Folder(Vec<u8>),
    /// A root of its own, out of everybody's way: its file goes at once.
    Hidden(Vec<u8>),
}

/// Where a message or a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    /// To the file that a descriptor of a member is of, whatever it is called.
    Node { pid: i32, fd: i32 },
    /// To a name.
    Name(Vec<u8>),
}

/// What the file system has to be like for a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketFiles {
    /// Paths that sockets are bound to: free of what an earlier socket has left.
    pub bound: Vec<Vec<u8>>,
    /// For each name whose file is gone, a folder that is its root while it is bound, and the path of the file from there.
    pub hidden: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Number and maker of each socket of a script.
pub type Made = BTreeMap<FileId, (usize, i32)>;
