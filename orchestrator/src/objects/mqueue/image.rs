//! Between the facts and their records: descriptions are in `files.img`, queues in `mqueues.img`, which the peer does not know.

use crate::image::error::{Checked, wrong};
use crate::snapshot::{OpenFile, PosixMessage, PosixQueue, QueueFile, QueueNotice};
use proto::pb;

/// Most messages of a queue, and most bytes of one (`HARD_MSGMAX`, `HARD_MSGSIZEMAX` of `linux/ipc_namespace.h`).
const MAX_MESSAGES: u64 = 65536;
const MAX_SIZE: u64 = 16 << 20;
/// Highest priority (`MQ_PRIO_MAX`, `linux/mqueue.h`).
const MAX_PRIORITY: u32 = 32767;
/// Bytes of a name (`NAME_MAX`).
const MAX_NAME: usize = 255;
/// `SIGEV_NONE`, the last that is kept.
const SIGEV_NONE: u32 = 1;
const PERMISSIONS: u32 = 0o7777;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(file: &OpenFile, fown: pb::FownEntry, fact: &QueueFile) -> pb::ExtOpenFile {
    pb::ExtOpenFile {
        queue: Some(pb::ExtQueueFile {
            id: file.id.0,
            flags: file.flags,
            fown,
            queue: fact.queue,
            path: (!fact.path.is_empty()).then(|| fact.path.clone()),
        }),
    }
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::ExtQueueFile) -> QueueFile {
    QueueFile {
        queue: record.queue,
        path: record.path.clone().unwrap_or_default(),
    }
}

/// Returns the record of a queue; the bytes of its messages follow.
pub(crate) fn queue_to_record(fact: &PosixQueue) -> pb::ExtQueue {
    let message = |message: &PosixMessage| pb::ExtQueueMessage {
        priority: message.priority,
        length: message.bytes.len() as u32,
    };
    pb::ExtQueue {
        id: fact.id,
        name: fact.name.clone(),
        unlinked: fact.is_unlinked.then_some(true),
        mode: fact.mode,
        uid: fact.uid,
        gid: fact.gid,
        max_messages: fact.max_messages,
        message_size: fact.message_size,
        message: fact.messages.iter().map(message).collect(),
        notice: fact.notice.map(|notice| pb::ExtQueueNotice {
            pid: notice.pid as u32,
            kind: notice.kind,
            signal: notice.signal,
        }),
        inode: fact.seen.map(|(inode, _)| inode),
        changed_ns: fact.seen.map(|(_, changed)| changed),
    }
}

/// Returns the queue in `record`, whose messages are without bytes yet.
pub(crate) fn queue_from_record(record: &pb::ExtQueue) -> Checked<PosixQueue> {
    let name = &record.name;
    let is_name = (1..=MAX_NAME).contains(&name.len()) && name != b"." && name != b"..";
    if !is_name || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return wrong!("{:?} is no name of one", String::from_utf8_lossy(name));
    }
    let is_size = (1..=MAX_MESSAGES).contains(&record.max_messages)
        && (1..=MAX_SIZE).contains(&record.message_size);
    if !is_size || record.message.len() as u64 > record.max_messages {
        return wrong!(
            "{} messages of {}, each of at most {} bytes",
            record.message.len(),
            record.max_messages,
            record.message_size
        );
    }
    if record.mode & !PERMISSIONS != 0 || [record.uid, record.gid].contains(&u32::MAX) {
        return wrong!("mode {:#o}, owner {}", record.mode, record.uid);
    }
    let is_none = |message: &&pb::ExtQueueMessage| {
        message.priority > MAX_PRIORITY || u64::from(message.length) > record.message_size
    };
    if let Some(message) = record.message.iter().find(is_none) {
        return wrong!(
            "a message of {} bytes and priority {}",
            message.length,
            message.priority
        );
    }
    let notice = match &record.notice {
        Some(notice) if notice.kind > SIGEV_NONE => return wrong!("notice {}", notice.kind),
        Some(notice) => Some(QueueNotice {
            pid: crate::image::limits::pid(notice.pid)?,
            kind: notice.kind,
            signal: crate::image::limits::signal(notice.signal)?,
        }),
        None => None,
    };
    let message = |message: &pb::ExtQueueMessage| PosixMessage {
        priority: message.priority,
        bytes: Vec::new(),
    };
    Ok(PosixQueue {
        id: record.id,
        name: name.clone(),
        is_unlinked: record.unlinked == Some(true),
        mode: record.mode,
        uid: record.uid,
        gid: record.gid,
        max_messages: record.max_messages,
        message_size: record.message_size,
        messages: record.message.iter().map(message).collect(),
        notice,
        seen: record.inode.zip(record.changed_ns),
    })
}
