//! Image sets: a snapshot written to a folder of files in CRIU's format 1.1, and read back from one.
//!
//! Protobuf types stay inside this module and the rooms' `image.rs`. What is written is plain data that was collected;
//! what is read is untrusted, so every length, count, address, path, flag and reference is checked before a
//! [`crate::snapshot::Snapshot`] is given out.

mod check;
mod codec;
mod compat;
mod dir;
pub mod error;
mod files;
mod ghosts;
pub(crate) mod limits;
mod machine;
mod memory;
mod pages;
pub mod read;
pub mod refuse;
pub mod stats;
mod task;
mod thread;
mod tree;
mod vma;
pub mod write;
mod xstate;

pub use error::{Error, Result};
pub use read::{ImageSet, read};
pub use refuse::{Refusal, refusals};
pub use stats::{DumpStats, RestoreStats, write_restore_stats};
pub use write::ImageWriter;
