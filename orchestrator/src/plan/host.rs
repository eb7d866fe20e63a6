//! What the planner has to know of the machine it plans for. The caller probes it; the planner asks nobody.

use std::collections::{BTreeMap, BTreeSet};

use crate::objects::aio::RingState;
use crate::snapshot::{Creds, Limit, PAGE_SIZE};

/// Address after the last that a task may map, with 4-level page tables (`TASK_SIZE_MAX`, `asm/page_64_types.h`).
pub const TASK_SIZE: u64 = (1 << 47) - PAGE_SIZE;

/// Number of resource limits (`RLIM_NLIMITS`).
pub const LIMITS: usize = 16;

/// This machine, this kernel, and the process that restores.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    /// Bytes of the restorer blob, whole pages.
    pub blob_len: u64,
    /// `vm.mmap_min_addr`.
    pub mmap_min_addr: u64,
    /// The kernel's vDSO.
    pub vdso: Vdso,
    /// Code of the vDSO of the dumped tasks, by pid, where its pages are stored: read by the caller out of the page files.
    pub dumped_vdso: BTreeMap<i32, VdsoCode>,
    /// `PR_TIMER_CREATE_RESTORE_IDS` is known (Linux 6.15).
    pub timer_restore_ids: bool,
    /// Anonymous memory can be named (`PR_SET_VMA_ANON_NAME`, `CONFIG_ANON_VMA_NAME`).
    pub has_area_names: bool,
    /// It may suspend the seccomp filters of what it traces.
    pub may_suspend_seccomp: bool,
    /// Credentials of the process that restores, which the restored tasks start with.
    pub creds: Creds,
    /// Its session.
    pub sid: i32,
    /// Its process group.
    pub pgid: i32,
    /// Its resource limits, by their `RLIMIT_*` numbers.
    pub rlimits: [Limit; LIMITS],
    /// Its `oom_score_adj`, which is also the least that it may set without CAP_SYS_RESOURCE.
    pub oom_score_adj: i32,
    /// Its `loginuid`; `None` where unset or unknown.
    pub loginuid: Option<u32>,
    /// Its CPU affinity, bit n of byte n/8 = CPU n; empty = unknown.
    pub affinity: Vec<u8>,
    /// Sessions get autogroups as they begin (`kernel.sched_autogroup_enabled`).
    pub has_autogroup: bool,
    /// Path of its controlling terminal, where it has one.
    pub terminal: Option<Vec<u8>>,
    /// Indices of pseudo-terminals that are in use.
    pub ptys: BTreeSet<u32>,
    /// Highest capability that the kernel knows (`/proc/sys/kernel/cap_last_cap`).
    pub last_cap: u32,
    /// A folder that nobody has, for names of sockets whose files are gone.
    pub hidden: Vec<u8>,
    /// `fs.pipe-max-size`, in bytes.
    pub pipe_max_size: u32,
    /// `fs.inotify.max_queued_events`; 0 = the kernel has no inotify.
    pub inotify_max_events: u32,
    /// State components that the kernel saves and restores (XCR0).
    pub xcr0: u64,
    /// State of each ring of asynchronous I/O, by its task and address: read by the caller out of the page files.
    pub rings: BTreeMap<(i32, u64), RingState>,
    /// Interfaces of the network by name, and their indices: those that the snapshot has to have.
    pub interfaces: BTreeMap<Vec<u8>, u32>,
    /// Segments of System V shared memory that are there, where the snapshot has any.
    pub segments: Vec<HostSegment>,
    /// POSIX message queues that are there, of those that have the name of one of the snapshot.
    pub queues: Vec<HostQueue>,
}

/// A POSIX message queue that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostQueue {
    /// Its name, without the `/`.
    pub name: Vec<u8>,
    /// Its inode.
    pub inode: u64,
    /// Last change, in nanoseconds since 1970.
    pub changed_ns: i64,
    /// Most messages.
    pub max_messages: u64,
    /// Most bytes of a message.
    pub message_size: u64,
    /// Messages in it.
    pub messages: u64,
    /// A process that has it open.
    pub opener: Option<i32>,
}

/// A segment of System V shared memory that is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostSegment {
    /// Its id.
    pub id: u32,
    /// Its key.
    pub key: u32,
    /// Its size in bytes.
    pub size: u64,
    /// Process that made it.
    pub creator: i32,
    /// When it was made or its owner or mode changed, in seconds since 1970.
    pub changed: i64,
    /// Attachments.
    pub attached: u64,
}

/// A vDSO as the kernel maps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vdso {
    /// Bytes of all its data areas (`[vvar]`, `[vvar_vclock]`), which are neighbours.
    pub data_len: u64,
    /// Whether the data lies below the code, as on x86.
    pub data_first: bool,
    /// Its code.
    pub code: VdsoCode,
}

/// Code of a vDSO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VdsoCode {
    /// The area's bytes, whole pages.
    pub bytes: Vec<u8>,
    /// Functions by name: offsets into the area.
    pub symbols: BTreeMap<Vec<u8>, u64>,
}

/// `CAP_SYS_RESOURCE` (`include/uapi/linux/capability.h`).
const CAP_SYS_RESOURCE: u32 = 24;

impl Host {
    /// Returns whether the process that restores may raise limits.
    pub fn has_sys_resource(&self) -> bool {
        self.creds.cap_effective & (1 << CAP_SYS_RESOURCE) != 0
    }
}

impl Vdso {
    /// Returns the bytes of data and code together.
    pub fn len(&self) -> u64 {
        self.data_len + self.code.bytes.len() as u64
    }

    /// Returns whether this kernel maps none (`vdso=0`).
    pub fn is_empty(&self) -> bool {
        self.code.bytes.is_empty()
    }

    /// Returns the offset of the code from the first address.
    pub fn code_offset(&self) -> u64 {
        if self.data_first { self.data_len } else { 0 }
    }
}
