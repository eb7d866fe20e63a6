//! Between the fact and its record.

use crate::image::error::{Checked, wrong};
use crate::image::limits::{fd, pid};
use crate::snapshot::{FileLock, LockType};
use proto::pb;

/// Kinds as the record numbers them: the kernel's `FL_POSIX`, `FL_FLOCK`, `FL_LEASE`, `FL_OFDLCK` (`include/linux/filelock.h`).
const KINDS: [(LockType, u32); 4] = [
    (LockType::Posix, 1),
    (LockType::Flock, 2),
    (LockType::Lease, 32),
    (LockType::Ofd, 1024),
];
/// `F_RDLCK`, `F_WRLCK`.
const READ: u32 = 0;
const WRITE: u32 = 1;

/// Returns the record of `fact`.
pub(crate) fn to_record(fact: &FileLock) -> pb::FileLockEntry {
    let kind = KINDS.iter().find(|(kind, _)| *kind == fact.kind);
    pb::FileLockEntry {
        flag: kind.map_or(0, |(_, number)| *number),
        r#type: if fact.is_write { WRITE } else { READ },
        pid: fact.pid,
        fd: fact.fd,
        start: fact.start as i64,
        len: fact.len as i64,
    }
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::FileLockEntry) -> Checked<FileLock> {
    let Some((kind, _)) = KINDS.iter().find(|(_, number)| *number == record.flag) else {
        return wrong!("a lock of kind {} is not known", record.flag);
    };
    if record.r#type > WRITE {
        return wrong!("a lock of type {} is none that is held", record.r#type);
    }
    if record.start < 0 || record.len < 0 || record.start.checked_add(record.len).is_none() {
        return wrong!("{} bytes at {} are no range", record.len, record.start);
    }
    Ok(FileLock {
        kind: *kind,
        is_write: record.r#type == WRITE,
        pid: pid(record.pid as u32)?,
        fd: fd(record.fd as u32)?,
        start: record.start as u64,
        len: record.len as u64,
    })
}
