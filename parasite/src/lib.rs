//! Placeholder until the blob's code lands.
#![no_std]
