//! POSIX message queues.

pub mod image;
pub mod plan;
