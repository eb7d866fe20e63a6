//! Checkpoint and restore for Linux.

pub mod snapshot;
