//! Kinds of links that are kept.

use crate::snapshot::Link;

/// How a link of a kind is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Making {
    /// It is there, in every namespace.
    There,
    /// With what it is connected to, which is of the namespace too.
    Pair,
    /// With what it is connected to, which lies outside.
    Outward,
}

/// Returns how a link is made again; `None` = its kind is not kept.
pub fn making(link: &Link) -> Option<Making> {
    match &link.kind[..] {
        _ if link.is_loopback() => Some(Making::There),
        // Ports are what a bridge tells of, and that is not kept.
        _ if link.master.is_some() => None,
        b"veth" if link.lower_ns.is_some() => Some(Making::Outward),
        b"veth" => Some(Making::Pair),
        _ => None,
    }
}
