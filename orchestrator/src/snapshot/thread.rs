//! A thread: registers and whatever else the kernel keeps per task_struct.

use super::signal::QueuedSignal;
use super::task::{Creds, Fs};

/// One thread of a task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Thread {
    /// Thread id.
    pub tid: i32,
    /// Name (`comm`), without the trailing newline.
    pub comm: Vec<u8>,
    /// Registers.
    pub arch: Arch,
    /// `set_tid_address` / `CLONE_CHILD_CLEARTID` address; 0 = none.
    pub clear_child_tid: u64,
    /// Blocked signals; bit n-1 is signal n.
    pub blocked: u64,
    /// Signals pending for this thread alone, oldest first.
    pub pending: Vec<QueuedSignal>,
    /// Alternate signal stack; `None` where none was ever set.
    pub altstack: Option<SigAltStack>,
    /// Robust-futex list; `None` where none is registered.
    pub robust_list: Option<RobustList>,
    /// Restartable-sequence registration.
    pub rseq: Option<Rseq>,
    /// Scheduling.
    pub sched: Sched,
    /// CPU affinity, bit n of byte n/8 = CPU n; empty = not recorded.
    pub affinity: Vec<u8>,
    /// `ioprio_get`; `None` = not recorded.
    pub ioprio: Option<u32>,
    /// Timer slack in nanoseconds; `None` = not recorded.
    pub timerslack_ns: Option<u64>,
    /// `PR_SET_PDEATHSIG`; 0 = none.
    pub pdeath_signal: u32,
    /// Credentials.
    pub creds: Creds,
    /// Seccomp mode.
    pub seccomp: SeccompMode,
    /// Working directory, root and umask of its own; `None` = the process's.
    pub fs: Option<Fs>,
    /// NUMA policy of the thread; `None` = default or not recorded.
    pub mempolicy: Option<MemPolicy>,
    /// Syscall user dispatch, where on.
    pub syscall_dispatch: Option<SyscallDispatch>,
    /// `PR_GET_SPECULATION_CTRL` for store bypass, indirect branch and L1D flush, where settable per task.
    pub speculation: [Option<u32>; 3],
    /// `PR_MCE_KILL_GET`: 0 late, 1 early, 2 default.
    pub mce_kill: Option<u32>,
    /// `PR_GET_TSC`: 1 enabled, 2 SIGSEGV.
    pub tsc_mode: Option<u32>,
    /// `PR_GET_IO_FLUSHER`; the kernel tells only those who could set it.
    pub io_flusher: Option<bool>,
    /// `ARCH_GET_CPUID` is 0: CPUID raises SIGSEGV.
    pub cpuid_faults: bool,
    /// Features of dynamic xstate that the process asked for (`ARCH_GET_XCOMP_PERM`); 0 = not recorded.
    pub xcomp_permission: u64,
}

/// Registers of an architecture. Images are tagged by it, so that a foreign image can be read and refused by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Arch {
    /// Not recorded (the dead have none).
    #[default]
    None,
    /// x86-64.
    X86_64 {
        /// General registers in the order of `user_regs_struct`.
        regs: Box<arch::regs::Regs>,
        /// XSAVE area in the standard format, as `NT_X86_XSTATE` gives and takes it.
        xstate: Vec<u8>,
        /// Entries of the GDT's TLS slots (`user_desc`: entry, base, limit, flags), as `PTRACE_GET_THREAD_AREA` gives them.
        tls: Vec<[u32; 4]>,
    },
    /// One that this build cannot run; its name in the image.
    Foreign(String),
}

/// `sigaltstack`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SigAltStack {
    /// Lowest address.
    pub sp: u64,
    /// Size in bytes.
    pub size: u64,
    /// `SS_*` flags, without `SS_ONSTACK`.
    pub flags: u32,
}

/// `set_robust_list`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RobustList {
    /// Address of the head.
    pub head: u64,
    /// Its size in bytes.
    pub len: u32,
}

/// `rseq` registration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rseq {
    /// Address of `struct rseq`.
    pub addr: u64,
    /// Its registered size in bytes.
    pub size: u32,
    /// Signature before abort handlers.
    pub signature: u32,
    /// Value of its `rseq_cs` field at the dump; 0 outside of a critical section.
    pub critical_section: u64,
}

/// `sched_getattr` and the nice value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sched {
    /// `SCHED_*`.
    pub policy: u32,
    /// Nice value, -20..=19.
    pub nice: i32,
    /// Static priority of real-time policies.
    pub priority: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Runtime, deadline and period of `SCHED_DEADLINE`, in nanoseconds.
    pub deadline: [u64; 3],
    /// Utilisation clamps; `None` = not set or not supported.
    pub uclamp: Option<[u32; 2]>,
}

/// `PR_GET_SECCOMP`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SeccompMode {
    /// Off.
    #[default]
    Off,
    /// Strict.
    Strict,
    /// Under the chain of filters that ends with number n of the image's list.
    Filter(u32),
}

/// A filter of seccomp.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeccompFilter {
    /// The filter of the image's list that it was added to, which comes before it; `None` = it is the first of its chain.
    pub prev: Option<u32>,
    /// Its program: `struct sock_filter`, 8 bytes each.
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`, as far as the kernel tells them.
    pub flags: u32,
}

/// `get_mempolicy`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemPolicy {
    /// `MPOL_*` with mode flags.
    pub mode: u32,
    /// Node mask, bit n of byte n/8 = node n.
    pub nodes: Vec<u8>,
}

/// `PR_SET_SYSCALL_USER_DISPATCH`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyscallDispatch {
    /// Mode (1 = on).
    pub mode: u64,
    /// Start of the code range that is let through.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Address of the selector byte.
    pub selector: u64,
}
