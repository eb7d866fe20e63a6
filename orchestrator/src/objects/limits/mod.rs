//! Resource limits.

pub mod image;
pub mod plan;
