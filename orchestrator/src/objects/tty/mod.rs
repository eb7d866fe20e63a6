//! Terminals outside of the tree, kept with `--shell-job`.

pub mod image;
pub mod plan;
