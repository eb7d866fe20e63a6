//! Between the fact and its record in `files.img`.

use super::{MAX_PROTOCOL, MOST_WORDS, OPTIONS, SOL_NETLINK};
use crate::image::error::{Checked, wrong};
use crate::objects::sockopt::image as sockopt;
use crate::snapshot::{InetOption, NetlinkSocket, OpenFile};
use proto::pb;

/// `NETLINK_CONNECTED`.
const CONNECTED: u32 = 1;
/// Id of the network namespace within the image set.
const NET_NS: u32 = 2;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &NetlinkSocket,
) -> pb::NetlinkSkEntry {
    let (dst_portid, dst_group) = fact.peer.unwrap_or_default();
    let options = fact.values.iter().map(|value| pb::ExtInetOption {
        level: value.level as u32,
        number: value.name as u32,
        value: value.value.clone(),
    });
    pb::NetlinkSkEntry {
        id: file.id.0,
        ino: fact.ino,
        protocol: fact.protocol as u32,
        state: u32::from(fact.peer.is_some()) * CONNECTED,
        flags: file.flags,
        portid: fact.port,
        groups: fact.groups.clone(),
        dst_portid,
        dst_group,
        fown,
        opts: sockopt::to_record(&fact.options),
        ns_id: Some(NET_NS),
        ext: Some(pb::ExtNetlinkSk {
            r#type: fact.kind as u32,
            option: options.collect(),
        }),
    }
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::NetlinkSkEntry) -> Checked<NetlinkSocket> {
    let ext = record.ext.as_ref();
    let kind = ext.map_or(libc::SOCK_RAW, |ext| ext.r#type as i32);
    let is_kind = [libc::SOCK_RAW, libc::SOCK_DGRAM].contains(&kind);
    if !is_kind || record.protocol >= MAX_PROTOCOL {
        let protocol = record.protocol;
        return wrong!("type {kind} and protocol {protocol} are none of netlink");
    }
    if record.groups.len() > MOST_WORDS || record.dst_group > 32 {
        return wrong!("there are no such groups of netlink");
    }
    let mut values = Vec::new();
    for option in ext.iter().flat_map(|ext| &ext.option) {
        let name = option.number as i32;
        if !OPTIONS.contains(&name) || option.value.len() != 4 {
            return wrong!("option {name} of netlink is not known");
        }
        values.push(InetOption {
            level: SOL_NETLINK,
            name,
            value: option.value.clone(),
        });
    }
    let peer = (record.dst_portid, record.dst_group);
    Ok(NetlinkSocket {
        ino: record.ino,
        kind,
        protocol: record.protocol as i32,
        port: record.portid,
        groups: record.groups.clone(),
        peer: (record.state == CONNECTED || peer != (0, 0)).then_some(peer),
        options: sockopt::from_record(&record.opts)?,
        values,
    })
}
