//! Tables of nftables: read as the kernel tells them, and given back in one batch, which is done as a whole or not at all. What is
//! in an expression is not looked at: the kernel tells names where it takes names. Numbers are of `linux/netfilter/nf_tables.h`.

use super::collect::Refused;
use crate::netlink::nft::Batch;
use crate::netlink::raw::{self, APPEND, Asker, CREATE, NESTED, attribute, attributes, find};
use netlink_sys::protocols::NETLINK_NETFILTER;
use std::io;

/// The subsystem, and bytes of `struct nfgenmsg`.
const NFTABLES: u16 = 10;
const GENERIC: usize = 4;
/// Names in each kind of message: of the table, and of what is in it.
const TABLE: u16 = 1;
const NAME: u16 = 2;
/// `NFTA_TABLE_FLAGS` and `NFT_TABLE_F_OWNER`.
const TABLE_FLAGS: u16 = 2;
const OWNED: u32 = 2;
/// `NFTA_CHAIN_NAME`, `NFTA_CHAIN_FLAGS`, `NFT_CHAIN_BINDING`, `NFTA_RULE_CHAIN`.
const CHAIN_NAME: u16 = 3;
const CHAIN_FLAGS: u16 = 10;
const BOUND: u32 = 4;
const RULE_CHAIN: u16 = 2;
/// `NFTA_SET_ID`.
const SET_ID: u16 = 10;
/// `NFTA_RULE_EXPRESSIONS`, and `NFTA_RULE_COMPAT` with the protocol in it, which the kernel wants and does not tell.
const EXPRESSIONS: u16 = 4;
const COMPAT: u16 = 5;

/// A kind of message: what asks for all, what makes one, which attributes it takes (others are handles, counts of users, filling),
/// and how it is made.
#[derive(Debug)]
struct Kind {
    get: u16,
    new: u16,
    taken: &'static [u16],
    flags: u16,
}

const TABLES: Kind = Kind {
    get: 1,
    new: 0,
    taken: &[1, 2, 6],
    flags: CREATE,
};
const CHAINS: Kind = Kind {
    get: 4,
    new: 3,
    taken: &[1, 3, 4, 5, 7, 8, 10, 12],
    flags: CREATE,
};
const RULES: Kind = Kind {
    get: 7,
    new: 6,
    taken: &[1, 2, 4, 7],
    flags: CREATE | APPEND,
};
const SETS: Kind = Kind {
    get: 10,
    new: 9,
    taken: &[1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 17, 18],
    flags: CREATE,
};
const ELEMENTS: Kind = Kind {
    get: 13,
    new: 12,
    taken: &[1, 2, 3],
    flags: CREATE,
};
/// All, in the order in which they are made: each needs only those before it.
const KINDS: [Kind; 7] = [
    TABLES,
    CHAINS,
    SETS,
    // Objects with a name: counters, quotas, limits.
    Kind {
        get: 19,
        new: 18,
        taken: &[1, 2, 3, 4, 8],
        flags: CREATE,
    },
    // Tables of flows.
    Kind {
        get: 23,
        new: 22,
        taken: &[1, 2, 3, 7],
        flags: CREATE,
    },
    ELEMENTS,
    RULES,
];

/// Returns all that nftables have in the namespace that the caller is in, and refuses what is not kept.
///
/// # Errors
/// The kernel does not tell.
pub fn collect(refused: &mut Vec<Refused>) -> io::Result<Vec<Vec<u8>>> {
    refuse_old_tables(refused);
    let mut all = Vec::new();
    let Ok(asker) = Asker::open(NETLINK_NETFILTER) else {
        return Ok(all);
    };
    let any = [0; GENERIC];
    let Ok(tables) = told(&asker, &TABLES, &any) else {
        return Ok(all);
    };
    for body in &tables {
        let flags = find(&body[GENERIC..], TABLE_FLAGS).map(big_number);
        if flags.unwrap_or(0) & OWNED != 0 {
            let name = raw::name(find(&body[GENERIC..], TABLE).unwrap_or_default());
            let name = String::from_utf8_lossy(&name);
            let reason = format!("the table {name} of nftables belongs to a socket");
            refused.push(("network namespace".into(), reason));
        }
    }
    if tables.is_empty() {
        return Ok(all);
    }
    for kind in &KINDS {
        let bodies = match kind.get {
            get if get == TABLES.get => tables.clone(),
            get if get == ELEMENTS.get => elements(&asker)?,
            _ => match told(&asker, kind, &any) {
                // A kernel without tables of flows.
                Err(error) if is_unknown(&error) => Vec::new(),
                bodies => bodies?,
            },
        };
        all.extend(bodies.iter().map(|body| saved(kind, body)));
    }
    Ok(all)
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOENT)
    )
}

fn told(asker: &Asker, kind: &Kind, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let all = asker.all(NFTABLES << 8 | kind.get, body)?;
    let bodies = all.into_iter().map(|one| one.body);
    Ok(bodies.filter(|body| body.len() >= GENERIC).collect())
}

/// Elements are asked for set by set.
fn elements(asker: &Asker) -> io::Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for set in told(asker, &SETS, &[0; GENERIC])? {
        let mut body = vec![set[0], 0, 0, 0];
        for kind in [TABLE, NAME] {
            let name = find(&set[GENERIC..], kind).unwrap_or_default();
            body.extend(attribute(kind, name));
        }
        let mut some = told(asker, &ELEMENTS, &body)?;
        some.retain(|body| find(&body[GENERIC..], 3).is_some_and(|all| !all.is_empty()));
        all.extend(some);
    }
    Ok(all)
}

/// Returns what is kept of a message: its kind, its family, and what is taken of it.
fn saved(kind: &Kind, body: &[u8]) -> Vec<u8> {
    let mut all = vec![kind.new as u8, body[0]];
    let rest = attributes(&body[GENERIC..]).filter(|(number, _)| kind.taken.contains(number));
    all.extend(rest.flat_map(|(number, value)| attribute(number, value)));
    all
}

/// Refuses tables of the time before nftables.
fn refuse_old_tables(refused: &mut Vec<Refused>) {
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

/// Returns whether messages are of kinds that are known; images are not to be trusted.
pub fn are_whole(saved: &[Vec<u8>]) -> bool {
    saved.iter().all(|one| {
        let kind = one.first().map(|kind| u16::from(*kind));
        one.len() > 2 && KINDS.iter().any(|known| Some(known.new) == kind)
    })
}

/// Returns what makes all of it again.
pub fn plan(saved: &[Vec<u8>]) -> Batch {
    let mut batch = Batch::default();
    for (place, (kind, one)) in in_order(saved).into_iter().enumerate() {
        let mut body = one[2..].to_vec();
        if kind.new == SETS.new {
            body.extend(attribute(SET_ID, &(place as u32 + 1).to_be_bytes()));
        }
        if let Some(protocol) = protocol(find(&one[2..], EXPRESSIONS).unwrap_or_default()) {
            let both = [
                attribute(1, &u32::from(protocol).to_be_bytes()),
                attribute(2, &[0; 4]),
            ];
            body.extend(attribute(COMPAT | NESTED, &both.concat()));
        }
        batch.push(one[1], kind.new, kind.flags, &body);
    }
    batch
}

/// Returns all in the order in which it can be made. A chain of one rule alone takes no more rules once that one is there, so its
/// own come before, and those of chains in it before these.
fn in_order(saved: &[Vec<u8>]) -> Vec<(&'static Kind, &Vec<u8>)> {
    let names = |one: &[u8], name: u16| {
        let value = |kind| find(&one[2..], kind).unwrap_or_default().to_vec();
        (one[1], value(TABLE), value(name))
    };
    let is_bound = |one: &&Vec<u8>| {
        let flags = find(&one[2..], CHAIN_FLAGS).map_or(0, big_number);
        u16::from(one[0]) == CHAINS.new && flags & BOUND != 0
    };
    let bound: Vec<_> = saved
        .iter()
        .filter(is_bound)
        .map(|one| names(one, CHAIN_NAME))
        .collect();
    let rank = |one: &[u8]| {
        let rule = (u16::from(one[0]) == RULES.new).then(|| names(one, RULE_CHAIN));
        let place = rule.and_then(|rule| bound.iter().position(|chain| *chain == rule));
        place.map_or(bound.len(), |place| bound.len() - 1 - place)
    };
    let mut all: Vec<_> = saved
        .iter()
        .filter_map(|one| {
            let place = KINDS
                .iter()
                .position(|kind| kind.new == u16::from(one[0]))?;
            Some((place, rank(one), one))
        })
        .collect();
    all.sort_by_key(|(place, rank, _)| (*place, *rank));
    all.into_iter()
        .map(|(place, _, one)| (&KINDS[place], one))
        .collect()
}

/// Returns the protocol of packets that a rule with matches or targets of iptables is for, as a comparison in it says.
fn protocol(expressions: &[u8]) -> Option<u8> {
    const PROTOCOL: u32 = 16;
    let all: Vec<(Vec<u8>, &[u8])> = attributes(expressions)
        .map(|(_, one)| {
            let name = raw::name(find(one, 1).unwrap_or_default());
            (name, find(one, 2).unwrap_or_default())
        })
        .collect();
    if !all
        .iter()
        .any(|(name, _)| matches!(&name[..], b"match" | b"target"))
    {
        return None;
    }
    let number = |data: &[u8], kind| find(data, kind).map_or(0, big_number);
    let says = |name: &[u8], data: &[u8]| match name {
        b"meta" => number(data, 2) == PROTOCOL,
        // Base, offset and length: of the header of IPv4 and of IPv6.
        b"payload" => {
            number(data, 2) == 1 && [6, 9].contains(&number(data, 3)) && number(data, 4) == 1
        }
        _ => false,
    };
    let found = all.windows(2).find_map(|two| {
        let [(first, data), (second, value)] = two else {
            return None;
        };
        let is_equal = second == b"cmp" && number(value, 2) == 0;
        let value = find(value, 3).and_then(|value| find(value, 1));
        value
            .filter(|_| is_equal && says(first, data))?
            .first()
            .copied()
    });
    Some(found.unwrap_or(0))
}

fn big_number(value: &[u8]) -> u32 {
    let four = value.get(..4).and_then(|four| four.try_into().ok());
    four.map_or(0, u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_a_bound_chain_come_before_the_rule_that_has_it() {
        let chain = |name: &str, flags: u32| {
            let rest = [
                attribute(TABLE, b"t\0"),
                attribute(CHAIN_NAME, name.as_bytes()),
                attribute(CHAIN_FLAGS, &flags.to_be_bytes()),
            ];
            [vec![CHAINS.new as u8, 1], rest.concat()].concat()
        };
        let rule = |chain: &str| {
            let rest = [
                attribute(TABLE, b"t\0"),
                attribute(RULE_CHAIN, chain.as_bytes()),
            ];
            [vec![RULES.new as u8, 1], rest.concat()].concat()
        };
        let all = [
            chain("in", 0),
            chain("a", BOUND),
            chain("b", BOUND),
            rule("in"),
            rule("a"),
            rule("b"),
        ];
        let order: Vec<usize> = in_order(&all)
            .iter()
            .map(|(_, one)| {
                all.iter()
                    .position(|other| other == *one)
                    .expect("one of them")
            })
            .collect();
        assert_eq!(order, [0, 1, 2, 5, 4, 3]);
        assert!(are_whole(&all) && !are_whole(&[vec![99, 1, 0]]));
    }

    #[test]
    fn a_rule_of_iptables_says_its_protocol_again() {
        let one = |name: &str, data: &[u8]| {
            let name = [name.as_bytes(), &[0]].concat();
            attribute(1, &[attribute(1, &name), attribute(2, data)].concat())
        };
        let word = |kind, value: u32| attribute(kind, &value.to_be_bytes());
        let meta = one("meta", &[word(2, 16), word(1, 1)].concat());
        let tcp = attribute(3, &attribute(1, &[6]));
        let cmp = one("cmp", &[word(1, 1), word(2, 0), tcp].concat());
        let of_iptables = one("match", &attribute(1, b"tcp\0"));
        let both = [meta, cmp].concat();
        assert_eq!(protocol(&both), None);
        assert_eq!(protocol(&[both, of_iptables.clone()].concat()), Some(6));
        assert_eq!(protocol(&of_iptables), Some(0));
    }
}
