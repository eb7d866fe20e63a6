//! Regular files, directories and `O_PATH` descriptors: found again by path.

pub mod collect;
pub mod image;
pub mod plan;
