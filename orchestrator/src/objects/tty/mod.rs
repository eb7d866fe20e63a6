//! Terminals outside of the tree, kept with `--shell-job`.

pub mod collect;
pub mod image;
pub mod plan;
