//! pidfd: a descriptor of a process, of a thread, or of one that is gone.

pub mod image;
pub mod plan;
