//! Descriptors and the open file descriptions behind them.

use super::bpf::BpfMap;
use super::inet::InetSocket;
use super::namespace::NamespaceFile;
use super::sockets::{NetlinkSocket, PacketSocket};
use super::terminal::Terminal;
use super::timer::Interval;
use super::tun::Tun;
use super::unix::UnixSocket;
use super::watch::{Fanotify, Inotify, Marked, Watched};

/// Id of an open file description within an image set; 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// One descriptor of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdEntry {
    /// Descriptor number.
    pub fd: i32,
    /// Close on exec.
    pub cloexec: bool,
    /// What it refers to.
    pub file: FileId,
}

/// An open file description.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenFile {
    /// Its id.
    pub id: FileId,
    /// Flags of `open(2)` as `F_GETFL` tells them.
    pub flags: u32,
    /// Who gets SIGIO.
    pub owner: Owner,
    /// What it is.
    pub kind: FileKind,
}

/// `F_SETOWN_EX`, `F_SETSIG` and the credentials they were set with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// User id of who set it.
    pub uid: u32,
    /// Effective user id of who set it.
    pub euid: u32,
    /// `F_GETSIG`.
    pub signal: u32,
    /// `F_OWNER_TID` 0, `F_OWNER_PID` 1, `F_OWNER_PGRP` 2; meaningless while `pid` is 0.
    pub kind: u32,
    /// The owner; 0 = none.
    pub pid: i32,
}

/// Kinds of open file description.
#[derive(Debug, Clone, PartialEq)]
pub enum FileKind {
    /// A regular file, a directory or an `O_PATH` descriptor, by path.
    Regular(RegularFile),
    /// A character device that has no state of its own (null, zero, full, random, urandom).
    Device(DeviceFile),
    /// One end of a pipe.
    Pipe(PipeEnd),
    /// A named pipe.
    Fifo(Fifo),
    /// A Unix socket.
    Unix(UnixSocket),
    /// A socket of the network.
    Inet(InetSocket),
    /// A socket of netlink.
    Netlink(NetlinkSocket),
    /// A socket of packets.
    Packet(PacketSocket),
    /// eventfd.
    EventFd(EventFd),
    /// epoll.
    Epoll(Epoll),
    /// timerfd.
    TimerFd(TimerFd),
    /// signalfd.
    SignalFd(SignalFd),
    /// memfd.
    Memfd(MemfdFile),
    /// inotify.
    Inotify(Inotify),
    /// fanotify.
    Fanotify(Fanotify),
    /// One side of a terminal.
    Terminal(Terminal),
    /// `/dev/net/tun`.
    Tun(Tun),
    /// pidfd.
    PidFd(PidFd),
    /// A file that is somebody else's at the restore (`--external file[...]`).
    External(ExternalFile),
    /// One that whoever restores has given to the tree (`--inherit-fd`); in no image.
    Inherited(Inherited),
    /// BPF map.
    BpfMap(BpfMap),
    /// A namespace.
    Namespace(NamespaceFile),
    /// A POSIX message queue.
    Queue(QueueFile),
    /// One that the image names and this build does not restore; its name.
    Unsupported(String),
}

/// A file found by its path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegularFile {
    /// Absolute path.
    pub path: Vec<u8>,
    /// Offset.
    pub pos: u64,
    /// Mode with type bits; `None` = not recorded.
    pub mode: Option<u32>,
    /// Size at the dump; `None` = not checked at restore.
    pub size: Option<u64>,
    /// Build id of an ELF file, where it has one.
    pub build_id: Vec<u8>,
    /// Mount id in the image; -1 = none.
    pub mnt_id: i32,
    /// It has no name any more: which of [`super::Snapshot::ghosts`] it is.
    pub ghost: Option<u32>,
    /// It was deleted under its path and has other names: the file that the dump gave another one, for the restore to find.
    pub link: Option<FileId>,
    /// Of whom it is, where it is one of `/proc` that its path alone does not lead to.
    pub of: Option<ProcOwner>,
}

/// Whose file of `/proc` it is that is not of a process of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcOwner {
    /// Of a process that had ended.
    Gone(i32),
    /// Of a process or thread outside that started at this time, in clock ticks since the boot.
    Outside(u64),
}

/// A file that was deleted while it was in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ghost {
    /// Its id; names the image that holds its content.
    pub id: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Mode with type bits.
    pub mode: u32,
    /// Device and inode that it had, in the form of the images.
    pub inode: (u32, u64),
    /// Device that a node stands for, `makedev` form.
    pub rdev: u32,
    /// Times of the last access and change of its content, in microseconds since 1970.
    pub times_us: [u64; 2],
    /// Size in bytes.
    pub size: u64,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
    /// Where the bytes of its data are; all else of it is a hole.
    pub data: Vec<GhostData>,
}

/// Bytes of a deleted file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GhostData {
    /// Offset in the file.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
    /// Offset in the image `ghost-file-ID.img`.
    pub at: u64,
}

/// A file that is somebody else's at the restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExternalFile {
    /// Key by which a restore is given it: `file[MOUNT:INODE]`.
    pub key: Vec<u8>,
    /// Offset.
    pub pos: u64,
    /// Mode with type bits.
    pub mode: u32,
    /// Size of a regular file.
    pub size: Option<u64>,
}

/// A device node found by its path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceFile {
    /// The node, with path, mode and offset.
    pub node: RegularFile,
    /// Device number, `makedev` form; 0 = not recorded.
    pub rdev: u64,
}

/// One way in which a named pipe is open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fifo {
    /// Which pipe of [`super::Snapshot::fifos`].
    pub pipe_id: u32,
    /// The node, by path.
    pub node: RegularFile,
}

/// Options of a socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// `SO_SNDBUF`, in bytes, as the kernel counts.
    pub send_buffer: u32,
    /// `SO_RCVBUF`.
    pub receive_buffer: u32,
    /// `SO_BUF_LOCK`: which of the two the program has set: bit 0, bit 1.
    pub locked_buffers: u32,
    /// `SO_SNDTIMEO`: seconds and microseconds.
    pub send_timeout: [i64; 2],
    /// `SO_RCVTIMEO`.
    pub receive_timeout: [i64; 2],
    /// Other options of `SOL_SOCKET` by number, and their values, where they are not as in a new socket.
    pub values: Vec<(i32, u64)>,
    /// `SO_BINDTODEVICE`: the name of the device, if any.
    pub device: Vec<u8>,
    /// `SO_ATTACH_FILTER`: each instruction as code, two jumps and a value, from the highest bits down.
    pub filter: Vec<u64>,
}

/// A lock on a file, or a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLock {
    /// What kind it is.
    pub kind: LockType,
    /// Whether it is for writing, and nobody else has one.
    pub is_write: bool,
    /// Process that holds it, or has the open file description that does.
    pub pid: i32,
    /// A descriptor of that process on the file.
    pub fd: i32,
    /// First byte.
    pub start: u64,
    /// Number of bytes; 0 = to the end of the file, wherever that will be.
    pub len: u64,
}

/// Kinds of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockType {
    /// `F_SETLK`: of a process.
    Posix,
    /// `F_OFD_SETLK`: of an open file description.
    Ofd,
    /// `flock`: of an open file description.
    Flock,
    /// `F_SETLEASE`: of an open file description.
    Lease,
}

/// One end of a pipe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PipeEnd {
    /// Which pipe.
    pub pipe_id: u32,
}

/// Content of a pipe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PipeBuffer {
    /// Which pipe.
    pub pipe_id: u32,
    /// Capacity in bytes (`F_GETPIPE_SZ`); `None` = not recorded.
    pub capacity: Option<u32>,
    /// Bytes queued.
    pub data: Vec<u8>,
    /// Lengths of the packets that they are, in order; empty = a stream.
    pub packets: Vec<u32>,
}

/// A descriptor that is given to the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inherited {
    /// The process that has it.
    pub pid: i32,
    /// Its number there.
    pub fd: i32,
    /// For what it was given.
    pub key: String,
    /// Bytes that lay in the dumped pipe, for the tree to read.
    pub data: Vec<u8>,
}

/// eventfd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventFd {
    /// Counter.
    pub counter: u64,
    /// `EFD_SEMAPHORE`: a read takes 1.
    pub semaphore: bool,
}

/// epoll.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epoll {
    /// What it watches.
    pub targets: Vec<EpollTarget>,
    /// `EPIOCSPARAMS`: how it polls network devices; `None` = as made.
    pub busy_poll: Option<BusyPoll>,
}

/// How an epoll polls network devices (`struct epoll_params`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BusyPoll {
    /// Microseconds at a time; 0 = not at all.
    pub usecs: u32,
    /// Packets at a time.
    pub budget: u16,
    /// Whether it is preferred to interrupts.
    pub is_preferred: bool,
}

/// One watch of an epoll.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EpollTarget {
    /// Descriptor number it was added with.
    pub fd: i32,
    /// Id of the open file description that it watches; 0 = that of `fd` (images of the peer do not say).
    pub file: FileId,
    /// `EPOLL*` events, with flags.
    pub events: u32,
    /// User data.
    pub data: u64,
    /// Device of the file, as fdinfo tells it.
    pub dev: u32,
    /// Inode of the file.
    pub inode: u64,
    /// Offset of the file.
    pub pos: u64,
}

/// timerfd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimerFd {
    /// Clock.
    pub clock: i32,
    /// Expirations not yet read.
    pub ticks: u64,
    /// Flags of `timerfd_settime`.
    pub settime_flags: u32,
    /// Period and time left (absolute timers too: the kernel tells what is left).
    pub spec: Interval,
}

/// signalfd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SignalFd {
    /// Signals it reads.
    pub mask: u64,
}

/// pidfd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidFd {
    /// The process or thread of the tree that it refers to; `None` = one that is gone.
    pub of: Option<i32>,
    /// Inode, low 32 bits: the same for all of one process, also of one that is gone.
    pub ino: u32,
    /// How one that is gone has ended, as `wait(2)` tells it; `None` = not known.
    pub exit_status: Option<u32>,
}

/// An open file description of a POSIX message queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueFile {
    /// Which of [`super::Snapshot::posix_queues`].
    pub queue: u32,
    /// Path by which it was opened, where it was not by `mq_open`.
    pub path: Vec<u8>,
}

/// A memfd's open file description.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemfdFile {
    /// Which inode of [`super::Snapshot::memfds`].
    pub inode_id: u32,
    /// Offset.
    pub pos: u64,
}

/// A memfd's inode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemfdInode {
    /// Its id.
    pub id: u32,
    /// Name given to `memfd_create`, without the kernel's `/memfd:`.
    pub name: Vec<u8>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Content: id in [`super::Snapshot::shared`].
    pub shmid: u64,
    /// `F_GET_SEALS`.
    pub seals: u32,
    /// `MFD_HUGETLB` with its size flags; 0 = none.
    pub hugetlb_flag: u32,
    /// Mode with type bits.
    pub mode: Option<u32>,
}

impl TimerFd {
    /// Returns whether it is armed.
    pub fn is_armed(&self) -> bool {
        self.spec != Interval::default()
    }
}

impl FileKind {
    /// Returns the node in the file system by whose path it is found, if that is how.
    pub fn node(&self) -> Option<&RegularFile> {
        match self {
            Self::Regular(regular) => Some(regular),
            Self::Device(device) => Some(&device.node),
            Self::Fifo(fifo) => Some(&fifo.node),
            Self::Terminal(terminal) => Some(&terminal.node),
            Self::Tun(tun) => Some(&tun.node),
            _ => None,
        }
    }

    /// As [`FileKind::node`], to change it.
    pub fn node_mut(&mut self) -> Option<&mut RegularFile> {
        match self {
            Self::Regular(regular) => Some(regular),
            Self::Device(device) => Some(&mut device.node),
            Self::Fifo(fifo) => Some(&mut fifo.node),
            Self::Terminal(terminal) => Some(&mut terminal.node),
            Self::Tun(tun) => Some(&mut tun.node),
            _ => None,
        }
    }

    /// Returns the files that it watches for changes.
    pub fn watched(&self) -> Vec<&Watched> {
        match self {
            Self::Inotify(inotify) => inotify.watches.iter().map(|watch| &watch.on).collect(),
            Self::Fanotify(fanotify) => fanotify.inodes().collect(),
            _ => Vec::new(),
        }
    }

    /// As [`FileKind::watched`], to change them.
    pub fn watched_mut(&mut self) -> Vec<&mut Watched> {
        match self {
            Self::Inotify(inotify) => inotify
                .watches
                .iter_mut()
                .map(|watch| &mut watch.on)
                .collect(),
            Self::Fanotify(fanotify) => {
                let marks = fanotify.marks.iter_mut();
                let inodes = marks.filter_map(|mark| match &mut mark.on {
                    Marked::Inode(watched) => Some(watched),
                    _ => None,
                });
                inodes.collect()
            }
            _ => Vec::new(),
        }
    }
}
