//! Terminals: pseudo-terminals of which the master is inside of the tree, and those outside, kept with `--shell-job`.

pub mod image;
pub mod plan;
pub mod refill;
