//! Between the fact and its record. Which open file description a watch is on, the peer does not keep: an extension.

use crate::image::error::{Checked, wrong};
use crate::image::limits::fd;
use crate::snapshot::{BusyPoll, Epoll, EpollTarget, FileId, OpenFile};
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
        ext: fact.busy_poll.map(|poll| pb::ExtEpoll {
            busy_poll_usecs: poll.usecs,
            busy_poll_budget: u32::from(poll.budget),
            prefer_busy_poll: poll.is_preferred,
        }),
    }
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::EventpollFileEntry) -> Checked<Epoll> {
    let targets = record
        .tfd
        .iter()
        .map(target_from_record)
        .collect::<Checked<_>>()?;
    let busy_poll = record.ext.as_ref().map(busy_poll).transpose()?;
    Ok(Epoll { targets, busy_poll })
}

/// The kernel takes numbers of microseconds that fit an `int` (`ep_eventpoll_bp_ioctl`, `fs/eventpoll.c`).
fn busy_poll(record: &pb::ExtEpoll) -> Checked<BusyPoll> {
    let (usecs, budget) = (record.busy_poll_usecs, record.busy_poll_budget);
    match u16::try_from(budget) {
        Ok(budget) if i32::try_from(usecs).is_ok() => Ok(BusyPoll {
            usecs,
            budget,
            is_preferred: record.prefer_busy_poll,
        }),
        _ => wrong!("busy polling for {usecs} us or {budget} packets"),
    }
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
