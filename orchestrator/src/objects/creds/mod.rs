//! User and group ids, capabilities, securebits, no_new_privs: per thread.

pub mod image;
pub mod plan;
