//! Why memory cannot come later, or does not come.

use crate::{image, procfs, sys};
use std::io;

/// Result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The images.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// `/proc`.
    #[error(transparent)]
    Proc(#[from] procfs::Error),
    /// Nobody can be waited for.
    #[error("cannot wait for a restore at {path}")]
    Listen {
        /// The socket.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no daemon.
    #[error(
        "no lazy-pages daemon waits at {path}; start orchestrator lazy-pages first, with the same -W or -D"
    )]
    NoDaemon {
        /// The socket.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something of ours failed.
    #[error("cannot {doing}")]
    Call {
        /// What it was.
        doing: &'static str,
        /// Why.
        #[source]
        source: sys::Error,
    },
    /// The other side of a socket.
    #[error("{0}")]
    Gone(&'static str),
    /// The guard.
    #[error("the process that watches over the lazy memory cannot be started")]
    Guard(#[source] io::Error),
    /// A process that the images do not know.
    #[error("a restore sends memory of process {0}, which the images do not leave to be filled")]
    Unknown(i32),
    /// Bytes of pages.
    #[error("cannot read the pages of process {pid} at {address:#x}")]
    Pages {
        /// Whose.
        pid: i32,
        /// Where.
        address: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A page server.
    #[error(transparent)]
    Server(#[from] crate::wire::Error),
    /// Pages that only the source has, and no way to it.
    #[error(
        "pages of process {0} were left where it was dumped: lazy-pages --page-server --address HOST --port PORT asks there"
    )]
    NoServer(i32),
}

/// Names what was being done when a system call failed.
pub trait Doing<T> {
    /// Turns the error of a call into ours.
    ///
    /// # Errors
    /// There was one.
    fn doing(self, doing: &'static str) -> Result<T>;
}

impl<T> Doing<T> for sys::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(|source| Error::Call { doing, source })
    }
}
