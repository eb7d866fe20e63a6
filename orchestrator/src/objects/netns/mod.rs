//! Network namespaces: links, addresses, routes, rules, neighbours and settings.
//!
//! What the kernel tells of most of it by rtnetlink it takes back as it is, so it is kept as the kernel's own bytes. A link is
//! known by its kind; one of a kind that is not in [`kinds`] is refused.

pub mod collect;
pub mod filters;
pub mod kinds;
pub mod links;
pub mod plan;
pub mod present;
pub mod refuse;
