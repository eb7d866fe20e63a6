//! Between the fact and its record: that of a regular file, with the device number as an extension.

use crate::snapshot::{DeviceFile, RegularFile};
use proto::pb;

/// Adds the device number to the record of the node.
pub(crate) fn to_record(fact: &DeviceFile, node: pb::RegFileEntry) -> pb::RegFileEntry {
    let own_ext = (fact.rdev != 0).then_some(pb::ExtFile {
        rdev: Some(fact.rdev),
        ..Default::default()
    });
    pb::RegFileEntry { own_ext, ..node }
}

/// Returns the fact in `record`, whose node was read from it.
pub(crate) fn from_record(record: &pb::RegFileEntry, node: RegularFile) -> DeviceFile {
    let rdev = record
        .own_ext
        .as_ref()
        .and_then(|ext| ext.rdev)
        .unwrap_or(0);
    DeviceFile { node, rdev }
}
