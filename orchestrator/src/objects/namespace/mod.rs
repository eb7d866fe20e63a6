//! Descriptors of namespaces.

pub mod image;
pub mod plan;
