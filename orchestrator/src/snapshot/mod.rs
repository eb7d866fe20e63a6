//! The model in the middle: a typed picture of a process tree.
//!
//! Dump makes a [`Snapshot`] from the kernel and `image` encodes it; restore decodes one and `plan` makes programs from
//! it. Plain data: it knows nothing of ptrace, of protobuf, or of how it came to be. All byte strings that come from the
//! kernel or from a file system are `Vec<u8>`: paths need not be UTF-8.

use std::collections::BTreeMap;

pub mod bpf;
pub mod file;
pub mod inet;
pub mod ipc;
pub mod memory;
pub mod namespace;
pub mod network;
pub mod signal;
pub mod sockets;
pub mod task;
pub mod terminal;
pub mod thread;
pub mod timer;
pub mod tun;
pub mod unix;
pub mod watch;

pub use bpf::BpfMap;
pub use file::{
    BusyPoll, DeviceFile, Epoll, EpollTarget, EventFd, ExternalFile, FdEntry, Fifo, FileId,
    FileKind, FileLock, Ghost, GhostData, Inherited, LockType, MemfdFile, MemfdInode, OpenFile,
    Owner, PidFd, PipeBuffer, PipeEnd, ProcOwner, QueueFile, RegularFile, SignalFd, SocketOptions,
    TimerFd,
};
pub use inet::{
    Datagram, InetGroup, InetOption, InetSocket, InetState, NetworkLock, TcpState, TcpStream,
};
pub use ipc::{
    IpcNamespace, IpcPerm, IpcSettings, Message, MessageQueue, PosixMessage, PosixQueue,
    QueueNotice, SemaphoreSet, ShmSegment,
};
pub use memory::{Mm, PageLocation, PageRun, ProtectionKeys, SharedMemory, Vma, VmaKind};
pub use namespace::NamespaceFile;
pub use network::{Link, NetNamespace, Setting};
pub use signal::{QueuedSignal, SigAction};
pub use sockets::{NetlinkSocket, PacketMember, PacketSocket};
pub use task::{Creds, Fs, Limit, Task, TaskIds, TaskState};
pub use terminal::{Flow, LineEnd, Terminal, TerminalInfo, Termios, Waiting};
pub use thread::{
    Arch, MemPolicy, RobustList, Rseq, Sched, SeccompFilter, SeccompMode, SigAltStack,
    SyscallDispatch, Thread,
};
pub use timer::{Interval, IntervalTimers, Notify, PosixTimer};
pub use tun::{Tun, TunQueue};
pub use unix::{UnixMessage, UnixName, UnixSocket, UnixState};
pub use watch::{Fanotify, FanotifyMark, Inotify, InotifyWatch, Marked, Watched};

/// Size of a page in the images and in memory, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// A process tree at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// When and where it was taken.
    pub origin: Origin,
    /// The tasks, every parent before its children; the first is the root.
    pub tasks: Vec<Task>,
    /// Open file descriptions, each once however many descriptors refer to it.
    pub files: Vec<OpenFile>,
    /// Deleted files.
    pub ghosts: Vec<Ghost>,
    /// What the pipes of [`FileKind::Pipe`] hold.
    pub pipes: Vec<PipeBuffer>,
    /// What the named pipes of [`FileKind::Fifo`] hold.
    pub fifos: Vec<PipeBuffer>,
    /// Locks on files.
    pub locks: Vec<FileLock>,
    /// The inodes behind memfd descriptors and mappings.
    pub memfds: Vec<MemfdInode>,
    /// Terminals that descriptors refer to.
    pub terminals: Vec<TerminalInfo>,
    /// Filters of seccomp, each after the one that it was added to.
    pub seccomp: Vec<SeccompFilter>,
    /// Shared memory with its pages: anonymous shared mappings, contents of memfds and of segments of System V.
    pub shared: Vec<SharedMemory>,
    /// Words for the page files that are none of the set itself, but of its parents.
    pub parent_files: BTreeMap<u32, String>,
    /// Segments of System V shared memory.
    pub segments: Vec<ShmSegment>,
    /// The IPC namespace of the tree's own; `None` = it is the host's.
    pub ipc: Option<IpcNamespace>,
    /// POSIX message queues: those that descriptors refer to, and all of an IPC namespace of the tree's own.
    pub posix_queues: Vec<PosixQueue>,
    /// The network namespace of the tree's own; `None` = it is the host's.
    pub network: Option<NetNamespace>,
}

/// When and where a snapshot was taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    /// `CLOCK_MONOTONIC` as the tree saw it, in nanoseconds; `None` where the images do not say.
    pub monotonic_ns: Option<i64>,
    /// `CLOCK_BOOTTIME` as the tree saw it, in nanoseconds.
    pub boottime_ns: Option<i64>,
    /// `CLOCK_REALTIME` at the dump, in nanoseconds; `None` where the images do not say.
    pub wall_clock_ns: Option<u64>,
    /// Time since boot at the dump, in microseconds (CRIU's `dump_uptime`).
    pub uptime_us: Option<u64>,
    /// Identity of this dump, as text.
    pub run_id: Option<String>,
    /// How the network is kept away from connections until they are restored.
    pub network_lock: NetworkLock,
    /// Connections of TCP were left out.
    pub tcp_close: bool,
    /// The leader of the root's session has ended, and nobody outside of the tree is of the session.
    pub has_own_session: bool,
    /// Namespaces of the root task, as ids within the image set.
    pub root_ids: TaskIds,
}

impl Snapshot {
    /// Returns the open file description with this id.
    pub fn file(&self, id: FileId) -> Option<&OpenFile> {
        self.files.iter().find(|file| file.id == id)
    }

    /// Returns whether there are connections of TCP.
    pub fn has_connections(&self) -> bool {
        self.files.iter().any(|file| match &file.kind {
            FileKind::Inet(socket) => socket.connection().is_some(),
            _ => false,
        })
    }

    /// Returns whether there is memory that is put in place while its task runs.
    pub fn is_lazy(&self) -> bool {
        let spaces = self.tasks.iter().filter_map(|task| task.mm.as_ref());
        spaces.into_iter().any(|mm| !mm.lazy.is_empty())
    }

    /// Returns the name of a page file, by its number.
    pub fn pages_name(&self, pages_id: u32) -> String {
        let of_parent = self.parent_files.get(&pages_id).cloned();
        of_parent.unwrap_or_else(|| format!("pages-{pages_id}.img"))
    }

    /// Returns whether there is memory that is mapped from page files.
    pub fn is_mapped(&self) -> bool {
        let spaces = self.tasks.iter().filter_map(|task| task.mm.as_ref());
        spaces.into_iter().any(|mm| !mm.mapped.is_empty())
    }

    /// Returns the root task; a snapshot that was read or collected has one.
    pub fn root(&self) -> Option<&Task> {
        self.tasks.first()
    }
}
