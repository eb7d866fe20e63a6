//! What of a namespace is not kept, by name: it would be lost in silence.

use super::collect::Refused;
use super::present::{self, OF_LINK};
use crate::netlink::raw::{self, Asker, attributes, find};
use crate::snapshot::Link;
use crate::sys::bpf;
use crate::sys::ns::Network;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_XFRM};
use std::io;

/// `XFRM_MSG_GETSA` and `XFRM_MSG_GETPOLICY`.
const GET_STATES: u16 = 0x12;
const GET_POLICIES: u16 = 0x15;
/// `RTM_GETMDB`; bytes of `struct br_port_msg`.
const GET_GROUPS: u16 = 86;
const OF_PORT: usize = 8;
/// `IPSET_CMD_LIST` of the subsystem `NFNL_SUBSYS_IPSET`, and `IPSET_PROTOCOL_MIN`.
const GET_SETS: u16 = 6 << 8 | 7;
const SETS_VERSION: u8 = 6;
/// Bytes of `struct tcmsg`.
const OF_QDISC: usize = 20;
/// `IFLA_XDP`, and `IFLA_XDP_ATTACHED` in it.
const XDP: u16 = 43;
const ATTACHED: u16 = 2;
/// `IFLA_AF_SPEC`, of IPv6 in it, and `IFLA_INET6_TOKEN` in that.
const FAMILIES: u16 = 26;
const TOKEN: u16 = 7;
/// `IFLA_EXT_MASK` with `RTEXT_FILTER_BRVLAN`; `IFLA_BRIDGE_VLAN_INFO`; flags of the VLAN that a port gets by itself.
const WANTED: u16 = 29;
const WITH_VLANS: u32 = 2;
const VLAN: u16 = 2;
const OWN_UNTAGGED: u16 = 2 | 4;
/// `IFLA_BR_VLAN_DEFAULT_PVID`.
const DEFAULT_VLAN: u16 = 39;
/// Places for programs in a namespace: `BPF_FLOW_DISSECTOR`, `BPF_SK_LOOKUP`.
const PROGRAMS: [(u32, &str); 2] = [(17, "takes packets apart"), (36, "chooses sockets")];

/// Refuses what links have that is not kept.
///
/// # Errors
/// The kernel does not tell.
pub fn of_links(asker: &Asker, links: &[Link], refused: &mut Vec<Refused>) -> io::Result<()> {
    refuse_queues(asker, links, refused)?;
    for told in asker.all(present::GET_LINK, &[0; OF_LINK])? {
        let rest = told.body.get(OF_LINK..).unwrap_or_default();
        let index = told.body.get(4..).and_then(raw::number);
        let Some(link) = links.iter().find(|link| Some(link.index) == index) else {
            continue;
        };
        let attached = find(rest, XDP).and_then(|xdp| find(xdp, ATTACHED));
        if attached.is_some_and(|attached| attached != [0]) {
            refused.push((link.words(), "its program of XDP is not kept".into()));
        }
        let of_v6 = find(rest, FAMILIES).and_then(|all| find(all, libc::AF_INET6 as u16));
        let token = of_v6.and_then(|all| find(all, TOKEN)).unwrap_or_default();
        if token.iter().any(|byte| *byte != 0) {
            let reason = "its token for addresses of IPv6 is not kept";
            refused.push((link.words(), reason.into()));
        }
    }
    refuse_vlans(asker, links, refused);
    refuse_groups(asker, links, refused);
    Ok(())
}

/// Refuses what a namespace has beside its links that is not kept.
pub fn of_namespace(asker: &Asker, refused: &mut Vec<Refused>) {
    refuse_next_hops(asker, refused);
    refuse_transformations(refused);
    refuse_sets(refused);
    let Ok(here) = Network::here() else {
        return;
    };
    for (place, what) in PROGRAMS {
        if bpf::programs_at(&here, place).is_ok_and(|count| count > 0) {
            let reason = format!("its program of BPF that {what} is not kept");
            refused.push(("network namespace".into(), reason));
        }
    }
}

/// Returns how many connections the namespace that the caller is in knows of those that went through it.
pub fn tracked_connections() -> u32 {
    // A kernel that does not track has none.
    let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
    count.map_or(0, |count| count.trim().parse().unwrap_or(0))
}

/// Refuses VLANs of bridges and ports that are not those that they get by themselves.
fn refuse_vlans(asker: &Asker, links: &[Link], refused: &mut Vec<Refused>) {
    let mut body = vec![0; OF_LINK];
    body[0] = libc::AF_BRIDGE as u8;
    body.extend(raw::attribute(WANTED, &WITH_VLANS.to_ne_bytes()));
    // A kernel without bridges has none.
    for told in asker.all(present::GET_LINK, &body).unwrap_or_default() {
        let index = told.body.get(4..).and_then(raw::number);
        let Some(link) = links.iter().find(|link| Some(link.index) == index) else {
            continue;
        };
        let master = links.iter().find(|one| Some(one.index) == link.master);
        let default = find(&master.unwrap_or(link).data, DEFAULT_VLAN);
        let default = default.map_or([0, 0], |id| [id[0], id[id.len() - 1]]);
        let own = [OWN_UNTAGGED.to_ne_bytes(), default].concat();
        let rest = told.body.get(OF_LINK..).unwrap_or_default();
        let all = attributes(find(rest, FAMILIES).unwrap_or_default());
        let vlans: Vec<&[u8]> = all
            .filter(|(kind, _)| *kind == VLAN)
            .map(|(_, value)| value)
            .collect();
        let is_own = match vlans[..] {
            [] => true,
            [vlan] => vlan == own && default != [0, 0],
            _ => false,
        };
        if !is_own {
            let reason = "its VLANs in a bridge are not kept yet";
            refused.push((link.words(), reason.into()));
        }
    }
}

/// Refuses groups that somebody has made ports members of.
fn refuse_groups(asker: &Asker, links: &[Link], refused: &mut Vec<Refused>) {
    let mut body = [0; OF_PORT];
    body[0] = libc::AF_BRIDGE as u8;
    for told in asker.all(GET_GROUPS, &body).unwrap_or_default() {
        let rest = told.body.get(OF_PORT..).unwrap_or_default();
        let entries = attributes(find(rest, 1).unwrap_or_default());
        let mut infos = entries.flat_map(|(_, entry)| attributes(entry).collect::<Vec<_>>());
        // `struct br_mdb_entry`: a device, and whether it stays.
        let Some((_, info)) = infos.find(|(_, info)| info.get(4) == Some(&1)) else {
            continue;
        };
        let index = raw::number(info);
        let link = links.iter().find(|link| Some(link.index) == index);
        let reason = "its groups in a bridge are not kept yet";
        refused.push((link.map_or_else(String::new, Link::words), reason.into()));
    }
}

/// Refuses sets of addresses.
fn refuse_sets(refused: &mut Vec<Refused>) {
    let Ok(asker) = Asker::open(NETLINK_NETFILTER) else {
        return;
    };
    let mut body = vec![0; 4];
    body.extend(raw::attribute(1, &[SETS_VERSION]));
    let all = asker.all(GET_SETS, &body).unwrap_or_default();
    let names = all.iter().filter_map(|one| find(one.body.get(4..)?, 2));
    let mut names: Vec<String> = names
        .map(|name| String::from_utf8_lossy(&raw::name(name)).into_owned())
        .collect();
    names.dedup();
    if !names.is_empty() {
        let reason = format!("the sets {} of ipset are not kept yet", names.join(", "));
        refused.push(("network namespace".into(), reason));
    }
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
