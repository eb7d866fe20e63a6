//! Checkpoint and restore for Linux.

pub mod blobs;
pub mod build_id;
pub mod cli;
pub mod dump;
pub mod error;
pub mod image;
pub mod infect;
pub mod kernel;
pub mod memory;
pub mod netlink;
pub mod objects;
pub mod plan;
pub mod procfs;
pub mod restore;
pub mod snapshot;
pub mod support;
pub mod sys;
pub mod tracee;
