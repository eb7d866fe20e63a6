//! From the kernel to the fact, by a thread that is in the namespace. What cannot be kept of it is refused by name.

use super::kinds::{self, making};
use super::{filters, present, refuse};
use crate::snapshot::{Link, NetNamespace};
use std::io;

/// What is in the way: an object, and the reason.
pub type Refused = (String, String);

/// Returns what is in the namespace that the caller is in, and adds what is not kept of it.
///
/// # Errors
/// The kernel does not tell.
pub fn collect(id: u32, refused: &mut Vec<Refused>) -> io::Result<NetNamespace> {
    let asker = present::open()?;
    let links = in_order(present::links(&asker)?);
    for link in &links {
        if making(link).is_none() {
            refused.push((link.words(), "devices of this kind are not kept yet".into()));
        }
        let master = |one: &&Link| Some(one.index) == link.master;
        if let Some(master) = links.iter().find(master)
            && !kinds::has_ports(&master.kind)
        {
            let reason = format!("it is a port of a {}", master.words());
            refused.push((link.words(), reason));
        }
    }
    refuse::of_links(&asker, &links, refused)?;
    refuse::of_namespace(&asker, refused);
    Ok(NetNamespace {
        id,
        links,
        addresses: present::addresses(&asker)?,
        routes: present::routes(&asker)?,
        rules: present::rules(&asker)?,
        neighbours: present::neighbours(&asker)?,
        settings: present::settings()?,
        filters: filters::collect(refused)?,
    })
}

/// Returns the links, each after those that it lies on or is a port of.
fn in_order(mut left: Vec<Link>) -> Vec<Link> {
    let mut all: Vec<Link> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits = |link: &Link| {
            let below = kinds::below(link);
            let mut others = left.iter().filter(|other| other.index != link.index);
            // Of a pair each is connected to the other.
            others.any(|other| {
                link.master == Some(other.index)
                    || below == Some(other.index) && other.lower != Some(link.index)
            })
        };
        let next = left.iter().position(|link| !waits(link)).unwrap_or(0);
        all.push(left.remove(next));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, lower: Option<u32>, master: Option<u32>) -> Link {
        Link {
            index,
            lower,
            master,
            ..Link::default()
        }
    }

    #[test]
    fn a_link_comes_after_what_it_lies_on_and_its_master() {
        let all = in_order(vec![
            link(1, None, None),
            link(2, Some(3), Some(4)),
            link(3, Some(5), None),
            link(4, None, None),
            link(5, Some(3), None),
        ]);
        let order: Vec<u32> = all.iter().map(|link| link.index).collect();
        let at = |index: u32| order.iter().position(|other| *other == index);
        assert!(at(2) > at(3) && at(2) > at(4), "{order:?}");
        assert_eq!(order.len(), 5);
    }
}
