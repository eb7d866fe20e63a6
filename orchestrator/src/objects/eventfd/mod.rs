//! eventfd.

pub mod collect;
pub mod image;
pub mod plan;
