//! Between the fact and its record; path, flags and owner are in the record of its node, which has the same id.

use crate::image::error::{Checked, wrong};
use crate::snapshot::{OpenFile, RegularFile, Tun, TunQueue};
use proto::pb;

/// Most bytes of a name of a device (`IFNAMSIZ`).
const MAX_NAME: usize = 15;
/// Sets of the peer do not say flags: the device would have others.
const NO_FLAGS: &str = "its flags are not in the images, which only ours have";

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(file: &OpenFile, fact: &Tun) -> pb::TunfileEntry {
    let queue = fact.queue.as_ref();
    pb::TunfileEntry {
        id: file.id.0,
        netdev: queue.map(|queue| queue.device.clone()),
        detached: queue.and_then(|queue| queue.is_detached.then_some(true)),
        ns_id: None,
        ext: queue.map(|queue| pb::ExtTunfile {
            flags: Some(queue.flags.into()),
            vnet_header: Some(queue.vnet_header),
            send_buffer: Some(queue.send_buffer),
        }),
    }
}

/// Returns the fact in `record`, given its node; an error of words is of one that is not restored.
pub(crate) fn from_record(
    record: &pb::TunfileEntry,
    node: RegularFile,
) -> Checked<Result<Tun, String>> {
    let Some(device) = &record.netdev else {
        return Ok(Ok(Tun { node, queue: None }));
    };
    if device.is_empty() || device.len() > MAX_NAME || device.contains(&0) {
        return wrong!("a name of {} bytes is none of a device", device.len());
    }
    let ext = record.ext.as_ref();
    let flags = ext.and_then(|ext| ext.flags);
    let Some(flags) = flags else {
        let device = String::from_utf8_lossy(device);
        return Ok(Err(format!("TUN or TAP device {device}: {NO_FLAGS}")));
    };
    let Ok(flags) = u16::try_from(flags) else {
        return wrong!("{flags:#x} are no flags of a device");
    };
    let number = |value: Option<i32>| value.unwrap_or_default();
    let queue = TunQueue {
        device: device.clone(),
        flags,
        is_detached: record.detached == Some(true),
        vnet_header: number(ext.and_then(|ext| ext.vnet_header)),
        send_buffer: number(ext.and_then(|ext| ext.send_buffer)),
    };
    match queue.vnet_header < 0 || queue.send_buffer < 0 {
        true => wrong!("a size is below zero"),
        false => Ok(Ok(Tun {
            node,
            queue: Some(queue),
        })),
    }
}
