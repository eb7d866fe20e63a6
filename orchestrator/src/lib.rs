//! Checkpoint and restore for Linux.

pub mod objects;
pub mod snapshot;
