//! From the fact to what is to be done inside of a new namespace. Pure: what is there is compared with what is wanted.

use super::present::{
    self, NEW_ADDRESS, NEW_NEIGHBOUR, NEW_ROUTE, NEW_RULE, OF_ADDRESS, OF_LINK, OF_NEIGHBOUR,
    OF_ROUTE, OF_RULE, REMOVE,
};
use crate::netlink::raw::{self, APPEND, CREATE, REPLACE, attribute, attributes, find};
use crate::snapshot::Setting;

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
const OF_BRIDGE: u16 = 9;
/// Address, address in hardware, and of entries of bridges: VLAN, port, network, device, network of the sender, flags.
const TAKEN: [u16; 8] = [DESTINATION, 2, 5, 6, 7, 8, 11, 15];
/// `NTF_SELF` and `NTF_MASTER`.
const TO_SELF: u8 = 2;
const TO_MASTER: u8 = 4;
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
    pub(super) fn new(object: impl Into<String>, kind: u16, flags: u16, body: Vec<u8>) -> Self {
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

/// Returns what adds neighbours that are not there.
pub fn neighbours(wanted: &[Vec<u8>], present: &[Vec<u8>]) -> Vec<Step> {
    let add = |body: &Vec<u8>| {
        let all = neighbour(body);
        let words = match find(&body[OF_NEIGHBOUR..], DESTINATION) {
            Some(ip) => format!("neighbour {}", ip_words(ip)),
            None => "entry of a bridge".into(),
        };
        Step::new(words, NEW_NEIGHBOUR, CREATE | REPLACE, all)
    };
    let missing = others(present, wanted, |body| neighbour(body));
    missing.map(add).collect()
}

/// Returns a neighbour as it is taken: without what counts, and without whose it is, which follows from its device.
fn neighbour(body: &[u8]) -> Vec<u8> {
    let mut all = body[..OF_NEIGHBOUR].to_vec();
    let rest: Vec<_> = attributes(&body[OF_NEIGHBOUR..]).collect();
    let is_bridges = rest
        .iter()
        .any(|(kind, value)| *kind == OF_BRIDGE && raw::number(value) == raw::number(&body[4..]));
    if i32::from(body[0]) == libc::AF_BRIDGE && is_bridges {
        all[10] = all[10] & !TO_MASTER | TO_SELF;
    }
    for (kind, value) in rest.iter().filter(|(kind, _)| TAKEN.contains(kind)) {
        all.extend(attribute(*kind, value));
    }
    all
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
