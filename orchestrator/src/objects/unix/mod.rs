//! Unix sockets.

pub mod collect;
pub mod hidden;
pub mod image;
pub mod plan;
pub mod queue;
