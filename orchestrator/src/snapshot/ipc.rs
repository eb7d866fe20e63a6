//! System V inter-process communication.

/// What every object of System V has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IpcPerm {
    /// Its id in its namespace.
    pub id: u32,
    /// Its key; 0 = `IPC_PRIVATE`.
    pub key: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// User who made it.
    pub cuid: u32,
    /// Group of who made it.
    pub cgid: u32,
    /// Permissions; of a segment with `SHM_DEST` and `SHM_LOCKED`.
    pub mode: u32,
}

/// `SHM_DEST`: removed, and gone with its last attachment. `SHM_LOCKED`: it stays in memory (`include/uapi/linux/shm.h`).
const SHM_DEST: u32 = 0o1000;
const SHM_LOCKED: u32 = 0o2000;

/// A segment of System V shared memory. Its content is the [`super::SharedMemory`] with its id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShmSegment {
    /// Id, key, owner, mode.
    pub perm: IpcPerm,
    /// Size in bytes.
    pub size: u64,
    /// `SHM_HUGETLB` with the size of its pages as `shmget` takes it; 0 = ordinary pages.
    pub huge: u32,
    /// Process that made it, and when it was made or its owner changed; `None` = not recorded.
    pub made: Option<(i32, i64)>,
}

impl ShmSegment {
    /// Returns whether it has been removed, and goes with its last attachment.
    pub fn is_removed(&self) -> bool {
        self.perm.mode & SHM_DEST != 0
    }

    /// Returns whether it stays in memory.
    pub fn is_locked(&self) -> bool {
        self.perm.mode & SHM_LOCKED != 0
    }
}

/// What the tree's own IPC namespace holds beside segments of shared memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpcNamespace {
    /// Its limits.
    pub settings: IpcSettings,
    /// Sets of semaphores.
    pub semaphores: Vec<SemaphoreSet>,
    /// Queues of messages.
    pub queues: Vec<MessageQueue>,
}

/// Settings of an IPC namespace, by the files of `/proc/sys`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IpcSettings {
    /// `kernel/sem`: semaphores of a set, semaphores, operations of a call, sets.
    pub sem: [u32; 4],
    /// `kernel/msgmax`: bytes of a message.
    pub msgmax: u32,
    /// `kernel/msgmnb`: bytes of a new queue.
    pub msgmnb: u32,
    /// `kernel/msgmni`: queues.
    pub msgmni: u32,
    /// `kernel/auto_msgmni`.
    pub auto_msgmni: u32,
    /// `kernel/shmmax`: bytes of a segment.
    pub shmmax: u64,
    /// `kernel/shmall`: pages of all segments.
    pub shmall: u64,
    /// `kernel/shmmni`: segments.
    pub shmmni: u32,
    /// `kernel/shm_rmid_forced`: a segment goes with its last attachment.
    pub shm_rmid_forced: u32,
    /// `fs/mqueue/queues_max`.
    pub mq_queues_max: u32,
    /// `fs/mqueue/msg_max`.
    pub mq_msg_max: u32,
    /// `fs/mqueue/msgsize_max`.
    pub mq_msgsize_max: u32,
    /// `fs/mqueue/msg_default`; `None` = not recorded.
    pub mq_msg_default: Option<u32>,
    /// `fs/mqueue/msgsize_default`; `None` = not recorded.
    pub mq_msgsize_default: Option<u32>,
}

/// A set of System V semaphores.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SemaphoreSet {
    /// Id, key, owner, mode.
    pub perm: IpcPerm,
    /// Values.
    pub values: Vec<u16>,
}

/// A queue of System V messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageQueue {
    /// Id, key, owner, mode.
    pub perm: IpcPerm,
    /// Most bytes in it (`msg_qbytes`).
    pub capacity: u32,
    /// Messages, the oldest first.
    pub messages: Vec<Message>,
}

/// A message in a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Its type, 1 or more.
    pub kind: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A POSIX message queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PosixQueue {
    /// Its id within the image set.
    pub id: u32,
    /// The name that it has, or had, as the kernel has it: without the `/`.
    pub name: Vec<u8>,
    /// It has no name any more (`mq_unlink`).
    pub is_unlinked: bool,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Most messages in it.
    pub max_messages: u64,
    /// Most bytes of a message.
    pub message_size: u64,
    /// Messages in the order in which they are received.
    pub messages: Vec<PosixMessage>,
    /// Who is told of the next message.
    pub notice: Option<QueueNotice>,
    /// Inode, and when it was changed last in nanoseconds since 1970: what tells it from another of its name, and whether it
    /// is as it was left.
    pub seen: Option<(u64, i64)>,
}

/// A message in a POSIX queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PosixMessage {
    /// Its priority.
    pub priority: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What `mq_notify` asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueNotice {
    /// Process that is told.
    pub pid: i32,
    /// `SIGEV_SIGNAL`, `SIGEV_NONE`.
    pub kind: u32,
    /// The signal; 0 = none.
    pub signal: u32,
}
