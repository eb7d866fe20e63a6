//! The planner: a snapshot in, one program per thread out.
//!
//! Pure: no system calls, no `/proc`. What it needs to know of the machine is in [`Host`], what the user wants in
//! [`Settings`]. A plan can be printed, compared and tested without being run; `restore` runs it. All that cannot be
//! restored is refused here, at once and by name, before anything is changed.
//!
//! Theory: descriptor numbers are simulated ([`fds`]), so that each operation that makes one says which number it has to
//! return; addresses are those of the snapshot, and every mapping is made with `MAP_FIXED_NOREPLACE`. So a plan that does
//! not fit the kernel's view fails at the first difference, naming the object, and never quietly makes something else.

pub mod arena;
mod birth;
mod confinement;
mod descriptors;
mod directories;
mod early;
pub mod family;
mod fds;
mod fill;
mod heritage;
mod holes;
pub mod host;
pub mod inherit;
mod inherited;
mod ipc;
pub mod joint;
mod keys;
pub mod lazy;
pub mod mapped;
mod memory;
mod mm;
mod notify;
mod pidfds;
mod pipes;
pub mod print;
mod process;
mod program;
mod queues;
mod readers;
mod refusals;
mod registers;
mod rings;
mod segments;
mod services;
mod sharing;
mod short_lived;
mod sockets;
mod stops;
mod task;
mod terminals;
mod threads;
mod tree;
mod vdso;
mod watches;

pub use arena::{Arena, Layout, ProgramPlace};
pub use host::{Host, Vdso, VdsoCode};
pub use lazy::LazySpace;
pub use program::{Builder, Object, Program};
pub use refusals::{Refusal, Report};
pub use sockets::SocketFiles;

#[cfg(test)]
mod tests;

use crate::snapshot::{Arch, Snapshot, SyscallDispatch, Thread};

/// What the user chose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// `--shell-job`: the tree joins the session, group and terminal of the caller.
    pub shell_job: bool,
    /// The caller waits for the tree in the foreground, and takes its terminal back after it.
    pub foreground: bool,
    /// The monotonic clocks are the host's, and do not go on from where they stood.
    pub host_clocks: bool,
}

/// How to restore a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How the root task is started.
    pub launch: Launch,
    /// Where the arena is, in every task.
    pub arena: Arena,
    /// Where the programs lie in it.
    pub layout: Layout,
    /// One program per thread, the root task's leader first; a program's place is the number of its context.
    pub programs: Vec<Program>,
    /// Bytes of the arena from [`Arena::data`] on.
    pub data: Vec<u8>,
    /// Word at which threads under seccomp wait to be traced, and how many wait there, the tracer counted.
    pub confinement: Option<(u64, u64)>,
    /// Names of the objects by the numbers in the operations.
    pub objects: Vec<Object>,
    /// The final state of each thread, in the order of the programs.
    pub finals: Vec<ThreadFinal>,
    /// What the orchestrator does from outside once all threads are parked and have their registers, in order.
    pub host_steps: Vec<HostStep>,
    /// What of the snapshot is not brought back, in words: told to the user.
    pub not_kept: Vec<String>,
    /// Files of the names of sockets.
    pub socket_files: SocketFiles,
    /// Processes whose memory comes later.
    pub lazy: Vec<LazySpace>,
    /// Names of the POSIX message queues that are made.
    pub queues: Vec<Vec<u8>>,
}

/// How the root task is started: a new process with this pid, all signals blocked, that runs program 0 on the stack of
/// context 0 in an address space that has nothing but the arena to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Its pid.
    pub pid: i32,
    /// Its session, where the leader of that has gone: a process of this number founds it, makes the root and ends.
    pub session: Option<i32>,
    /// What its clocks shall show at the start; `None` = those of the host.
    pub clocks: Option<Clocks>,
    /// It is in a new IPC namespace.
    pub has_own_ipc: bool,
    /// It is in a network namespace that was made for it.
    pub has_own_network: bool,
    /// Descriptors that it has to find.
    pub services: Vec<Service>,
}

/// Values of clocks in a time namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// `CLOCK_MONOTONIC`, in nanoseconds; `None` = the host's.
    pub monotonic_ns: Option<i64>,
    /// `CLOCK_BOOTTIME`, in nanoseconds; `None` = the host's.
    pub boottime_ns: Option<i64>,
}

/// A descriptor that the root task has from its start and that its program closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Its number.
    pub fd: i32,
    /// ID of the page file that it reads (`pages-ID.img`).
    pub pages_id: u32,
}

/// What a parked thread becomes.
#[derive(Debug, Clone, PartialEq)]
pub struct ThreadFinal {
    /// Process that it is a thread of.
    pub pid: i32,
    /// Thread id.
    pub tid: i32,
    /// The arena is unmapped by it: it is the first thread of the first process in its address space.
    pub unmaps: bool,
    /// It runs under seccomp, which a tracer has to suspend before its program adds the filters.
    pub is_confined: bool,
    /// General registers, with an interrupted system call undone.
    pub regs: arch::regs::Regs,
    /// By these it makes a system call first, one that it was in already.
    pub is_in_call: bool,
    /// Places in the snapshot of its task and of itself among the task's threads; see [`ThreadFinal::xstate`].
    pub place: (usize, usize),
    /// Blocked signals.
    pub blocked: u64,
    /// Syscall user dispatch. Set from outside: it would catch the operations of the blob.
    pub syscall_dispatch: Option<SyscallDispatch>,
    /// `PR_SET_PDEATHSIG`, set at the very last: the parent that the task has then is to be the one it keeps. 0 = none.
    pub pdeath_signal: u32,
}

impl ThreadFinal {
    /// Returns whether it is the first thread of its process.
    pub fn is_leader(&self) -> bool {
        self.pid == self.tid
    }

    /// Returns the XSAVE area for `NT_X86_XSTATE`; empty = leave what the thread has. It stays in the snapshot: that of a
    /// thousand threads is 11 MB, and copying it cost more than all of the planning.
    pub fn xstate<'a>(&self, snapshot: &'a Snapshot) -> &'a [u8] {
        let (task, thread) = self.place;
        let threads = snapshot.tasks.get(task).map(|task| &task.threads);
        match threads.and_then(|threads| threads.get(thread)) {
            Some(Thread {
                arch: Arch::X86_64 { xstate, .. },
                ..
            }) => xstate,
            _ => &[],
        }
    }
}

/// Something done to a parked tree from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostStep {
    /// Have this process stopped by a signal before it is let go.
    Stop {
        /// The process.
        pid: i32,
        /// The signal that its parent is told.
        signal: i32,
    },
}

/// Plans the restore of `snapshot`, or says all that stands in the way.
pub fn plan(snapshot: &Snapshot, host: &Host, settings: &Settings) -> Result<Plan, Vec<Refusal>> {
    let mut report = Report::default();
    let plan = tree::plan_tree(snapshot, host, settings, &mut report);
    match plan {
        Some(mut plan) if report.refusals.is_empty() => {
            plan.not_kept = report.not_kept;
            Ok(plan)
        }
        _ => Err(report.refusals),
    }
}
