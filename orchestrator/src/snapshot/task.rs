//! A task (a process: what its threads share) and what it owns beside memory and files.

use super::file::{FdEntry, FileId};
use super::memory::Mm;
use super::signal::{QueuedSignal, SigAction};
use super::thread::Thread;
use super::timer::{IntervalTimers, PosixTimer};

/// One process of the tree. Pids are those inside the innermost pid namespace that was dumped.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Task {
    /// Process id.
    pub pid: i32,
    /// Parent's process id; 0 for the root of the tree.
    pub ppid: i32,
    /// Process group.
    pub pgid: i32,
    /// Session.
    pub sid: i32,
    /// Whether it ran, stood stopped or was dead.
    pub state: TaskState,
    /// Exit status as `wait` reports it, for the dead.
    pub exit_code: u32,
    /// Device number of its controlling terminal, 0 = none; `None` = not recorded: that of its session.
    pub terminal: Option<u32>,
    /// Signal that its end sends its parent, 0 for none; `None` = SIGCHLD.
    pub exit_signal: Option<u32>,
    /// Execution domain and flags of `personality(2)`.
    pub personality: u32,
    /// Task flags as the image keeps them (`PF_*` of `/proc/PID/stat`).
    pub flags: u32,
    /// Name of the leader (`comm`), without the trailing newline.
    pub comm: Vec<u8>,
    /// Namespaces and shared structures, as ids within the image set.
    pub ids: TaskIds,
    /// Address space; `None` for the dead.
    pub mm: Option<Mm>,
    /// Working directory, root and umask; `None` for the dead.
    pub fs: Option<Fs>,
    /// Descriptors, ascending.
    pub fds: Vec<FdEntry>,
    /// Dispositions of signals 1..=64, in order; SIGKILL and SIGSTOP are default.
    pub sigactions: Vec<SigAction>,
    /// Signals pending for the whole process, oldest first.
    pub pending: Vec<QueuedSignal>,
    /// `setitimer` timers.
    pub interval_timers: IntervalTimers,
    /// `timer_create` timers, by ascending id.
    pub posix_timers: Vec<PosixTimer>,
    /// Resource limits, by their `RLIMIT_*` numbers.
    pub rlimits: Vec<Limit>,
    /// `/proc/PID/loginuid`; `None` where unset or unknown.
    pub loginuid: Option<u32>,
    /// `/proc/PID/oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// `PR_SET_CHILD_SUBREAPER`.
    pub child_subreaper: bool,
    /// Bits of `MEMBARRIER_CMD_REGISTER_*` that are registered.
    pub membarrier: u32,
    /// Signal that stopped the process, for [`TaskState::Stopped`].
    pub stop_signal: Option<u32>,
    /// `/proc/PID/coredump_filter`.
    pub coredump_filter: Option<u32>,
    /// Nice value of the task's autogroup.
    pub autogroup_nice: Option<i32>,
    /// `PR_GET_MDWE` bits.
    pub mdwe: Option<u32>,
    /// `PR_GET_MEMORY_MERGE`.
    pub memory_merge: Option<bool>,
    /// Threads, the leader (tid = pid) first.
    pub threads: Vec<Thread>,
}

/// Whether a task ran when the snapshot was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TaskState {
    /// Running or sleeping.
    #[default]
    Alive,
    /// Exited, not yet waited for.
    Zombie,
    /// In a group stop.
    Stopped,
}

/// Ids of structures and namespaces within an image set; 0 = not recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskIds {
    /// Address space.
    pub vm: u32,
    /// Descriptor table; names the `fdinfo-` image.
    pub files: u32,
    /// Working directory and root.
    pub fs: u32,
    /// Signal handlers.
    pub sighand: u32,
    /// Pid namespace.
    pub pid_ns: u32,
    /// Network namespace.
    pub net_ns: u32,
    /// IPC namespace.
    pub ipc_ns: u32,
    /// UTS namespace.
    pub uts_ns: u32,
    /// Mount namespace.
    pub mnt_ns: u32,
    /// User namespace.
    pub user_ns: u32,
    /// Cgroup namespace.
    pub cgroup_ns: u32,
    /// Time namespace; names the `timens-` image where that is not the root one's 0.
    pub time_ns: u32,
}

/// What `fs_struct` holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fs {
    /// Open file description (a directory) of the working directory.
    pub cwd: FileId,
    /// Open file description of the root directory.
    pub root: FileId,
    /// File mode creation mask.
    pub umask: u32,
}

/// A soft and hard resource limit; `u64::MAX` = unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// Credentials of one thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Creds {
    /// Real, effective, saved and file-system user id.
    pub uids: [u32; 4],
    /// Real, effective, saved and file-system group id.
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Inheritable capabilities.
    pub cap_inheritable: u64,
    /// Permitted capabilities.
    pub cap_permitted: u64,
    /// Effective capabilities.
    pub cap_effective: u64,
    /// Bounding set.
    pub cap_bounding: u64,
    /// Ambient capabilities.
    pub cap_ambient: u64,
    /// `PR_GET_SECUREBITS`.
    pub securebits: u32,
    /// `PR_GET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// Label of a security module, where one is active.
    pub lsm_profile: Option<Vec<u8>>,
}
