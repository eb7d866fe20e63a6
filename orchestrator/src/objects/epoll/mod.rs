//! epoll and what it watches.

pub mod collect;
pub mod image;
pub mod plan;
