//! What the host and the blobs share.
#![no_std]

pub mod abi;
