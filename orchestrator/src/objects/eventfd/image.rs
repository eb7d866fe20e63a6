//! Between the fact and its record.

use crate::image::error::{Checked, wrong};
use crate::snapshot::{EventFd, OpenFile};
use proto::pb;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &EventFd,
) -> pb::EventfdFileEntry {
    pb::EventfdFileEntry {
        id: file.id.0,
        flags: file.flags,
        fown,
        counter: fact.counter,
        ext: fact.semaphore.then_some(pb::ExtEventfd {
            semaphore: Some(true),
        }),
    }
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::EventfdFileEntry) -> Checked<EventFd> {
    // fs/eventfd.c: the counter never reaches ULLONG_MAX.
    if record.counter == u64::MAX {
        return wrong!("an eventfd cannot count to {}", record.counter);
    }
    Ok(EventFd {
        counter: record.counter,
        semaphore: record
            .ext
            .as_ref()
            .is_some_and(|ext| ext.semaphore == Some(true)),
    })
}
