//! timerfd.

pub mod image;
pub mod plan;
