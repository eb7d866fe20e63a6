//! Regular files, directories and `O_PATH` descriptors: found again by path.

pub mod image;
pub mod plan;
pub mod proc;
