//! Kinds of links that are kept: one table. What the kernel tells of a kind (`IFLA_INFO_DATA`) it takes when a link of it is made,
//! but for what the table names.

use crate::netlink::raw;
use crate::snapshot::Link;

/// How a link of a kind is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Making {
    /// It is there, in every namespace.
    There,
    /// With what its kind tells of it, and on what it lies on, if on anything.
    Alone,
    /// From outside, where what it lies on is.
    Upon,
    /// With what it is connected to, which is of the namespace too.
    Pair,
    /// With what it is connected to, which lies outside.
    Outward,
}

/// A kind of links.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    /// It lies on another one.
    lies: bool,
    /// What is told of it and not taken: states, counts.
    told: &'static [u16],
}

/// Returns a kind of which all that is told is taken.
const fn plain(name: &'static str, lies: bool) -> Kind {
    Kind {
        name,
        lies,
        told: &[],
    }
}

/// `IFLA_MACVLAN_MACADDR_COUNT` and `_BC_QUEUE_LEN_USED`.
const OF_MACVLAN: &[u16] = &[6, 8];
/// From `IFLA_BR_ROOT_ID` to `_GC_TIMER`; `_PAD`; `_MCAST_QUERIER_STATE` and `_FDB_N_LEARNED`. `_FDB_FLUSH` is an order, and not told.
const OF_BRIDGE: &[u16] = &[10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 40, 47, 48];
/// `IFLA_BRPORT_STATE`, which follows from the rest; from `_ROOT_ID` to `_FLUSH`; `_PAD`; of rings; counts.
const OF_BRIDGE_PORT: &[u16] = &[
    1, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26, 35, 36, 38, 41,
];
/// `IFLA_VRF_PORT_TABLE`.
const OF_VRF_PORT: &[u16] = &[1];

const KINDS: [Kind; 20] = [
    Kind {
        name: "bridge",
        lies: false,
        told: OF_BRIDGE,
    },
    plain("dummy", false),
    plain("geneve", false),
    plain("gre", false),
    plain("gretap", false),
    plain("ifb", false),
    plain("ip6gre", false),
    plain("ip6gretap", false),
    plain("ip6tnl", false),
    plain("ipip", false),
    plain("ipvlan", true),
    plain("ipvtap", true),
    Kind {
        name: "macvlan",
        lies: true,
        told: OF_MACVLAN,
    },
    Kind {
        name: "macvtap",
        lies: true,
        told: OF_MACVLAN,
    },
    plain("sit", false),
    plain("vlan", true),
    plain("vrf", false),
    plain("vti", false),
    plain("vti6", false),
    plain("vxlan", false),
];

fn kind(name: &[u8]) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name.as_bytes() == name)
}

/// Returns how a link is made again; `None` = its kind is not kept.
pub fn making(link: &Link) -> Option<Making> {
    let is_outside = link.lower_ns.is_some();
    match &link.kind[..] {
        _ if link.is_loopback() => Some(Making::There),
        b"veth" if is_outside => Some(Making::Outward),
        b"veth" => Some(Making::Pair),
        b"macvlan" if is_outside => Some(Making::Upon),
        _ if is_outside => None,
        name => match kind(name)? {
            kind if kind.lies && link.lower.is_none() => None,
            _ => Some(Making::Alone),
        },
    }
}

/// Returns the link of this namespace that one lies on: tunnels tell of it among the rest.
pub fn below(link: &Link) -> Option<u32> {
    let place = match &link.kind[..] {
        b"vxlan" => 3,
        b"gre" | b"gretap" | b"ip6gre" | b"ip6gretap" | b"ip6tnl" | b"ipip" | b"sit" | b"vti"
        | b"vti6" => 1,
        _ => return link.lower.filter(|_| link.lower_ns.is_none()),
    };
    let told = raw::find(&link.data, place).and_then(raw::number);
    told.filter(|index| *index != 0)
}

/// Returns whether links of a kind can have ports.
pub fn has_ports(kind: &[u8]) -> bool {
    matches!(kind, b"bridge" | b"vrf")
}

/// Returns whether an attribute of what a kind tells is one that it takes.
pub fn is_taken(name: &[u8], attribute: u16) -> bool {
    !kind(name).is_some_and(|kind| kind.told.contains(&attribute))
}

/// Returns whether an attribute of what a master tells of its port is one that it takes.
pub fn is_taken_of_port(master: &[u8], attribute: u16) -> bool {
    match master {
        b"bridge" => !OF_BRIDGE_PORT.contains(&attribute),
        b"vrf" => !OF_VRF_PORT.contains(&attribute),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_lies_on_another_needs_it() {
        let link = |kind: &str, lower, lower_ns| Link {
            kind: kind.into(),
            lower,
            lower_ns,
            ..Link::default()
        };
        assert_eq!(making(&link("macvlan", Some(2), None)), Some(Making::Alone));
        assert_eq!(
            making(&link("macvlan", Some(2), Some(0))),
            Some(Making::Upon)
        );
        assert_eq!(making(&link("vlan", None, None)), None);
        assert_eq!(making(&link("vlan", Some(2), Some(0))), None);
        assert_eq!(making(&link("dummy", None, None)), Some(Making::Alone));
        assert_eq!(making(&link("wireguard", None, None)), None);
    }
}
