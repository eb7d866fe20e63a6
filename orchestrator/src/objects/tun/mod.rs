//! Descriptors of TUN and TAP devices: opened again, and attached to devices that are there.

pub mod image;
pub mod plan;
