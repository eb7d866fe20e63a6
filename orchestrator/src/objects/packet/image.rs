//! Between the fact and its record in `files.img`. What the peer has no fields for is in ours.

use super::{
    AUXDATA, COPY_THRESH, LOSS, MAX_ADDRESS, MOST_MEMBERS, OPTIONS, ORIGDEV, PEERS, RESERVE,
    SOL_PACKET, TIMESTAMP, VERSION, VNET_HDR,
};
use crate::image::error::{Checked, wrong};
use crate::objects::sockopt::image as sockopt;
use crate::snapshot::{InetOption, OpenFile, PacketMember, PacketSocket};
use crate::sys::socket;
use proto::pb;

/// Id of the network namespace within the image set.
const NET_NS: u32 = 2;
/// Bytes of a name of an interface (`IFNAMSIZ`).
const MAX_INTERFACE: usize = 16;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &PacketSocket,
) -> pb::PacketSockEntry {
    let value = |name: i32| {
        let found = fact.values.iter().find(|value| value.name == name);
        found.map_or(0, |value| number(&value.value))
    };
    let index = |name: &[u8]| socket::interface_index(name).unwrap_or(0);
    let others = fact
        .values
        .iter()
        .filter(|value| !PEERS.contains(&value.name));
    let options = others.map(|value| pb::ExtInetOption {
        level: value.level as u32,
        number: value.name as u32,
        value: value.value.clone(),
    });
    let [rx_ring, tx_ring] = fact.rings.map(|ring| ring.map(ring_to_record));
    pb::PacketSockEntry {
        id: file.id.0,
        r#type: fact.kind as u32,
        protocol: fact.protocol.into(),
        flags: file.flags,
        ifindex: index(&fact.interface),
        fown,
        opts: sockopt::to_record(&fact.options),
        version: value(VERSION),
        reserve: value(RESERVE),
        aux_data: value(AUXDATA) != 0,
        orig_dev: value(ORIGDEV) != 0,
        vnet_hdr: value(VNET_HDR) != 0,
        loss: value(LOSS) != 0,
        timestamp: value(TIMESTAMP),
        copy_thresh: value(COPY_THRESH),
        mclist: fact
            .members
            .iter()
            .map(|member| pb::PacketMclist {
                index: index(&member.interface),
                r#type: member.kind.into(),
                addr: member.address.clone(),
            })
            .collect(),
        fanout: fact.fanout,
        rx_ring,
        tx_ring,
        ns_id: Some(NET_NS),
        ext: Some(pb::ExtPacketSk {
            option: options.collect(),
            interface: Some(fact.interface.clone()),
            mclist_interface: fact
                .members
                .iter()
                .map(|member| member.interface.clone())
                .collect(),
        }),
    }
}

fn number(value: &[u8]) -> u32 {
    value.try_into().map_or(0, u32::from_ne_bytes)
}

fn ring_to_record(ring: [u32; 7]) -> pb::PacketRing {
    let [
        block_size,
        block_nr,
        frame_size,
        frame_nr,
        retire_tmo,
        sizeof_priv,
        features,
    ] = ring;
    pb::PacketRing {
        block_size,
        block_nr,
        frame_size,
        frame_nr,
        retire_tmo,
        sizeof_priv,
        features,
    }
}

fn ring_from_record(ring: &pb::PacketRing) -> [u32; 7] {
    [
        ring.block_size,
        ring.block_nr,
        ring.frame_size,
        ring.frame_nr,
        ring.retire_tmo,
        ring.sizeof_priv,
        ring.features,
    ]
}

/// Returns the fact in `record`, or the name of what it is that is not restored.
pub(crate) fn from_record(record: &pb::PacketSockEntry) -> Checked<Result<PacketSocket, String>> {
    let kind = record.r#type as i32;
    if ![libc::SOCK_RAW, libc::SOCK_DGRAM].contains(&kind) {
        return Ok(Err(format!("packet socket of type {kind}")));
    }
    let Ok(protocol) = u16::try_from(record.protocol) else {
        return wrong!("protocol {} is none", record.protocol);
    };
    if record.mclist.len() > MOST_MEMBERS {
        return wrong!("{} memberships are too many", record.mclist.len());
    }
    let ext = record.ext.clone().unwrap_or_default();
    let mut members = Vec::new();
    for (place, member) in record.mclist.iter().enumerate() {
        let name = ext.mclist_interface.get(place).cloned();
        let Ok(kind) = u16::try_from(member.r#type) else {
            return wrong!("membership {} is none", member.r#type);
        };
        if member.addr.len() > MAX_ADDRESS {
            return wrong!("{} bytes are no address", member.addr.len());
        }
        members.push(PacketMember {
            interface: interface(name, member.index)?,
            kind,
            address: member.addr.clone(),
        });
    }
    Ok(Ok(PacketSocket {
        ino: record.id,
        kind,
        protocol,
        interface: interface(ext.interface.clone(), record.ifindex)?,
        options: sockopt::from_record(&record.opts)?,
        values: values(record, &ext)?,
        members,
        rings: [&record.rx_ring, &record.tx_ring].map(|ring| ring.as_ref().map(ring_from_record)),
        fanout: record.fanout.filter(|fanout| *fanout != u32::MAX),
    }))
}

/// An interface is told by its name, or by the peer by the index that it had.
fn interface(name: Option<Vec<u8>>, index: u32) -> Checked<Vec<u8>> {
    let name = match (name, index) {
        (Some(name), _) => name,
        (None, 0) => Vec::new(),
        (None, index) => match socket::interface_name(index) {
            Some(name) => name,
            None => return wrong!("there is no interface {index}"),
        },
    };
    match name.len() >= MAX_INTERFACE || name.contains(&0) {
        true => wrong!("a name of {} bytes is none of an interface", name.len()),
        false => Ok(name),
    }
}

fn values(record: &pb::PacketSockEntry, ext: &pb::ExtPacketSk) -> Checked<Vec<InetOption>> {
    let mut given = vec![
        (VERSION, record.version),
        (RESERVE, record.reserve),
        (LOSS, record.loss.into()),
        (VNET_HDR, record.vnet_hdr.into()),
        (COPY_THRESH, record.copy_thresh),
        (AUXDATA, record.aux_data.into()),
        (ORIGDEV, record.orig_dev.into()),
        (TIMESTAMP, record.timestamp),
    ];
    for option in &ext.option {
        let name = option.number as i32;
        if !OPTIONS.contains(&name) || PEERS.contains(&name) || option.value.len() != 4 {
            return wrong!("option {name} of a socket of packets is not known");
        }
        given.push((name, number(&option.value)));
    }
    let in_order = OPTIONS.iter().filter_map(|&name| {
        let (_, value) = given.iter().find(|(given, _)| *given == name)?;
        (*value != 0).then(|| InetOption {
            level: SOL_PACKET,
            name,
            value: value.to_ne_bytes().to_vec(),
        })
    });
    Ok(in_order.collect())
}
