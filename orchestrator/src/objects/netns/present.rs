//! What the network namespace has that the caller is in: asked by rtnetlink, read from `/proc/sys/net`.

use super::links::is_more;
use crate::netlink::raw::{self, Asker, Message};
use crate::snapshot::{Link, Setting};
use netlink_sys::protocols::NETLINK_ROUTE;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Types of messages: what asks for all, and their numbers to add and remove one.
pub const GET_LINK: u16 = 18;
/// See [`GET_LINK`].
pub const NEW_LINK: u16 = 16;
/// See [`GET_LINK`].
pub const NEW_ADDRESS: u16 = 20;
/// See [`GET_LINK`].
pub const NEW_ROUTE: u16 = 24;
/// See [`GET_LINK`].
pub const NEW_NEIGHBOUR: u16 = 28;
/// See [`GET_LINK`].
pub const NEW_RULE: u16 = 32;
/// See [`GET_LINK`].
pub const GET_QDISC: u16 = 38;
/// See [`GET_LINK`].
pub const GET_NEXT_HOP: u16 = 106;
/// What is to be added to a number for one to be removed, and for all to be asked for.
pub const REMOVE: u16 = 1;
const GET: u16 = 2;
/// Bytes before the attributes: `struct ifinfomsg`, `ifaddrmsg`, `rtmsg`, `ndmsg`, `fib_rule_hdr`, `tcmsg`.
pub const OF_LINK: usize = 16;
/// See [`OF_LINK`].
pub const OF_ADDRESS: usize = 8;
/// See [`OF_LINK`].
pub const OF_ROUTE: usize = 12;
/// See [`OF_LINK`].
pub const OF_NEIGHBOUR: usize = 12;
/// See [`OF_LINK`].
pub const OF_RULE: usize = 12;
/// Families that are asked for.
const FAMILIES: [u8; 2] = [libc::AF_INET as u8, libc::AF_INET6 as u8];
/// `RTM_F_CLONED`: of a route that the kernel only remembers.
const CLONED: u32 = 0x200;
/// `NUD_PERMANENT`, and `NTF_PROXY` with its place among flags.
const PERMANENT: u16 = 0x80;
const PROXY: u8 = 8;
/// `NUD_NOARP`: of an entry of a bridge that does not pass. `NTF_SELF` and `NTF_MASTER`: whether it is a device's or its bridge's.
const STATIC: u16 = 0x40;
const SELF: u8 = 2;
const OF_MASTER: u8 = 4;
/// Where settings are: of the namespace of the thread that looks.
pub const SETTINGS: &str = "/proc/sys/net";

/// Opens what asks.
///
/// # Errors
/// The kernel's.
pub fn open() -> io::Result<Asker> {
    Asker::open(NETLINK_ROUTE)
}

/// Returns all links.
///
/// # Errors
/// The kernel's.
pub fn links(asker: &Asker) -> io::Result<Vec<Link>> {
    let all = asker.all(GET_LINK, &[0; OF_LINK])?;
    Ok(all.iter().filter_map(|one| link(&one.body)).collect())
}

/// Returns the link in a message.
fn link(body: &[u8]) -> Option<Link> {
    let head = body.get(..OF_LINK)?;
    let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("4 bytes"));
    let mut link = Link {
        index: word(4),
        flags: word(8),
        ..Link::default()
    };
    for (kind, value) in raw::attributes(&body[OF_LINK..]) {
        match kind {
            1 => link.address = value.to_vec(),
            3 => link.name = raw::name(value),
            4 => link.mtu = raw::number(value)?,
            // That of a link that lies on none is its own.
            5 => link.lower = raw::number(value).filter(|lower| ![0, link.index].contains(lower)),
            10 => link.master = raw::number(value),
            13 => link.queue_len = raw::number(value)?,
            18 => {
                let part = |kind: u16| raw::find(value, kind).unwrap_or_default();
                link.kind = raw::name(part(1));
                link.data = part(2).to_vec();
                link.port = (raw::name(part(4)), part(5).to_vec());
            }
            20 => link.alias = raw::name(value),
            27 => link.group = raw::number(value)?,
            37 => link.lower_ns = raw::number(value).map(|id| id as i32),
            52 => {
                let names = raw::attributes(value).filter(|(kind, _)| *kind == 53);
                link.other_names = names.map(|(_, name)| raw::name(name)).collect();
            }
            kind if is_more(kind) => link.more.extend(raw::attribute(kind, value)),
            _ => {}
        }
    }
    Some(link)
}

/// Returns all addresses.
///
/// # Errors
/// The kernel's.
pub fn addresses(asker: &Asker) -> io::Result<Vec<Vec<u8>>> {
    of_families(asker, NEW_ADDRESS + GET, OF_ADDRESS)
}

/// Returns all routes of all tables.
///
/// # Errors
/// The kernel's.
pub fn routes(asker: &Asker) -> io::Result<Vec<Vec<u8>>> {
    let mut all = of_families(asker, NEW_ROUTE + GET, OF_ROUTE)?;
    all.retain(|body| route_flags(body) & CLONED == 0);
    Ok(all)
}

/// Returns the flags of a route.
pub fn route_flags(body: &[u8]) -> u32 {
    body.get(8..).and_then(raw::number).unwrap_or(0)
}

/// Returns all rules.
///
/// # Errors
/// The kernel's.
pub fn rules(asker: &Asker) -> io::Result<Vec<Vec<u8>>> {
    of_families(asker, NEW_RULE + GET, OF_RULE)
}

/// Returns the neighbours that somebody has added.
///
/// # Errors
/// The kernel's.
pub fn neighbours(asker: &Asker) -> io::Result<Vec<Vec<u8>>> {
    let mut all = of_families(asker, NEW_NEIGHBOUR + GET, OF_NEIGHBOUR)?;
    all.retain(|body| {
        let state = body
            .get(8..10)
            .map(|two| u16::from_ne_bytes([two[0], two[1]]));
        state.is_some_and(|state| state & PERMANENT != 0)
    });
    all.extend(forwards(asker)?);
    for family in FAMILIES {
        let mut head = [0; OF_NEIGHBOUR];
        (head[0], head[10]) = (family, PROXY);
        let proxies = asker.all(NEW_NEIGHBOUR + GET, &head)?;
        all.extend(
            proxies
                .into_iter()
                .map(|one| one.body)
                .filter(|body| body.get(10).is_some_and(|flags| flags & PROXY != 0)),
        );
    }
    Ok(all)
}

/// Returns where bridges and the like forward to, as far as somebody has said so. Of devices, groups are what sockets join.
fn forwards(asker: &Asker) -> io::Result<Vec<Vec<u8>>> {
    let mut head = [0; OF_NEIGHBOUR];
    head[0] = libc::AF_BRIDGE as u8;
    let mut all: Vec<Vec<u8>> = match asker.all(NEW_NEIGHBOUR + GET, &head) {
        // A kernel without bridges.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Vec::new(),
        told => told?.into_iter().map(|one| one.body).collect(),
    };
    all.retain(|body| {
        let Some(head) = body.get(..OF_NEIGHBOUR) else {
            return false;
        };
        let state = u16::from_ne_bytes([head[8], head[9]]);
        let is_group = raw::find(&body[OF_NEIGHBOUR..], 2)
            .and_then(<[u8]>::first)
            .is_some_and(|first| first & 1 != 0);
        let is_kept = match head[10] & (SELF | OF_MASTER) {
            SELF => !is_group,
            _ => true,
        };
        state & (PERMANENT | STATIC) != 0 && is_kept
    });
    Ok(all)
}

fn of_families(asker: &Asker, kind: u16, head: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for family in FAMILIES {
        let mut body = vec![0; head];
        body[0] = family;
        let told = match asker.all(kind, &body) {
            // A kernel without IPv6.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => continue,
            told => told?,
        };
        let of_family = told.into_iter().map(|one: Message| one.body);
        all.extend(of_family.filter(|body| body.len() >= head && body[0] == family));
    }
    Ok(all)
}

/// Returns all settings that can be read and set, those of all links before those of each.
///
/// # Errors
/// There are none.
pub fn settings() -> io::Result<Vec<Setting>> {
    let mut all = Vec::new();
    read_folder(Path::new(SETTINGS), &mut Vec::new(), &mut all)?;
    all.sort_by_key(|setting| (order(&setting.name), setting.name.clone()));
    Ok(all)
}

/// A setting of all links, and of those that are to come, changes those of each.
fn order(name: &[u8]) -> u8 {
    let has = |part: &[u8]| name.windows(part.len()).any(|some| some == part);
    match () {
        () if has(b"ip_forward") => 0,
        () if has(b"/conf/all/") => 1,
        () if has(b"/conf/default/") => 2,
        () => 3,
    }
}

fn read_folder(folder: &Path, name: &mut Vec<u8>, all: &mut Vec<Setting>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let len = name.len();
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend(entry.file_name().into_vec());
        if entry.file_type()?.is_dir() {
            read_folder(&entry.path(), name, all)?;
        } else if entry.metadata()?.permissions().mode() & 0o600 == 0o600
            // Some are told of only where they were set.
            && let Ok(mut value) = std::fs::read(entry.path())
        {
            while value.last().is_some_and(u8::is_ascii_whitespace) {
                value.pop();
            }
            all.push(Setting {
                name: name.clone(),
                value,
            });
        }
        name.truncate(len);
    }
    Ok(())
}

/// Returns the file of a setting.
pub fn setting_path(name: &[u8]) -> std::path::PathBuf {
    Path::new(SETTINGS).join(std::ffi::OsStr::from_bytes(name))
}
