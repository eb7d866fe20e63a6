//! Interval timers and POSIX timers.

pub mod collect;
pub mod image;
pub mod plan;
