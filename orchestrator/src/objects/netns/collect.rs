//! From the kernel to the fact, by a thread that is in the namespace. What cannot be kept of it is refused by name.

use super::kinds::{self, making};
use super::present;
use crate::netlink::nft;
use crate::netlink::raw::{self, Asker};
use crate::snapshot::{Link, NetNamespace};
use netlink_sys::protocols::NETLINK_XFRM;
use std::io;

/// `XFRM_MSG_GETSA` and `XFRM_MSG_GETPOLICY`.
const GET_STATES: u16 = 0x12;
const GET_POLICIES: u16 = 0x15;
/// Bytes of `struct tcmsg`.
const OF_QDISC: usize = 20;

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
    refuse_queues(&asker, &links, refused)?;
    refuse_next_hops(&asker, refused);
    refuse_transformations(refused);
    refuse_filters(refused);
    Ok(NetNamespace {
        id,
        links,
        addresses: present::addresses(&asker)?,
        routes: present::routes(&asker)?,
        rules: present::rules(&asker)?,
        neighbours: present::neighbours(&asker)?,
        settings: present::settings()?,
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

/// Refuses queues that somebody has chosen: those that a link gets by itself have no number.
fn refuse_queues(asker: &Asker, links: &[Link], refused: &mut Vec<Refused>) -> io::Result<()> {
    for queue in asker.all(present::GET_QDISC, &[0; OF_QDISC])? {
        let word = |at: usize| queue.body.get(at..).and_then(raw::number).unwrap_or(0);
        let (index, handle) = (word(4), word(8));
        if handle == 0 {
            continue;
        }
        let link = links.iter().find(|link| link.index == index);
        let kind = queue
            .body
            .get(OF_QDISC..)
            .and_then(|rest| raw::find(rest, 1));
        let kind = raw::name(kind.unwrap_or_default());
        let reason = format!(
            "its queueing discipline {} is not kept yet",
            String::from_utf8_lossy(&kind)
        );
        refused.push((link.map_or_else(String::new, Link::words), reason));
    }
    Ok(())
}

fn refuse_next_hops(asker: &Asker, refused: &mut Vec<Refused>) {
    // A kernel without has none.
    let all = asker
        .all(present::GET_NEXT_HOP, &[0; 8])
        .unwrap_or_default();
    if !all.is_empty() {
        let reason = format!("{} objects of next hops are not kept yet", all.len());
        refused.push(("network namespace".into(), reason));
    }
}

/// Refuses IPsec.
fn refuse_transformations(refused: &mut Vec<Refused>) {
    let Ok(asker) = Asker::open(NETLINK_XFRM) else {
        return;
    };
    for (kind, what) in [(GET_STATES, "states"), (GET_POLICIES, "policies")] {
        if asker.all(kind, &[]).is_ok_and(|all| !all.is_empty()) {
            let reason = format!("{what} of IPsec are not kept yet");
            refused.push(("network namespace".into(), reason));
        }
    }
}

/// Refuses rules for packets.
fn refuse_filters(refused: &mut Vec<Refused>) {
    if let Ok(tables) = nft::all_tables()
        && !tables.is_empty()
    {
        let reason = format!(
            "the tables {} of nftables are not kept yet",
            tables.join(", ")
        );
        refused.push(("network namespace".into(), reason));
    }
    for family in ["ip", "ip6", "arp"] {
        let path = format!("/proc/thread-self/net/{family}_tables_names");
        let names = std::fs::read_to_string(path).unwrap_or_default();
        if !names.is_empty() {
            let names: Vec<&str> = names.split_whitespace().collect();
            let reason = format!(
                "the tables {} of {family}tables are not kept yet",
                names.join(", ")
            );
            refused.push(("network namespace".into(), reason));
        }
    }
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
