//! What can go wrong with a traced process.

use crate::{procfs, sys};

/// What can go wrong with a traced process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such process.
    #[error("there is no process {0}")]
    Missing(i32),
    /// Another process traces it.
    #[error(
        "process {pid} is traced by process {tracer} already (a debugger or strace; end it first)"
    )]
    Traced {
        /// The target.
        pid: i32,
        /// Its tracer.
        tracer: i32,
    },
    /// It may not be traced.
    #[error("cannot attach to thread {tid}")]
    Attach {
        /// The thread.
        tid: i32,
        /// Why.
        #[source]
        source: sys::Error,
    },
    /// A request failed.
    #[error("thread {tid}: {what}")]
    Request {
        /// The thread.
        tid: i32,
        /// What was being done.
        what: &'static str,
        /// Why.
        #[source]
        source: sys::Error,
    },
    /// It ended meanwhile.
    #[error("thread {0} ended while it was being frozen")]
    Gone(i32),
    /// It does not stop.
    #[error(
        "thread {tid} did not stop within {seconds} s (in uninterruptible sleep?); --timeout allows more"
    )]
    Timeout {
        /// The thread.
        tid: i32,
        /// The limit.
        seconds: u64,
    },
    /// It waits for a child of `vfork`.
    #[error(
        "thread {tid} waits for process {child}, its child by vfork, to execute a program or end, and cannot be stopped before; try again then"
    )]
    Vfork {
        /// The thread.
        tid: i32,
        /// The child.
        child: i32,
    },
    /// The cgroup to freeze.
    #[error("cgroup {path}: {reason}")]
    Cgroup {
        /// Its folder.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Its tree never stands still.
    #[error("the tree of process {0} grows faster than it can be frozen")]
    Restless(i32),
    /// Its vDSO has no `syscall` instruction to borrow.
    #[error("process {0} has no vDSO with a syscall instruction")]
    NoGate(i32),
    /// A remote system call failed.
    #[error("{call} inside process {pid} failed: {}", std::io::Error::from_raw_os_error(*errno))]
    Remote {
        /// The process.
        pid: i32,
        /// The call.
        call: &'static str,
        /// Its error.
        errno: i32,
    },
    /// `/proc` could not be read.
    #[error(transparent)]
    Proc(#[from] procfs::Error),
}
