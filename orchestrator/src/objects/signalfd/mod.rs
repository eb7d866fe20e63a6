//! signalfd.

pub mod image;
pub mod plan;
