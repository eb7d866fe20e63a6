//! Kinds of links that are kept.

use crate::snapshot::Link;

/// How a link of a kind is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Making {
    /// It is there, in every namespace.
    There,
}

/// Returns how a link is made again; `None` = its kind is not kept.
pub fn making(link: &Link) -> Option<Making> {
    if link.is_loopback() {
        return Some(Making::There);
    }
    None
}
