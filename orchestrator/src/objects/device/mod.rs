//! Character devices without state of their own: null, zero, full, random, urandom.

pub mod image;
pub mod plan;
