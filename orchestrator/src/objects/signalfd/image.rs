//! Between the fact and its record.

use crate::snapshot::{OpenFile, SignalFd};
use proto::pb;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &SignalFd,
) -> pb::SignalfdEntry {
    pb::SignalfdEntry {
        id: file.id.0,
        flags: file.flags,
        fown,
        sigmask: fact.mask,
    }
}

/// Returns the fact in `record`: any mask is one.
pub(crate) fn from_record(record: &pb::SignalfdEntry) -> SignalFd {
    SignalFd {
        mask: record.sigmask,
    }
}
