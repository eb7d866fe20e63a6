//! Semaphores and message queues of System V, and the settings of an IPC namespace.

pub mod plan;
