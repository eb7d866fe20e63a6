//! Pairs of connected Unix sockets without names.

pub mod collect;
pub mod image;
pub mod plan;
