//! Sockets of the network: IPv4 and IPv6.

pub mod collect;
pub mod connection;
pub mod datagrams;
pub mod groups;
pub mod image;
pub mod options;
pub mod plan;
pub mod repair;
pub mod segment;
pub mod stream;
