//! Checkpoint and restore for Linux.
