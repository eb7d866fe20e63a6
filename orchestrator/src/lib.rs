//! Checkpoint and restore for Linux.

pub mod blobs;
pub mod image;
pub mod kernel;
pub mod objects;
pub mod plan;
pub mod procfs;
pub mod restore;
pub mod snapshot;
pub mod sys;
