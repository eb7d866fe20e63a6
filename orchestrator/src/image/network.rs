//! Between a network namespace and its files: `netns-ID.img`, `netdev-ID.img`, and those of raw messages of rtnetlink, which
//! are as `ip address save`, `ip route save` and `ip rule save` write them.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use proto::{kinds, pb};

use super::codec::{encode, read_all, read_one};
use super::dir::{Dir, failed};
use super::error::{Checked, Error, Result, Wrong, wrong};
use super::write::ImageWriter;
use crate::netlink::raw;
use crate::objects::netns::filters;
use crate::objects::netns::plan;
use crate::objects::netns::present::{NEW_ADDRESS, NEW_ROUTE, NEW_RULE};
use crate::snapshot::{Link, NetNamespace, Setting, Snapshot};

/// First word of the files of `ip`.
const ADDRESSES: u32 = 0x4736_1222;
const ROUTES: u32 = 0x4531_1224;
const RULES: u32 = 0x7170_6986;
/// Most bytes of a file of messages.
const MOST: u64 = 64 << 20;
/// What the peer keeps of a namespace beside, each in a file of its own.
const NOT_READ: [(&str, &str); 5] = [
    ("nftables", "rules of nftables"),
    ("iptables", "rules of iptables"),
    ("ip6tables", "rules of ip6tables"),
    ("netns-ct", "connections that netfilter tracks"),
    ("netns-exp", "connections that netfilter expects"),
];
/// Most bytes of a name of a link (`IFNAMSIZ`), and of another name.
const MAX_NAME: usize = 15;
const MAX_OTHER_NAME: usize = 127;
/// Most bytes of an address in hardware, of a description, and of what a kind tells.
const MAX_ADDRESS: usize = 32;
const MAX_ALIAS: usize = 255;
const MAX_DATA: usize = 16 << 10;
/// Most bytes of a setting, and of its name.
const MAX_SETTING: usize = 4096;

impl ImageWriter {
    /// Writes the tree's network namespace.
    pub(super) fn write_network(&mut self, snapshot: &Snapshot) -> Result<()> {
        let Some(own) = &snapshot.network else {
            return Ok(());
        };
        let id = own.id;
        let links: Vec<_> = own.links.iter().map(link_to_record).collect();
        self.write(
            &format!("netns-{id}.img"),
            &encode(kinds::NETNS, [&to_record(own)]),
        )?;
        self.write(&format!("netdev-{id}.img"), &encode(kinds::NETDEV, &links))?;
        let of_family = |family: i32| {
            let routes = own.routes.iter();
            routes.filter(move |body| body.first().is_some_and(|byte| i32::from(*byte) == family))
        };
        let files = [
            ("ifaddr", saved(ADDRESSES, NEW_ADDRESS, &own.addresses)),
            ("route", saved(ROUTES, NEW_ROUTE, of_family(libc::AF_INET))),
            (
                "route6",
                saved(ROUTES, NEW_ROUTE, of_family(libc::AF_INET6)),
            ),
            ("rule", saved(RULES, NEW_RULE, &own.rules)),
        ];
        for (name, bytes) in files {
            let name = format!("{name}-{id}.img");
            let written = self.create_file(&name)?.write_all(&bytes);
            written.map_err(|source| failed("write", &name, source))?;
        }
        Ok(())
    }
}

/// Says in the record of a socket which network namespace it is of.
pub(super) fn put_in(record: &mut pb::FileEntry, id: u32) {
    if let Some(socket) = &mut record.isk {
        socket.ns_id = Some(id);
    }
    if let Some(socket) = &mut record.usk {
        socket.ns_id = Some(id);
    }
    if let Some(socket) = &mut record.nlsk {
        socket.ns_id = Some(id);
    }
    if let Some(socket) = &mut record.psk {
        socket.ns_id = Some(id);
    }
}

/// Returns a file of messages.
fn saved<'a>(magic: u32, kind: u16, bodies: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    /// `NLM_F_MULTI`, as the kernel has said it.
    const PART: u16 = 2;
    let mut bytes = magic.to_le_bytes().to_vec();
    for body in bodies {
        bytes.extend(raw::message(kind, PART, body));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn to_record(own: &NetNamespace) -> pb::NetnsEntry {
    let setting = |setting: &Setting| pb::ExtNetSetting {
        name: setting.name.clone(),
        value: setting.value.clone(),
    };
    let ext = pb::ExtNetns {
        setting: own.settings.iter().map(setting).collect(),
        neighbour: own.neighbours.clone(),
        filter: own.filters.clone(),
    };
    pb::NetnsEntry {
        // Also where nothing is kept: by that a set of ours is known.
        ext: Some(ext),
        ..Default::default()
    }
}

fn link_to_record(link: &Link) -> pb::NetDeviceEntry {
    let some = |bytes: &Vec<u8>| (!bytes.is_empty()).then(|| bytes.clone());
    let ext = pb::ExtNetDevice {
        kind: some(&link.kind),
        data: some(&link.data),
        lower: link.lower,
        lower_ns: link.lower_ns,
        port_kind: some(&link.port.0),
        port_data: some(&link.port.1),
        queue_len: Some(link.queue_len),
        alias: some(&link.alias),
        group: Some(link.group).filter(|group| *group != 0),
        other_name: link.other_names.clone(),
        more: some(&link.more),
    };
    pb::NetDeviceEntry {
        r#type: type_of(link) as i32,
        ifindex: link.index,
        mtu: link.mtu,
        flags: link.flags,
        name: link.name.clone(),
        address: some(&link.address),
        master: link.master,
        ext: Some(ext),
        ..Default::default()
    }
}

/// Returns the peer's type of a link.
fn type_of(link: &Link) -> pb::NdType {
    match &link.kind[..] {
        _ if link.is_loopback() => pb::NdType::Loopback,
        b"veth" => pb::NdType::Veth,
        b"tun" => pb::NdType::Tun,
        b"bridge" => pb::NdType::Bridge,
        b"macvlan" => pb::NdType::Macvlan,
        b"sit" => pb::NdType::Sit,
        _ => pb::NdType::Extlink,
    }
}

/// Returns the namespace with this id.
pub(super) fn from_files(dir: &Dir, id: u32) -> Result<NetNamespace> {
    let name = format!("netns-{id}.img");
    let record: pb::NetnsEntry = read_one(dir, &name, kinds::NETNS)?;
    let at = |wrong: Wrong| wrong.at(&name, "its record");
    // Ours has every setting there; the peer's records are not read, and what they say is not to be lost without a word.
    let Some(ext) = record.ext else {
        return Err(at(Wrong::new(
            "the settings of a network namespace are not read yet from a set of CRIU",
        )));
    };
    refuse_not_read(dir, id)?;
    let settings = ext.setting.into_iter().map(setting_from_record);
    let settings = settings.collect::<Checked<_>>().map_err(at)?;
    let name = format!("netdev-{id}.img");
    let mut indices = BTreeSet::new();
    let mut links = Vec::new();
    for record in read_all::<pb::NetDeviceEntry>(dir, &name, kinds::NETDEV)?.unwrap_or_default() {
        let at = |wrong: Wrong| wrong.at(&name, format!("device {}", record.ifindex));
        let link = link_from_record(&record).map_err(at)?;
        if !indices.insert(link.index) {
            return Err(at(Wrong::new("it is there twice")));
        }
        links.push(link);
    }
    let mut routes = read_saved(dir, &format!("route-{id}.img"), ROUTES, NEW_ROUTE)?;
    routes.extend(read_saved(
        dir,
        &format!("route6-{id}.img"),
        ROUTES,
        NEW_ROUTE,
    )?);
    let own = NetNamespace {
        id,
        links,
        addresses: read_saved(dir, &format!("ifaddr-{id}.img"), ADDRESSES, NEW_ADDRESS)?,
        routes,
        rules: read_saved(dir, &format!("rule-{id}.img"), RULES, NEW_RULE)?,
        neighbours: ext.neighbour,
        settings,
        filters: ext.filter,
    };
    match plan::are_whole(&own) && filters::are_whole(&own.filters) {
        true => Ok(own),
        false => Err(Wrong::new("a message is cut").at(&name, "its messages")),
    }
}

/// Refuses what else a set has of the namespace and is not restored yet.
fn refuse_not_read(dir: &Dir, id: u32) -> Result<()> {
    for (stem, what) in NOT_READ {
        let name = format!("{stem}-{id}.img");
        let Some(file) = dir.open_file(&name)? else {
            continue;
        };
        let found = file.metadata();
        let found = found.map_err(|source| failed("look at", &name, source))?;
        if found.len() > 0 {
            let wrong = Wrong::new(format!("{what} are not restored yet"));
            return Err(wrong.at(&name, "the network namespace"));
        }
    }
    Ok(())
}

fn setting_from_record(record: pb::ExtNetSetting) -> Checked<Setting> {
    let (name, value) = (record.name, record.value);
    let mut parts = name.split(|byte| *byte == b'/');
    let leads_out = parts.any(|part| matches!(part, b"" | b"." | b"..") || part.contains(&0));
    if leads_out || name.len() > MAX_SETTING || value.len() > MAX_SETTING {
        return wrong!("{} is no setting", String::from_utf8_lossy(&name));
    }
    Ok(Setting { name, value })
}

fn link_from_record(record: &pb::NetDeviceEntry) -> Checked<Link> {
    let ext = record.ext.clone().unwrap_or_default();
    let known = |kind: &[u8]| kind.to_vec();
    let kind = match (ext.kind, record.r#type()) {
        (Some(kind), _) => kind,
        (None, pb::NdType::Veth) => known(b"veth"),
        (None, pb::NdType::Tun) => known(b"tun"),
        (None, pb::NdType::Bridge) => known(b"bridge"),
        (None, pb::NdType::Macvlan) => known(b"macvlan"),
        (None, pb::NdType::Sit) => known(b"sit"),
        (None, _) => Vec::new(),
    };
    let link = Link {
        index: record.ifindex,
        name: record.name.clone(),
        other_names: ext.other_name,
        flags: record.flags,
        kind,
        data: ext.data.unwrap_or_default(),
        mtu: record.mtu,
        address: record.address.clone().unwrap_or_default(),
        lower: ext.lower,
        lower_ns: ext.lower_ns,
        master: record.master,
        port: (
            ext.port_kind.unwrap_or_default(),
            ext.port_data.unwrap_or_default(),
        ),
        queue_len: ext.queue_len.unwrap_or(0),
        alias: ext.alias.unwrap_or_default(),
        group: ext.group.unwrap_or(0),
        more: ext.more.unwrap_or_default(),
    };
    let is_name = |name: &[u8], most: usize| {
        (1..=most).contains(&name.len()) && !name.iter().any(|byte| b"/\0 ".contains(byte))
    };
    let names = link.other_names.iter();
    let has_names = is_name(&link.name, MAX_NAME)
        && !matches!(&link.name[..], b"." | b"..")
        && names.clone().all(|name| is_name(name, MAX_OTHER_NAME));
    if !has_names || link.index == 0 || link.index > i32::MAX as u32 {
        return wrong!("it has no name, or no number");
    }
    let is_long = link.address.len() > MAX_ADDRESS
        || link.alias.len() > MAX_ALIAS
        || link.kind.len() > MAX_NAME
        || link.port.0.len() > MAX_NAME
        || link.data.len() + link.port.1.len() + link.more.len() > MAX_DATA;
    match is_long {
        true => wrong!("what it tells is too long"),
        false => Ok(link),
    }
}

/// Returns the messages of a file, which need not be there.
fn read_saved(dir: &Dir, name: &str, magic: u32, kind: u16) -> Result<Vec<Vec<u8>>> {
    let Some(mut file) = dir.open_file(name)? else {
        return Ok(Vec::new());
    };
    let mut bytes = Vec::new();
    let read = Read::take(&mut file, MOST + 1).read_to_end(&mut bytes);
    read.map_err(|source| failed("read", name, source))?;
    let at = |wrong: Wrong| -> Error { wrong.at(name, "its messages") };
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    if bytes.len() as u64 > MOST || raw::number(&bytes) != Some(magic) {
        return Err(at(Wrong::new("it does not begin as such a file does")));
    }
    let messages = raw::messages(&bytes[4..]);
    if messages.iter().any(|(other, _)| *other != kind) {
        return Err(at(Wrong::new("it has messages of another kind")));
    }
    Ok(messages.iter().map(|(_, body)| body.to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were_saved() {
        let bodies = [vec![2, 8, 0x80, 0xfe, 1, 0, 0, 0], vec![10; 13]];
        let bytes = saved(ADDRESSES, NEW_ADDRESS, &bodies);
        // As `ip address save` begins.
        assert_eq!(bytes[..4], [0x22, 0x12, 0x36, 0x47]);
        let read: Vec<_> = raw::messages(&bytes[4..]);
        assert_eq!(read.len(), 2);
        assert_eq!(read[1], (NEW_ADDRESS, &bodies[1][..]));
    }

    #[test]
    fn a_link_comes_back_and_a_bad_one_does_not() {
        let link = Link {
            index: 4,
            name: b"br0".to_vec(),
            kind: b"bridge".to_vec(),
            data: vec![1, 2],
            lower: Some(7),
            master: Some(9),
            queue_len: 1000,
            ..Link::default()
        };
        let record = link_to_record(&link);
        assert_eq!(link_from_record(&record), Ok(link));
        for name in ["", "a/b", "..", "longer-than-sixteen"] {
            let record = pb::NetDeviceEntry {
                name: name.into(),
                ..record.clone()
            };
            assert!(link_from_record(&record).is_err(), "{name}");
        }
    }

    #[test]
    fn what_the_peer_has_beside_is_not_lost_without_a_word() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = Dir::open(folder.path()).expect("opens");
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.path().join(name), bytes).expect("written");
        };
        let record = |ext| {
            let record = pb::NetnsEntry {
                ext,
                ..pb::NetnsEntry::default()
            };
            write("netns-10.img", &encode(kinds::NETNS, [&record]).bytes);
        };
        let words = || from_files(&dir, 10).expect_err("refused").to_string();
        record(None);
        assert!(words().contains("settings"), "{}", words());
        record(Some(pb::ExtNetns::default()));
        write("iptables-10.img", b"");
        assert!(from_files(&dir, 10).is_ok(), "an empty file says nothing");
        write("nftables-10.img", b"table ip x {}");
        assert!(words().contains("rules of nftables"), "{}", words());
    }

    #[test]
    fn a_setting_lies_below_its_folder() {
        let read = |name: &str| {
            setting_from_record(pb::ExtNetSetting {
                name: name.into(),
                value: vec![b'1'],
            })
        };
        assert!(read("ipv4/ip_forward").is_ok());
        for name in ["../kernel/core_pattern", "/etc", "ipv4//x", "", "ipv4/./x"] {
            assert!(read(name).is_err(), "{name}");
        }
    }
}
