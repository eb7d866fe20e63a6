//! From links to what makes them in a new namespace. Pure.

use super::kinds::{self, Making, making};
use super::plan::{Act, Step};
use super::present::NEW_LINK;
use crate::external::OuterLink;
use crate::netlink::raw::{self, CREATE, EXCLUSIVE, NESTED, attribute, attributes};
use crate::snapshot::Link;

/// Attributes of a link (`IFLA_*`).
const HARDWARE_ADDRESS: u16 = 1;
const NAME: u16 = 3;
const MTU: u16 = 4;
const MASTER: u16 = 10;
const INFO: u16 = 18;
const ALIAS: u16 = 20;
const NAMESPACE: u16 = 28;
const PROPERTIES: u16 = 52;
const OTHER_NAME: u16 = 53;
/// Attributes in [`INFO`], and of a pair (`VETH_INFO_PEER`).
const KIND: u16 = 1;
const DATA: u16 = 2;
const PEER: u16 = 1;
/// `RTM_NEWLINKPROP`.
const NEW_PROPERTY: u16 = 108;
const QUEUE_LEN: u16 = 13;
const GROUP: u16 = 27;
/// Attributes of [`Link::more`]: what only the one who makes a link can say (queues), and what can be set.
const MADE_WITH: [u16; 2] = [31, 32];
const CHANGEABLE: [u16; 7] = [2, 17, 40, 41, 58, 63, 64];
/// `IFLA_LINK`.
const LOWER: u16 = 5;
/// `IFLA_INFO_SLAVE_KIND` and `_DATA`.
const PORT_KIND: u16 = 4;
const PORT_DATA: u16 = 5;
/// `IFLA_MACVLAN_MACADDR_MODE`, `_DATA` (what is let in, by its address), and `MACVLAN_MACADDR_SET`.
const MACVLAN_MODE: u16 = 3;
const MACVLAN_LET_IN: u16 = 5;
const MACVLAN_SET: u32 = 3;
/// `IFLA_VLAN_FLAGS`: a value, and which of its bits are meant. The kernel says all, and takes those that it knows.
const VLAN_FLAGS: u16 = 2;
const VLAN_KNOWN: u32 = 0xf;
/// `IFLA_VXLAN_TTL_INHERIT`: told as a byte, taken as a word that is there or not.
const VXLAN_TTL_INHERITED: u16 = 28;
/// `IFLA_VXLAN_REMCSUM_RX`: that it is there is taken for a yes where bits are looked for that it uses.
const VXLAN_SUM: u16 = 22;
/// Of which details come later.
const BRIDGE: &[u8] = b"bridge";
/// Flags of links that can be set.
const SETTABLE: u32 = (libc::IFF_UP
    | libc::IFF_NOARP
    | libc::IFF_MULTICAST
    | libc::IFF_ALLMULTI
    | libc::IFF_PROMISC
    | libc::IFF_DYNAMIC) as u32;

/// Returns whether an attribute is one of [`Link::more`].
pub fn is_more(attribute: u16) -> bool {
    MADE_WITH.contains(&attribute) || CHANGEABLE.contains(&attribute)
}

/// Returns what makes the links, but for their being up. Ends that lie outside come into the namespace behind this descriptor.
pub fn links(wanted: &[Link], present: &[Link], outer: &[OuterLink], home: i32) -> Vec<Step> {
    let mut steps = Vec::new();
    for (place, link) in wanted.iter().enumerate() {
        let there = present.iter().find(|there| is_same(there, link));
        let peer = wanted.iter().position(|other| {
            making(link) == Some(Making::Pair) && Some(other.index) == link.lower
        });
        let outer = outer.iter().find(|outer| outer.inner == link.name);
        let made = match (making(link), peer) {
            _ if there.is_some() => None,
            // It was made with the one before.
            (Some(Making::Pair), Some(peer)) if peer < place => None,
            (Some(Making::Pair), Some(peer)) => Some(pair(link, &named(&wanted[peer]))),
            (Some(Making::Outward), _) => {
                outer.map(|outer| pair(link, &outside(&outer.outer, home)))
            }
            (Some(Making::Alone), _) => Some(alone(link)),
            _ => None,
        };
        steps.extend(made);
        steps.push(change(link, there.unwrap_or(&unlike(link))));
        steps.extend(other_names(link));
    }
    steps
}

/// Returns whether a link is there already: loopback, and what a kind makes by itself in each namespace.
fn is_same(there: &Link, link: &Link) -> bool {
    (there.index, &there.name, &there.kind) == (link.index, &link.name, &link.kind)
}

/// Returns what makes a link that lies on one of the caller's, in the namespace behind this descriptor.
pub fn upon(link: &Link, lower: u32, namespace: i32) -> Step {
    let mut step = made(link, &taken_data(link));
    if let Act::Request(_, _, body) = &mut step.act {
        body.extend(attribute(LOWER, &lower.to_ne_bytes()));
        body.extend(attribute(NAMESPACE, &namespace.to_ne_bytes()));
    }
    step
}

/// Makes a link of which its kind says what it is.
fn alone(link: &Link) -> Step {
    let mut step = made(link, &taken_data(link));
    if let (Some(lower), Act::Request(_, _, body)) = (link.lower, &mut step.act) {
        body.extend(attribute(LOWER, &lower.to_ne_bytes()));
    }
    step
}

/// Returns what a kind has told of a link, as it takes it.
fn taken_data(link: &Link) -> Vec<u8> {
    if link.kind == BRIDGE {
        return Vec::new();
    }
    let all = attributes(&link.data).filter(|(kind, _)| kinds::is_taken(&link.kind, *kind));
    let mut data: Vec<u8> = all
        .flat_map(|(kind, value)| match (&link.kind[..], kind) {
            (b"vlan", VLAN_FLAGS) => {
                let flags = raw::number(value).unwrap_or(0);
                let both = [flags, flags | VLAN_KNOWN].map(u32::to_ne_bytes);
                attribute(kind, &both.concat())
            }
            (b"vxlan", VXLAN_TTL_INHERITED | VXLAN_SUM) if value == [0] => Vec::new(),
            (b"vxlan", VXLAN_TTL_INHERITED) => attribute(kind, &[]),
            _ => attribute(kind, value),
        })
        .collect();
    if link.kind.starts_with(b"macv") && raw::find(&link.data, MACVLAN_LET_IN).is_some() {
        data.extend(attribute(MACVLAN_MODE, &MACVLAN_SET.to_ne_bytes()));
    }
    data
}

/// Returns what gives bridges what their kind tells, and ports what their master has told of them, once all links are there. A bridge
/// does not take back all that it tells where it is as in a new one.
pub fn details(wanted: &[Link], present: &[Link]) -> Vec<Step> {
    let mut steps = Vec::new();
    for link in wanted {
        let Some(there) = present.iter().find(|there| there.index == link.index) else {
            continue;
        };
        let own = match &link.kind[..] {
            BRIDGE => differing(&link.data, &there.data, |kind| {
                kinds::is_taken(BRIDGE, kind)
            }),
            _ => Vec::new(),
        };
        let port = differing(&link.port.1, &there.port.1, |kind| {
            kinds::is_taken_of_port(&link.port.0, kind)
        });
        for (kind, data, name, value) in [
            (KIND, DATA, &link.kind, own),
            (PORT_KIND, PORT_DATA, &link.port.0, port),
        ] {
            if value.is_empty() {
                continue;
            }
            let info = [attribute(kind, name), attribute(data | NESTED, &value)];
            let mut body = head(link.index, 0, 0);
            body.extend(attribute(INFO | NESTED, &info.concat()));
            steps.push(Step::new(link.words(), NEW_LINK, 0, body));
        }
    }
    steps
}

/// Returns the attributes that are not the same, of those that are taken.
fn differing(wanted: &[u8], present: &[u8], is_taken: impl Fn(u16) -> bool) -> Vec<u8> {
    let all = attributes(wanted).filter(|(kind, value)| {
        is_taken(*kind) && raw::find(present, *kind).is_none_or(|there| there != *value)
    });
    all.flat_map(|(kind, value)| attribute(kind, value))
        .collect()
}

/// Returns what of the links is not as it was, in words.
pub fn unlike_before(wanted: &[Link], present: &[Link]) -> Vec<String> {
    let mut all = Vec::new();
    for link in wanted {
        let words = link.words();
        let Some(there) = present.iter().find(|there| there.index == link.index) else {
            all.push(format!("{words}: it is not there"));
            continue;
        };
        // Of a pair the kind says nothing.
        let parts = [
            differing(&link.data, &there.data, |kind| {
                kinds::is_taken(&link.kind, kind)
            }),
            differing(&link.port.1, &there.port.1, |kind| {
                kinds::is_taken_of_port(&link.port.0, kind)
            }),
            differing(&link.more, &there.more, is_more),
        ];
        let names = ["of its kind", "as a port", "of every link"];
        for (part, name) in parts.iter().zip(names) {
            let numbers: Vec<String> = attributes(part).map(|(kind, _)| kind.to_string()).collect();
            if !numbers.is_empty() {
                all.push(format!(
                    "{words}: settings {name} are not as they were (attributes {})",
                    numbers.join(", ")
                ));
            }
        }
        if link.master != there.master {
            all.push(format!("{words}: it is no port of what it was one of"));
        }
    }
    all
}

/// Returns a link that has nothing as this one has it, so that all is set.
fn unlike(link: &Link) -> Link {
    Link {
        flags: !link.flags,
        mtu: !link.mtu,
        queue_len: !link.queue_len,
        group: !link.group,
        ..Link::default()
    }
}

/// Returns the head of a message that makes a link, with its name and its address in hardware.
fn named(link: &Link) -> Vec<u8> {
    let mut body = head(link.index, 0, 0);
    body.extend(attribute(NAME, &[&link.name[..], &[0]].concat()));
    body.extend(attribute(HARDWARE_ADDRESS, &link.address));
    let queues = attributes(&link.more).filter(|(kind, _)| MADE_WITH.contains(kind));
    body.extend(queues.flat_map(|(kind, value)| attribute(kind, value)));
    body
}

fn outside(name: &[u8], home: i32) -> Vec<u8> {
    let mut body = head(0, 0, 0);
    body.extend(attribute(NAME, &[name, &[0]].concat()));
    body.extend(attribute(NAMESPACE, &home.to_ne_bytes()));
    body
}

/// Makes a link and its other end.
fn pair(link: &Link, other_end: &[u8]) -> Step {
    made(link, &attribute(PEER, other_end))
}

fn made(link: &Link, data: &[u8]) -> Step {
    let info = [attribute(KIND, &link.kind), attribute(DATA | NESTED, data)];
    let mut body = named(link);
    body.extend(attribute(INFO | NESTED, &info.concat()));
    Step::new(link.words(), NEW_LINK, CREATE | EXCLUSIVE, body)
}

/// Gives a link its description and other names.
fn other_names(link: &Link) -> Vec<Step> {
    let mut steps = Vec::new();
    if !link.alias.is_empty() {
        let mut body = head(link.index, 0, 0);
        body.extend(attribute(ALIAS, &link.alias));
        steps.push(Step::new(link.words(), NEW_LINK, 0, body));
    }
    for name in &link.other_names {
        let mut body = head(link.index, 0, 0);
        let name = attribute(OTHER_NAME, &[&name[..], &[0]].concat());
        body.extend(attribute(PROPERTIES | NESTED, &name));
        steps.push(Step::new(
            link.words(),
            NEW_PROPERTY,
            CREATE | EXCLUSIVE,
            body,
        ));
    }
    steps
}

/// Returns what brings up the other end of a link, in the namespace that it is in, as a port of a bridge there.
pub fn outer_up(outer: &OuterLink, bridge: Option<u32>) -> Vec<Step> {
    let words = format!("network device {}", String::from_utf8_lossy(&outer.outer));
    let up = libc::IFF_UP as u32;
    let body = |flags: u32| {
        let mut body = head(0, flags, flags);
        body.extend(attribute(NAME, &[&outer.outer[..], &[0]].concat()));
        body
    };
    let port = bridge.map(|bridge| {
        let body = [body(0), attribute(MASTER, &bridge.to_ne_bytes())].concat();
        Step::new(words.clone(), NEW_LINK, 0, body)
    });
    let up = Step::new(words.clone(), NEW_LINK, 0, body(up));
    port.into_iter().chain([up]).collect()
}

/// Returns the head of a message of a link: its number, flags, and which of them are meant.
fn head(index: u32, flags: u32, mask: u32) -> Vec<u8> {
    let words = [0, index, flags, mask];
    words
        .iter()
        .flat_map(|word: &u32| word.to_ne_bytes())
        .collect()
}

/// Gives a link that is there what it had.
fn change(link: &Link, there: &Link) -> Step {
    let mask = SETTABLE & !(libc::IFF_UP as u32);
    let mut body = head(
        link.index,
        link.flags & mask,
        (link.flags ^ there.flags) & mask,
    );
    let numbers = [
        (MTU, link.mtu, there.mtu),
        (QUEUE_LEN, link.queue_len, there.queue_len),
        (GROUP, link.group, there.group),
    ];
    for (kind, wanted, is) in numbers {
        if wanted != is {
            body.extend(attribute(kind, &wanted.to_ne_bytes()));
        }
    }
    if let Some(master) = link.master.filter(|_| link.master != there.master) {
        body.extend(attribute(MASTER, &master.to_ne_bytes()));
    }
    let more = differing(&link.more, &there.more, |kind| CHANGEABLE.contains(&kind));
    body.extend(more);
    Step::new(link.words(), NEW_LINK, 0, body)
}

/// Returns what brings up the links that were.
pub fn ups(wanted: &[Link]) -> Vec<Step> {
    let up = libc::IFF_UP as u32;
    let ups = wanted.iter().filter(|link| link.flags & up != 0);
    ups.map(|link| Step::new(link.words(), NEW_LINK, 0, head(link.index, up, up)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_made_once() {
        let end = |index: u32, lower: u32| Link {
            index,
            lower: Some(lower),
            kind: b"veth".to_vec(),
            name: format!("v{index}").into(),
            ..Link::default()
        };
        let made = |steps: &[Step]| {
            let kinds = steps.iter().map(|step| match &step.act {
                Act::Request(_, flags, _) => flags & CREATE != 0,
                Act::Write(_) => false,
            });
            kinds.filter(|made| *made).count()
        };
        let pair = [end(5, 6), end(6, 5)];
        let steps = links(&pair, &[], &[], 0);
        assert_eq!((made(&steps), steps.len()), (1, 3));
        let mut outward = end(7, 3);
        outward.lower_ns = Some(0);
        let outer = OuterLink {
            inner: b"v7".to_vec(),
            outer: b"out".to_vec(),
            bridge: None,
            is_below: false,
        };
        assert_eq!(made(&links(&[outward.clone()], &[], &[outer], 9)), 1);
        assert_eq!(made(&links(&[outward], &[], &[], 9)), 0);
    }
}
