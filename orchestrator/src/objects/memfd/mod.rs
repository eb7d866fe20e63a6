//! memfd: the inode, its content and the descriptors on it.

pub mod image;
pub mod plan;
