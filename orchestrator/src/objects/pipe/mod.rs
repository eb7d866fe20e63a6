//! Pipes and what they hold.

pub mod image;
pub mod plan;
