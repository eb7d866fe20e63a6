//! eventfd.

pub mod image;
pub mod plan;
