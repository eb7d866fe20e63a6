//! Checkpoint and restore for Linux.

pub mod image;
pub mod objects;
pub mod snapshot;
