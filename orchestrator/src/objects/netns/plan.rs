//! From the fact to what is to be done inside of a new namespace. Pure: what is there is compared with what is wanted.

use super::kinds::{Making, making};
use super::present::{
    self, NEW_ADDRESS, NEW_LINK, NEW_NEIGHBOUR, NEW_ROUTE, NEW_RULE, OF_ADDRESS, OF_LINK,
    OF_NEIGHBOUR, OF_ROUTE, OF_RULE, REMOVE,
};
use crate::external::OuterLink;
use crate::netlink::raw::{
    self, APPEND, CREATE, EXCLUSIVE, NESTED, REPLACE, attribute, attributes, find,
};
use crate::snapshot::{Link, Setting};

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
/// Attributes of an address (`IFA_*`), and flags of one: it need not be asked for whether somebody else has it; it is asked for
/// now; somebody has it.
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const FLAGS: u16 = 8;
const NO_DAD: u32 = 2;
const DAD_FAILED: u32 = 8;
const TENTATIVE: u32 = 0x40;
/// Attributes of a route (`RTA_*`).
const NEXT_HOPS: u16 = 9;
const CACHE_INFO: u16 = 12;
const EXPIRES: u16 = 23;
/// Of a route's and a next hop's flags, what is the kernel's to say: dead, without a link, offloaded, a trap.
const STATES: u32 = 1 | 16 | 8 | 64;
/// Bytes of `struct rtnexthop`.
const OF_NEXT_HOP: usize = 8;
/// `RTPROT_KERNEL`.
const BY_KERNEL: u8 = 2;
/// Attributes of a neighbour (`NDA_*`).
const DESTINATION: u16 = 1;
const HARDWARE: u16 = 2;
/// Flags of links that can be set.
const SETTABLE: u32 = (libc::IFF_UP
    | libc::IFF_NOARP
    | libc::IFF_MULTICAST
    | libc::IFF_ALLMULTI
    | libc::IFF_PROMISC
    | libc::IFF_DYNAMIC) as u32;

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What for, in words.
    pub object: String,
    /// What.
    pub act: Act,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A request of rtnetlink: kind, flags and body. That it is there already is no failure.
    Request(u16, u16, Vec<u8>),
    /// Writing a setting.
    Write(Setting),
}

impl Step {
    fn new(object: impl Into<String>, kind: u16, flags: u16, body: Vec<u8>) -> Self {
        Self {
            object: object.into(),
            act: Act::Request(kind, flags, body),
        }
    }

    /// Returns whether the kernel makes what this asks for by itself, as far as it lets anybody have it.
    pub fn is_of_the_kernel(&self) -> bool {
        match &self.act {
            Act::Request(NEW_ROUTE, _, body) => body.get(5) == Some(&BY_KERNEL),
            _ => false,
        }
    }
}

/// Returns what makes the links, but for their being up. Ends that lie outside come into the namespace behind this descriptor.
pub fn links(wanted: &[Link], present: &[Link], outer: &[OuterLink], home: i32) -> Vec<Step> {
    let mut steps = Vec::new();
    for (place, link) in wanted.iter().enumerate() {
        let there = present.iter().find(|there| there.index == link.index);
        let peer = wanted.iter().position(|other| {
            making(link) == Some(Making::Pair) && Some(other.index) == link.lower
        });
        let other_end = match (making(link), peer) {
            // It was made with the one before.
            (Some(Making::Pair), Some(peer)) if peer < place => None,
            (Some(Making::Pair), Some(peer)) => Some(named(&wanted[peer])),
            (Some(Making::Outward), _) => {
                let outer = outer.iter().find(|outer| outer.inner == link.name);
                outer.map(|outer| outside(&outer.outer, home))
            }
            _ => None,
        };
        steps.extend(other_end.map(|other_end| pair(link, &other_end)));
        steps.push(change(link, there.unwrap_or(&unlike(link))));
        steps.extend(other_names(link));
    }
    steps
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
    let data = attribute(PEER, other_end);
    let info = [attribute(KIND, &link.kind), attribute(DATA | NESTED, &data)];
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
    Step::new(link.words(), NEW_LINK, 0, body)
}

/// Returns what brings up the links that were.
pub fn ups(wanted: &[Link]) -> Vec<Step> {
    let up = libc::IFF_UP as u32;
    let ups = wanted.iter().filter(|link| link.flags & up != 0);
    ups.map(|link| Step::new(link.words(), NEW_LINK, 0, head(link.index, up, up)))
        .collect()
}

/// Returns the settings that are not as they are wanted.
pub fn settings(wanted: &[Setting], present: &[Setting]) -> Vec<Step> {
    let is_same = |setting: &&Setting| {
        let there = present.iter().find(|there| there.name == setting.name);
        there.is_some_and(|there| there.value == setting.value)
    };
    let differing = wanted.iter().filter(|setting| !is_same(setting));
    let write = |setting: &Setting| Step {
        object: format!("setting net/{}", String::from_utf8_lossy(&setting.name)),
        act: Act::Write(setting.clone()),
    };
    differing.map(write).collect()
}

/// Returns what adds addresses.
pub fn addresses(wanted: &[Vec<u8>]) -> Vec<Step> {
    let add = |body: Vec<u8>| Step::new(address_words(&body), NEW_ADDRESS, CREATE | REPLACE, body);
    // Once it is there, its flags are what they were.
    let both = wanted.iter().flat_map(|body| {
        let known = with_known_owner(body);
        let then = (known != *body).then(|| body.clone());
        [Some(known), then]
    });
    both.flatten().map(add).collect()
}

/// Has nobody be asked about an address that was known to be free.
fn with_known_owner(body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    let flags = find(&body[OF_ADDRESS..], FLAGS).and_then(raw::number);
    let flags = flags.unwrap_or(u32::from(body[2]));
    let is_settled = flags & (TENTATIVE | DAD_FAILED | NO_DAD) != 0;
    if i32::from(body[0]) != libc::AF_INET6 || is_settled {
        return body;
    }
    body[2] |= NO_DAD as u8;
    let flags = flags | NO_DAD;
    let rest = attributes(&body[OF_ADDRESS..]).filter(|(kind, _)| *kind != FLAGS);
    let rest: Vec<u8> = rest
        .flat_map(|(kind, value)| attribute(kind, value))
        .collect();
    body.truncate(OF_ADDRESS);
    body.extend(rest);
    body.extend(attribute(FLAGS, &flags.to_ne_bytes()));
    body
}

/// Returns what removes addresses that nobody wants.
pub fn other_addresses(wanted: &[Vec<u8>], present: &[Vec<u8>]) -> Vec<Step> {
    let key = |body: &Vec<u8>| {
        let rest = &body[OF_ADDRESS..];
        let own = find(rest, LOCAL).or_else(|| find(rest, ADDRESS));
        // Family, length of the prefix, and number of the link.
        (
            body[0],
            body[1],
            body[4..8].to_vec(),
            own.map(<[u8]>::to_vec),
        )
    };
    let remove =
        |body: &Vec<u8>| Step::new(address_words(body), NEW_ADDRESS + REMOVE, 0, body.clone());
    others(wanted, present, key).map(remove).collect()
}

fn others<'a, K: PartialEq>(
    wanted: &[Vec<u8>],
    present: &'a [Vec<u8>],
    key: impl Fn(&Vec<u8>) -> K,
) -> impl Iterator<Item = &'a Vec<u8>> {
    let known: Vec<K> = wanted.iter().map(&key).collect();
    present
        .iter()
        .filter(move |body| !known.contains(&key(body)))
}

/// Returns what adds routes that are not there.
pub fn routes(wanted: &[Vec<u8>], present: &[Vec<u8>]) -> Vec<Step> {
    let add = |body: &Vec<u8>| {
        let body = without_states(body);
        let flags = match i32::from(body[0]) {
            libc::AF_INET => CREATE | APPEND,
            _ => CREATE,
        };
        Step::new(route_words(&body), NEW_ROUTE, flags, body)
    };
    // Those of the kernel's own come when they come: added by us they would be there twice.
    let missing = others(present, wanted, |body| route_key(body));
    missing.filter(|body| !is_awaited(body)).map(add).collect()
}

/// Returns whether the kernel is still to add routes of IPv6: it does so once nobody else is known to have an address.
pub fn is_awaiting(wanted: &[Vec<u8>], present: &[Vec<u8>]) -> bool {
    others(present, wanted, |body| route_key(body)).any(|body| is_awaited(body))
}

fn is_awaited(body: &[u8]) -> bool {
    body[5] == BY_KERNEL && i32::from(body[0]) == libc::AF_INET6
}

/// Returns what removes routes that nobody wants.
pub fn other_routes(wanted: &[Vec<u8>], present: &[Vec<u8>]) -> Vec<Step> {
    let remove = |body: &Vec<u8>| {
        let body = without_states(body);
        Step::new(route_words(&body), NEW_ROUTE + REMOVE, 0, body)
    };
    others(wanted, present, |body| route_key(body))
        .map(remove)
        .collect()
}

/// What two routes are the same by.
fn route_key(body: &[u8]) -> Vec<u8> {
    let mut body = without_states(body);
    body[8..OF_ROUTE].fill(0);
    let rest =
        attributes(&body[OF_ROUTE..]).filter(|(kind, _)| ![CACHE_INFO, EXPIRES].contains(kind));
    let rest: Vec<u8> = rest
        .flat_map(|(kind, value)| attribute(kind, value))
        .collect();
    [&body[..OF_ROUTE], &rest].concat()
}

/// Returns a route without what the kernel says of its state, and with the time that it has left.
fn without_states(body: &[u8]) -> Vec<u8> {
    let mut all = body[..OF_ROUTE].to_vec();
    let flags = present::route_flags(body) & !STATES;
    all[8..OF_ROUTE].copy_from_slice(&flags.to_ne_bytes());
    for (kind, value) in attributes(&body[OF_ROUTE..]) {
        let mut value = value.to_vec();
        match kind {
            NEXT_HOPS => clear_next_hops(&mut value),
            CACHE_INFO => {
                // `rta_expires`, in 100ths of seconds.
                let left = value
                    .get(8..)
                    .and_then(raw::number)
                    .map_or(0, |left| left as i32);
                if left > 0 {
                    let seconds = (left as u32).div_ceil(100);
                    all.extend(attribute(EXPIRES, &seconds.to_ne_bytes()));
                }
                continue;
            }
            _ => {}
        }
        all.extend(attribute(kind, &value));
    }
    all
}

fn clear_next_hops(mut bytes: &mut [u8]) {
    while bytes.len() >= OF_NEXT_HOP {
        let len = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        bytes[2] &= !(STATES as u8);
        let next = len.max(OF_NEXT_HOP).next_multiple_of(4).min(bytes.len());
        bytes = &mut bytes[next..];
    }
}

/// Returns what makes the rules those that are wanted.
pub fn rules(wanted: &[Vec<u8>], present: &[Vec<u8>]) -> Vec<Step> {
    let step = |kind: u16, flags: u16| {
        move |body: &Vec<u8>| Step::new("rule of routing", kind, flags, body.clone())
    };
    // Two may be the same, and are removed one by one.
    let mut left = present.to_vec();
    let mut missing = Vec::new();
    for rule in wanted {
        match left.iter().position(|there| there == rule) {
            Some(place) => drop(left.remove(place)),
            None => missing.push(rule.clone()),
        }
    }
    let adds = missing.iter().map(step(NEW_RULE, CREATE));
    let removes = left.iter().map(step(NEW_RULE + REMOVE, 0));
    adds.chain(removes).collect()
}

/// Returns what adds neighbours.
pub fn neighbours(wanted: &[Vec<u8>]) -> Vec<Step> {
    let add = |body: &Vec<u8>| {
        let mut all = body[..OF_NEIGHBOUR].to_vec();
        let rest = attributes(&body[OF_NEIGHBOUR..]);
        for (kind, value) in rest.filter(|(kind, _)| [DESTINATION, HARDWARE].contains(kind)) {
            all.extend(attribute(kind, value));
        }
        let words = find(&body[OF_NEIGHBOUR..], DESTINATION).map(ip_words);
        let words = format!("neighbour {}", words.unwrap_or_default());
        Step::new(words, NEW_NEIGHBOUR, CREATE | REPLACE, all)
    };
    wanted.iter().map(add).collect()
}

/// Returns whether messages have the heads that they need; images are not to be trusted.
pub fn are_whole(own: &crate::snapshot::NetNamespace) -> bool {
    let all = [
        (&own.addresses, OF_ADDRESS),
        (&own.routes, OF_ROUTE),
        (&own.rules, OF_RULE),
        (&own.neighbours, OF_NEIGHBOUR),
    ];
    all.iter()
        .all(|(bodies, least)| bodies.iter().all(|body| body.len() >= *least))
}

fn address_words(body: &[u8]) -> String {
    let rest = &body[OF_ADDRESS..];
    let own = find(rest, LOCAL).or_else(|| find(rest, ADDRESS));
    format!(
        "address {}/{}",
        own.map(ip_words).unwrap_or_default(),
        body[1]
    )
}

fn route_words(body: &[u8]) -> String {
    match find(&body[OF_ROUTE..], 1) {
        Some(to) => format!("route to {}/{}", ip_words(to), body[1]),
        None => "default route".into(),
    }
}

fn ip_words(bytes: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return std::net::Ipv4Addr::from(v4).to_string();
    }
    let v6 = <[u8; 16]>::try_from(bytes);
    v6.map_or_else(
        |_| String::new(),
        |v6| std::net::Ipv6Addr::from(v6).to_string(),
    )
}

const _: () = assert!(OF_LINK == 16);

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, value: &str) -> Setting {
        Setting {
            name: name.into(),
            value: value.into(),
        }
    }

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
        };
        assert_eq!(made(&links(&[outward.clone()], &[], &[outer], 9)), 1);
        assert_eq!(made(&links(&[outward], &[], &[], 9)), 0);
    }

    #[test]
    fn only_settings_that_differ_are_written() {
        let wanted = [setting("a", "1"), setting("b", "2"), setting("c", "3")];
        let present = [setting("a", "1"), setting("b", "7")];
        let steps = settings(&wanted, &present);
        let objects: Vec<_> = steps.iter().map(|step| step.object.as_str()).collect();
        assert_eq!(objects, ["setting net/b", "setting net/c"]);
    }

    #[test]
    fn an_address_of_version_6_is_not_asked_about_again() {
        let v6 = |flags: u32| {
            let mut body = vec![10, 64, flags as u8, 0, 2, 0, 0, 0];
            body.extend(attribute(ADDRESS, &[0xfd; 16]));
            body.extend(attribute(FLAGS, &flags.to_ne_bytes()));
            body
        };
        let flags = |body: &[u8]| find(&body[OF_ADDRESS..], FLAGS).and_then(raw::number);
        assert_eq!(flags(&with_known_owner(&v6(0x80))), Some(0x82));
        assert_eq!(flags(&with_known_owner(&v6(0x40))), Some(0x40));
        assert_eq!(addresses(&[v6(0x80), v6(0x82)]).len(), 3);
        assert!(other_addresses(&[v6(0x80)], &[v6(0x82)]).is_empty());
        assert_eq!(other_addresses(&[], &[v6(0x82)]).len(), 1);
    }

    #[test]
    fn a_route_is_the_same_whatever_its_state() {
        let route = |flags: u32, to: u8| {
            let mut body = vec![2, 8, 0, 0, 254, 3, 0, 1];
            body.extend(flags.to_ne_bytes());
            body.extend(attribute(1, &[to, 0, 0, 0]));
            body
        };
        assert!(routes(&[route(16, 10)], &[route(0, 10)]).is_empty());
        assert!(!is_awaiting(&[route(0, 10)], &[]));
        let mut of_kernel = route(0, 10);
        (of_kernel[0], of_kernel[5]) = (10, BY_KERNEL);
        assert!(is_awaiting(&[of_kernel.clone()], &[]));
        assert!(routes(&[of_kernel], &[]).is_empty());
        let steps = routes(&[route(16, 10)], &[route(0, 11)]);
        assert_eq!(steps[0].object, "route to 10.0.0.0/8");
        let Act::Request(NEW_ROUTE, _, body) = &steps[0].act else {
            panic!("{steps:?}");
        };
        assert_eq!(present::route_flags(body), 0);
        assert_eq!(other_routes(&[], &[route(0, 11)]).len(), 1);
    }

    #[test]
    fn rules_of_which_two_are_the_same_stay_two() {
        let rule = |table: u8| vec![2, 0, 0, 0, table, 0, 0, 1, 0, 0, 0, 0];
        assert!(rules(&[rule(1), rule(1)], &[rule(1), rule(1)]).is_empty());
        let steps = rules(&[rule(1), rule(2)], &[rule(1), rule(1)]);
        assert_eq!(steps.len(), 2);
        assert!(matches!(steps[1].act, Act::Request(33, ..)));
    }
}
