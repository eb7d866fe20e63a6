//! File locks and leases.

pub mod image;
pub mod plan;
