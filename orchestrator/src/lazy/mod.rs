//! Lazy restores: a restored tree runs at once, and its memory comes while it runs.
//!
//! ```text
//! restore                         lazy-pages (daemon)                    guard
//!    |  split: which pages come later   |  split: the same                   |
//!    |  program of each task: makes a userfaultfd, registers its areas       |
//!    |  -- process, userfaultfd ------> | -- userfaultfd ------------------> |
//!    |  <------------------ taken ----- |                                    |
//!    |  commit; -- all are there -----> | serves faults, fills the rest      |
//!    v                                  | -- done, space after space ------> |
//! ```
//!
//! What has to hold: a page that comes later is missing until its bytes are put there, and who touches it waits. Three things
//! could put zeros there instead, and are kept from it:
//!
//! - the restore itself, or the kernel for it: what is written before the tree runs, or where nobody may wait (a thread that ends
//!   clears its id and walks its robust futexes), is read before ([`split`]);
//! - huge pages, which are made whole at the first touch of a part: there are none from the mapping of an area until it is
//!   registered (`PR_SET_THP_DISABLE`), and none in an area that is;
//! - the end of the daemon: the last close of a userfaultfd lets the waiting go on with zeros. So the guard has all of them
//!   too, and ends or stops the tree where the daemon is gone before its time ([`guard`]).
//!
//! What the task does with its memory meanwhile (`fork`, `mremap`, `munmap`, `madvise`) the kernel tells as events, and who does it
//! waits until they are read ([`extents`], [`space`]).

pub mod daemon;
pub mod error;
pub mod extents;
pub mod guard;
pub mod link;
pub mod source;
pub mod space;
pub mod split;

pub use error::Error;
