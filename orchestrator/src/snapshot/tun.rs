//! TUN and TAP devices.

use super::file::RegularFile;

/// A descriptor of `/dev/net/tun`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tun {
    /// The node.
    pub node: RegularFile,
    /// The queue of a device that it is; `None` = of none yet.
    pub queue: Option<TunQueue>,
}

/// A queue of a device that outlives its descriptors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TunQueue {
    /// Name of the device.
    pub device: Vec<u8>,
    /// Flags of `TUNSETIFF`.
    pub flags: u16,
    /// Whether it takes no packets (`IFF_DETACH_QUEUE`).
    pub is_detached: bool,
    /// Bytes of the head before each packet.
    pub vnet_header: i32,
    /// Bytes that may wait to be sent; `i32::MAX` = as made.
    pub send_buffer: i32,
}
