//! Dirty tracking: which pages of a process were written since a moment, so that a round of dumps writes only those.
//!
//! Two kernels' ways behind one trait: [`wp_async`] (userfaultfd with asynchronous write protection, 6.7 and up) and
//! [`soft_dirty`] (older kernels, where they are built with it). What both promise: a page that is told as unwritten is there,
//! has content of its own, and this content is that of the moment when tracking began. All else counts as written: areas that
//! were made, moved or grown since, pages that were thrown away and came back, what cannot be tracked at all (shared memory),
//! and all of a process that another address space was given (`execve`) or that was made since (`fork`).
//!
//! Neither sees what a device writes to pages that were pinned before: whoever uses them must ask for that (see
//! `dump/tracking.rs`).

pub mod live;
mod part;
pub mod soft_dirty;
pub mod wp_async;

pub use part::{Parted, part};

use super::Error;
use crate::snapshot::{Vma, VmaKind};
use crate::sys::Pid;
use std::os::fd::{BorrowedFd, OwnedFd};

/// `MAP_TYPE`, `MAP_DROPPABLE` (6.11), whose pages are never stored.
const MAP_TYPE: u32 = 0xf;
const MAP_DROPPABLE: u32 = 8;

/// What becomes of tracking after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It begins anew, at the moment of the look.
    Begin,
    /// It goes on as it is.
    GoOn,
}

/// Knows what of one process was written since tracking began.
pub trait Tracker: std::fmt::Debug {
    /// Returns whether a look may be taken at a process that runs.
    fn sees_running(&self) -> bool;

    /// Returns the ranges of pages, by address, that were not written since tracking began, in areas by address. Pages that
    /// come to be meanwhile are not among them: so this look comes before the one that says which pages there are.
    ///
    /// # Errors
    /// The kernel does not answer; nothing is known then.
    fn unwritten(&mut self, areas: &[Vma], next: Next) -> Result<Vec<[u64; 2]>, Error>;

    /// Returns the descriptor that tracking lives by, if it does.
    fn held(&self) -> Option<BorrowedFd<'_>>;
}

/// A way to track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// userfaultfd with asynchronous write protection.
    WpAsync,
    /// Soft-dirty bits.
    SoftDirty,
}

impl Method {
    /// All, the preferred first: soft-dirty bits are one for all who look, and any of them may clear them.
    pub const ALL: [Method; 2] = [Method::WpAsync, Method::SoftDirty];

    /// Returns the one to use on this kernel.
    pub fn of_this_kernel() -> Option<Method> {
        Self::ALL.into_iter().find(|method| method.works())
    }

    /// Returns whether this kernel has it, and we may use it.
    pub fn works(self) -> bool {
        match self {
            Method::WpAsync => wp_async::works(),
            Method::SoftDirty => soft_dirty::works(),
        }
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Method::WpAsync => "wp-async",
            Method::SoftDirty => "soft-dirty",
        }
    }

    /// Returns the one of this name.
    pub fn named(name: &str) -> Option<Method> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Returns a tracker of a process, with the descriptor that this way needs.
    pub fn tracker(self, pid: Pid, held: Option<OwnedFd>) -> Option<Box<dyn Tracker>> {
        match (self, held) {
            (Method::WpAsync, Some(uffd)) => Some(Box::new(wp_async::WpAsync::new(pid, uffd))),
            (Method::SoftDirty, held) => Some(Box::new(soft_dirty::SoftDirty::new(pid, held))),
            (Method::WpAsync, None) => None,
        }
    }
}

/// Returns the ranges of areas, neighbours taken together, whose pages are the process's own, so that nobody else writes them.
fn tracked_ranges(areas: &[Vma]) -> Vec<[u64; 2]> {
    let mut ranges: Vec<[u64; 2]> = Vec::new();
    for vma in areas.iter().filter(|vma| is_tracked(vma)) {
        match ranges.last_mut() {
            Some(last) if last[1] == vma.start => last[1] = vma.end,
            _ => ranges.push([vma.start, vma.end]),
        }
    }
    ranges
}

fn is_tracked(vma: &Vma) -> bool {
    let is_kind = match vma.kind {
        VmaKind::Anonymous | VmaKind::Heap | VmaKind::Stack => true,
        // Code that nobody writes has no pages of its own.
        VmaKind::FilePrivate(_) | VmaKind::Memfd(_) => vma.prot & libc::PROT_EXEC as u32 == 0,
        _ => false,
    };
    is_kind
        && vma.is_private()
        && vma.flags & MAP_TYPE != MAP_DROPPABLE
        && vma.flags & libc::MAP_HUGETLB as u32 == 0
}
