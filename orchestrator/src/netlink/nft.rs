//! Rules of nftables that keep packets of connections away: made and removed by netlink (`NETLINK_NETFILTER`).
//!
//! A table of the family `inet` with two chains drops what comes to and goes from these connections, but for packets that carry
//! our mark. A table may belong to a socket of ours: the kernel removes it when that is closed, however we end
//! (`NFT_TABLE_F_OWNER`, Linux 5.12).
//!
//! Messages are built by hand: the crates for nftables need a C library, or run the program `nft`. Numbers are of
//! `linux/netfilter/nf_tables.h`.

use super::raw::{
    self, ACKNOWLEDGED, APPEND, Asker, CREATE, ERROR, NESTED, REQUEST, attribute, check, messages,
};
use crate::sys::socket::set_option_of;
use netlink_sys::{Socket, SocketAddr as Address, protocols::NETLINK_NETFILTER};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// What packets of ours carry, which pass: that of the peer.
pub const MARK: u32 = 0xc114;

const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const FAMILY_INET: u8 = 1;
const TABLE_OWNER: u32 = 2;
/// Bytes that follow a header of netlink here.
const GENERIC: usize = 4;
/// Rules of one batch: it has to fit into the socket.
const BATCH: usize = 64;
/// Bytes received at a time.
const BUFFER: usize = 64 << 10;
/// Hooks and the place before all others.
const HOOKS: [(&str, u32); 2] = [("input", 1), ("output", 3)];
const PRIORITY: i32 = -450;

/// A table of ours while it belongs to us.
#[derive(Debug)]
pub struct Owned {
    socket: Socket,
}

/// Both ends of a connection.
pub type Ends = (SocketAddr, SocketAddr);

/// Which packets are kept away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those of connections of TCP.
    Connections(Vec<Ends>),
    /// All of the network namespace.
    All,
}

/// Makes a table that drops packets of these connections (from the first address to the second, and back), and that goes when
/// what is returned goes.
///
/// # Errors
/// The kernel has no nftables, or we may not use it.
pub fn lock_owned(name: &str, scope: &Scope) -> io::Result<Owned> {
    let socket = open()?;
    make(&socket, name, TABLE_OWNER, scope)?;
    Ok(Owned { socket })
}

/// As [`lock_owned`]; the table stays until somebody removes it.
///
/// # Errors
/// As [`lock_owned`].
pub fn lock(name: &str, scope: &Scope) -> io::Result<()> {
    make(&open()?, name, 0, scope)
}

impl Owned {
    /// Removes the table.
    pub fn unlock(self) {
        drop(self.socket);
    }
}

/// Removes a table, and returns whether there was one.
///
/// # Errors
/// The kernel does not let us.
pub fn unlock(name: &str) -> io::Result<bool> {
    let body = attribute(1, &text(name));
    match send(&open()?, &[(DELETE_TABLE, 0, body)]) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// Returns the names of the tables of this family.
///
/// # Errors
/// The kernel does not tell them.
pub fn tables() -> io::Result<Vec<String>> {
    let asker = Asker::open(NETLINK_NETFILTER)?;
    let all = asker.all(NFTABLES << 8 | GET_TABLE, &[FAMILY_INET, 0, 0, 0])?;
    Ok(all.iter().filter_map(|one| name_in(&one.body)).collect())
}

/// Requests that are done as a whole or not at all.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Messages, but for the last one.
    bytes: Vec<u8>,
    last: Option<(u8, u16, u16, Vec<u8>)>,
}

impl Batch {
    /// Adds a request: family, kind, how, attributes.
    pub fn push(&mut self, family: u8, kind: u16, flags: u16, body: &[u8]) {
        self.flush(0);
        self.last = Some((family, kind, flags, body.to_vec()));
    }

    fn flush(&mut self, more: u16) {
        if let Some((family, kind, flags, body)) = self.last.take() {
            let body = [&[family, 0, 0, 0], &body[..]].concat();
            let kind = NFTABLES << 8 | kind;
            self.bytes
                .extend(raw::message(kind, REQUEST | flags | more, &body));
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        }
    }

    /// Sends it, and waits until it is done. Only the last request is answered, and those that fail.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(mut self) -> io::Result<()> {
        if self.last.is_none() {
            return Ok(());
        }
        self.flush(ACKNOWLEDGED);
        let bytes = [
            message(BATCH_BEGIN, REQUEST, NFTABLES, &[]),
            self.bytes,
            message(BATCH_END, REQUEST, NFTABLES, &[]),
        ]
        .concat();
        let socket = open()?;
        set_send_buffer(&socket, 2 * bytes.len() + BUFFER)?;
        socket.send(&bytes, 0)?;
        loop {
            let mut buffer = Vec::with_capacity(BUFFER);
            socket.recv(&mut buffer, 0)?;
            if let Some((_, body)) = messages(&buffer).iter().find(|(kind, _)| *kind == ERROR) {
                return check(body);
            }
        }
    }
}

/// Has a socket take messages of this many bytes, whatever the limit is.
fn set_send_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX).to_ne_bytes();
    let set = set_option_of(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes);
    set.map_err(|error| io::Error::from_raw_os_error(error.errno as i32))
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&Address::new(0, 0))?;
    Ok(socket)
}

/// A message of a batch: type, flags, attributes.
type Part = (u16, u16, Vec<u8>);

fn make(socket: &Socket, name: &str, flags: u32, scope: &Scope) -> io::Result<()> {
    let table = [
        attribute(1, &text(name)),
        attribute(2, &flags.to_be_bytes()),
    ]
    .concat();
    let mut parts = vec![(NEW_TABLE, CREATE, table)];
    for (chain, hook) in HOOKS {
        parts.push((NEW_CHAIN, CREATE, chain_body(name, chain, hook)));
        parts.push(rule(name, chain, &pass_marked()));
        if *scope == Scope::All {
            parts.push(rule(name, chain, &verdict(DROP)));
        }
    }
    send(socket, &parts)?;
    let Scope::Connections(connections) = scope else {
        return Ok(());
    };
    let both = connections
        .iter()
        .flat_map(|&(local, remote)| [("input", remote, local), ("output", local, remote)]);
    let rules: Vec<Part> = both
        .map(|(chain, from, to)| rule(name, chain, &drop_packets(from, to)))
        .collect();
    rules.chunks(BATCH).try_for_each(|some| send(socket, some))
}

fn chain_body(table: &str, chain: &str, hook: u32) -> Vec<u8> {
    let hook = [
        attribute(1, &hook.to_be_bytes()),
        attribute(2, &PRIORITY.to_be_bytes()),
    ];
    [
        attribute(1, &text(table)),
        attribute(3, &text(chain)),
        attribute(4 | NESTED, &hook.concat()),
        attribute(7, &text("filter")),
    ]
    .concat()
}

fn rule(table: &str, chain: &str, expressions: &[u8]) -> Part {
    let body = [
        attribute(1, &text(table)),
        attribute(2, &text(chain)),
        attribute(4 | NESTED, expressions),
    ];
    (NEW_RULE, CREATE | APPEND, body.concat())
}

/// Packets with our mark pass.
fn pass_marked() -> Vec<u8> {
    const META_MARK: u32 = 3;
    [
        meta(META_MARK),
        compare(&MARK.to_ne_bytes()),
        verdict(ACCEPT),
    ]
    .concat()
}

const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// Packets of TCP from one address to another are dropped.
fn drop_packets(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    const META_FAMILY: u32 = 15;
    const META_PROTOCOL: u32 = 16;
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    let family = |number: u8| [meta(META_FAMILY), compare(&[number])].concat();
    let (family, addresses) = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let both = [from.octets(), to.octets()].concat();
            (
                family(2),
                [payload(NETWORK, 12, 8), compare(&both)].concat(),
            )
        }
        (from, to) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            let parts = [
                payload(NETWORK, 8, 16),
                compare(&octets(from)),
                payload(NETWORK, 24, 16),
                compare(&octets(to)),
            ];
            (family(10), parts.concat())
        }
    };
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    [
        family,
        meta(META_PROTOCOL),
        compare(&[libc::IPPROTO_TCP as u8]),
        addresses,
        payload(TRANSPORT, 0, 4),
        compare(&ports),
        verdict(DROP),
    ]
    .concat()
}

fn meta(key: u32) -> Vec<u8> {
    let data = [
        attribute(2, &key.to_be_bytes()),
        attribute(1, &1_u32.to_be_bytes()),
    ];
    expression("meta", &data.concat())
}

fn payload(base: u32, offset: u32, len: u32) -> Vec<u8> {
    let numbers = [(1, 1), (2, base), (3, offset), (4, len)];
    let data = numbers.map(|(kind, number)| attribute(kind, &number.to_be_bytes()));
    expression("payload", &data.concat())
}

fn compare(value: &[u8]) -> Vec<u8> {
    let data = [
        attribute(1, &1_u32.to_be_bytes()),
        attribute(2, &0_u32.to_be_bytes()),
        attribute(3 | NESTED, &attribute(1, value)),
    ];
    expression("cmp", &data.concat())
}

fn verdict(code: u32) -> Vec<u8> {
    let verdict = attribute(2 | NESTED, &attribute(1, &code.to_be_bytes()));
    let data = [
        attribute(1, &0_u32.to_be_bytes()),
        attribute(2 | NESTED, &verdict),
    ];
    expression("immediate", &data.concat())
}

fn expression(name: &str, data: &[u8]) -> Vec<u8> {
    let body = [attribute(1, &text(name)), attribute(2 | NESTED, data)];
    attribute(1 | NESTED, &body.concat())
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// Returns a message; `subsystem` is what a batch is for.
fn message(kind: u16, flags: u16, subsystem: u16, body: &[u8]) -> Vec<u8> {
    let family = if subsystem == 0 { FAMILY_INET } else { 0 };
    let [high, low] = subsystem.to_be_bytes();
    raw::message(kind, flags, &[&[family, 0, high, low], body].concat())
}

/// Sends a batch, which is done as a whole or not at all, and waits until it is.
fn send(socket: &Socket, parts: &[Part]) -> io::Result<()> {
    let mut bytes = message(BATCH_BEGIN, REQUEST, NFTABLES, &[]);
    for (kind, flags, body) in parts {
        let flags = REQUEST | ACKNOWLEDGED | flags;
        bytes.extend(message(NFTABLES << 8 | kind, flags, 0, body));
    }
    bytes.extend(message(BATCH_END, REQUEST, NFTABLES, &[]));
    socket.send(&bytes, 0)?;
    let mut left = parts.len();
    while left > 0 {
        let mut buffer = Vec::with_capacity(BUFFER);
        socket.recv(&mut buffer, 0)?;
        for (kind, body) in messages(&buffer) {
            if kind == ERROR {
                check(body)?;
                left = left.saturating_sub(1);
            }
        }
    }
    Ok(())
}

/// Returns the name in what is told of a table.
fn name_in(body: &[u8]) -> Option<String> {
    if *body.first()? != FAMILY_INET {
        return None;
    }
    let name = raw::find(body.get(GENERIC..)?, 1)?;
    String::from_utf8(raw::name(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_among_attributes() {
        let body = [
            vec![FAMILY_INET, 0, 0, 0],
            attribute(2, &[0; 4]),
            attribute(1, b"mine\0"),
        ];
        assert_eq!(name_in(&body.concat()).as_deref(), Some("mine"));
    }
}
