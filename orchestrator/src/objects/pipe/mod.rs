//! Pipes and what they hold.

pub mod collect;
pub mod image;
pub mod plan;
