//! seccomp: strict mode, and filters in chains.

pub mod collect;
pub mod image;
pub mod plan;
