//! BPF maps: arrays and hash tables.

pub mod image;
pub mod plan;
