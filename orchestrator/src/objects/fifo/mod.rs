//! Named pipes.

pub mod image;
