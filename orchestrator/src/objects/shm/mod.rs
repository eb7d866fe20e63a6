//! Segments of System V shared memory.

pub mod image;
pub mod plan;
