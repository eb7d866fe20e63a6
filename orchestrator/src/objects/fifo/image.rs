//! Between the fact and its record; path, flags and owner are in the record of its node.

use crate::snapshot::{Fifo, OpenFile, RegularFile};
use proto::pb;

/// Returns the record of `fact`, which is open as `file`; `regf_id` is the record of its node.
pub(crate) fn to_record(file: &OpenFile, fact: &Fifo, regf_id: u32) -> pb::FifoEntry {
    pb::FifoEntry {
        id: file.id.0,
        pipe_id: fact.pipe_id,
        regf_id: Some(regf_id),
    }
}

/// Returns the fact in `record`, given its node.
pub(crate) fn from_record(record: &pb::FifoEntry, node: RegularFile) -> Fifo {
    Fifo {
        pipe_id: record.pipe_id,
        node,
    }
}
