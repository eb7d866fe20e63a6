//! inotify and what it watches.

pub mod image;
pub mod plan;
