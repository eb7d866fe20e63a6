//! Dispositions, blocked and pending signals, alternate stacks.

pub mod collect;
pub mod image;
pub mod plan;
