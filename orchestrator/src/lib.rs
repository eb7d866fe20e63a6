//! Checkpoint and restore for Linux.

pub mod blobs;
pub mod build_id;
pub mod cli;
pub mod dump;
pub mod error;
pub mod external;
pub mod image;
pub mod infect;
pub mod keeper;
pub mod kernel;
pub mod lazy;
pub mod memory;
pub mod netlink;
pub mod network;
pub mod objects;
pub mod page_server;
pub mod plan;
pub mod procfs;
pub mod restore;
pub mod snapshot;
pub mod stages;
pub mod support;
pub mod sys;
pub mod tracee;
pub mod wire;
