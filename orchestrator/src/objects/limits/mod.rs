//! Resource limits.

pub mod collect;
pub mod image;
pub mod plan;
