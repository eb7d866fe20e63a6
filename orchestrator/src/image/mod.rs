//! Image sets: a snapshot written to a folder of files in CRIU's format 1.1, and read back from one.
//!
//! Protobuf types stay inside this module and the rooms' `image.rs`. What is written is plain data that was collected;
//! what is read is untrusted, so every length, count, address, path, flag and reference is checked before a
//! [`crate::snapshot::Snapshot`] is given out.

mod check;
mod codec;
mod common;
mod compat;
mod convert;
pub mod dedup;
mod dir;
pub mod error;
mod files;
mod ghosts;
mod ipc;
pub(crate) mod limits;
mod machine;
mod memory;
mod network;
pub mod page_store;
mod pages;
pub mod parents;
pub mod read;
pub mod refuse;
pub mod stats;
pub mod stream;
mod task;
mod thread;
mod tree;
mod vma;
mod working_set;
pub mod write;
mod xstate;

pub use convert::{Form, convert, resolve_inherited};
pub use dedup::{dedup, punch};
pub use error::{Error, Result};
pub use page_store::{PageStore, StoreError};
pub use pages::lazy_ranges;
pub use parents::Previous;
pub use read::{ImageSet, read};
pub use refuse::{Refusal, refusals};
pub use stats::{DumpStats, LiveStats, RestoreStats, write_restore_stats};
pub use stream::receive;
pub use working_set::{read_working_set, write_working_set};
pub use write::{ImageWriter, PreDumpMode, run_id};
