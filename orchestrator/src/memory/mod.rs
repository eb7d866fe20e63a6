//! Memory of a frozen process: which pages have content worth storing, and the ways their bytes take to the page file.
//!
//! [`scan`] asks the kernel what each page is, [`select`] decides what to store (pure), [`drain`] moves the bytes: small
//! amounts by reads of `/proc/PID/mem`, large ones through pipes that the parasite fills by vmsplice. Shared memory goes
//! by its file ([`shared`]), and a page that a child has in common with its parent is stored once ([`frames`]). Which pages were written since an earlier
//! dump is for [`dirty`] to know.

pub mod dirty;
pub mod drain;
pub mod frames;
pub mod output;
mod pipes;
pub mod scan;
pub mod select;
pub mod shared;

use crate::sys;

/// What can go wrong while pages are found and written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel would not say what a page is.
    #[error("cannot scan the pages of process {pid}")]
    Scan {
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: sys::Error,
    },
    /// Pages could not be read.
    #[error("cannot read {pages} pages of process {pid} at {start:#x}")]
    Read {
        /// The process.
        pid: i32,
        /// First address.
        start: u64,
        /// Number of pages.
        pages: u64,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The page file could not be written.
    #[error("cannot write {file}")]
    Write {
        /// Its name.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A page server or a stream failed.
    #[error(transparent)]
    Wire(#[from] crate::wire::Error),
    /// The parasite or a pipe failed.
    #[error("the page pipe of process {pid} failed")]
    Pipe {
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What was found and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pages looked at.
    pub scanned: u64,
    /// Pages written.
    pub written: u64,
    /// Pages left out because they were all zeros.
    pub zero: u64,
    /// Pipes used.
    pub pipes: u64,
}

impl Tally {
    /// Adds what was found and written elsewhere.
    pub fn add(&mut self, other: &Tally) {
        self.scanned += other.scanned;
        self.written += other.written;
        self.zero += other.zero;
        self.pipes = self.pipes.max(other.pipes);
    }
}
