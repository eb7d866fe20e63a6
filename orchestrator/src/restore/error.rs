//! Why a restore failed. After each of these nothing of the tree is left, and the images are as they were.

use nix::errno::Errno;

use crate::plan::Refusal;
use crate::{image, kernel, procfs, sys};

/// Result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Why there is no restored tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The images cannot be read.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The images hold what cannot be restored here.
    #[error("{}", list(.0))]
    Refused(Vec<Refusal>),
    /// This system did not say what a restore has to know.
    #[error("cannot learn what this system is like")]
    Kernel(#[from] kernel::Error),
    /// A pid of the tree is somebody else's.
    #[error(
        "pid {pid} is taken by {name}; end that process (and have its parent take its status), or restore in a pid namespace of its own"
    )]
    PidTaken {
        /// The pid.
        pid: i32,
        /// Name of who has it.
        name: String,
    },
    /// A pid of the tree cannot be asked for.
    #[error(
        "cannot make a process with pid {pid}; restore as root, or with CAP_CHECKPOINT_RESTORE"
    )]
    PidRefused {
        /// The pid.
        pid: i32,
        /// Why.
        #[source]
        source: sys::Error,
    },
    /// A deleted file cannot be made again.
    #[error("cannot make the deleted file {path} again")]
    Ghost {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file of a socket's name is in the way, or its folder cannot be made.
    #[error("cannot make room for the socket {path}")]
    SocketName {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody who has a word.
    #[error(transparent)]
    Stage(#[from] crate::stages::Error),
    /// What is watched cannot be found.
    #[error("cannot find the file that is watched, inode {inode}, by its handle")]
    Watched {
        /// Its inode.
        inode: u64,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Memory that comes later.
    #[error(transparent)]
    Lazy(#[from] crate::lazy::Error),
    /// The network namespace of the tree cannot be made as it was.
    #[error("cannot make the {object} of the network namespace")]
    Network {
        /// What of it.
        object: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The network stays locked.
    #[error("cannot unlock the network")]
    NetworkLock(#[source] std::io::Error),
    /// A connection cannot go on.
    #[error("task {task}: {object}: cannot {what}")]
    Connection {
        /// The process.
        task: i32,
        /// The descriptor.
        object: String,
        /// What was being done.
        what: &'static str,
        /// Why.
        #[source]
        source: sys::Error,
    },
    /// An operation of the plan failed.
    #[error("{object}: {operation}: {}", reason(*result))]
    Operation {
        /// What it was for.
        object: String,
        /// It, with its arguments.
        operation: String,
        /// What came of it: a negative error number, or a value that was not the planned one.
        result: i64,
    },
    /// A process of the tree ended while it was being restored.
    #[error("pid {pid} ended by {cause} while it was at: {at}")]
    Ended {
        /// The process.
        pid: i32,
        /// Signal or status, in words.
        cause: String,
        /// Object and operation that it stood at.
        at: String,
    },
    /// A part of `/proc` cannot be read.
    #[error("cannot look at the restored tree")]
    Proc(#[from] procfs::Error),
    /// Pages of a restored tree cannot be looked at.
    #[error(transparent)]
    Memory(#[from] crate::memory::Error),
    /// We could not do our own part.
    #[error("cannot {doing}")]
    Call {
        /// What it was.
        doing: &'static str,
        /// Why.
        #[source]
        source: sys::Error,
    },
    /// The kernel did not put the tree into its time namespace.
    #[error(
        "this kernel keeps the host's clocks across the execution of a program; restore with host clocks"
    )]
    Clocks,
}

/// Names what was being done when a system call failed.
pub(super) trait Doing<T> {
    /// Turns the error of a call into ours.
    fn doing(self, doing: &'static str) -> Result<T>;
}

impl<T> Doing<T> for sys::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(|source| Error::Call { doing, source })
    }
}

/// Returns the words for the result of a failed operation.
fn reason(result: i64) -> String {
    if arch::abi::program::is_error(result) {
        Errno::from_raw(-result as i32).desc().into()
    } else {
        format!("it returned {result:#x}")
    }
}

fn list(refusals: &[Refusal]) -> String {
    let each: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
    format!("cannot be restored here: {}", each.join("; "))
}
