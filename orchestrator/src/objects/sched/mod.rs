//! Scheduling: policy, nice, affinity, I/O priority, timer slack, NUMA policy.

pub mod collect;
pub mod image;
pub mod plan;
