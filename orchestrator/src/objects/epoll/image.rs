//! Between the fact and its record. Which open file description a watch is on, the peer does not keep: an extension.

use crate::image::error::Checked;
use crate::image::limits::fd;
use crate::snapshot::{Epoll, EpollTarget, FileId, OpenFile};
use proto::pb;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &Epoll,
) -> pb::EventpollFileEntry {
    pb::EventpollFileEntry {
        id: file.id.0,
        flags: file.flags,
        fown,
        tfd: fact.targets.iter().map(target_to_record).collect(),
    }
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::EventpollFileEntry) -> Checked<Epoll> {
    let targets = record
        .tfd
        .iter()
        .map(target_from_record)
        .collect::<Checked<_>>()?;
    Ok(Epoll { targets })
}

fn target_to_record(target: &EpollTarget) -> pb::EventpollTfdEntry {
    pb::EventpollTfdEntry {
        id: 0,
        tfd: target.fd as u32,
        events: target.events,
        data: target.data,
        dev: Some(target.dev),
        inode: Some(target.inode),
        pos: Some(target.pos),
        ext: (target.file != FileId(0)).then_some(pb::ExtEpollTarget {
            file: Some(target.file.0),
        }),
    }
}

fn target_from_record(record: &pb::EventpollTfdEntry) -> Checked<EpollTarget> {
    Ok(EpollTarget {
        fd: fd(record.tfd).map_err(|wrong| wrong.of("what epoll watches"))?,
        file: FileId(record.ext.as_ref().and_then(|ext| ext.file).unwrap_or(0)),
        events: record.events,
        data: record.data,
        dev: record.dev.unwrap_or(0),
        inode: record.inode.unwrap_or(0),
        pos: record.pos.unwrap_or(0),
    })
}
