//! Between the fact and its record. How a process that is gone has ended, the peer does not keep: an extension.

use crate::image::error::{Checked, wrong};
use crate::snapshot::{OpenFile, PidFd};
use proto::pb;

/// `nspid` of a process that is gone, as fdinfo tells it.
const GONE: i32 = -1;
/// Highest process id (`PID_MAX_LIMIT` of `linux/threads.h`).
const MAX_PID: i32 = 4 << 20;
/// An exit status has 16 bits (`wait(2)`).
const MAX_STATUS: u32 = 0xffff;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(file: &OpenFile, fown: pb::FownEntry, fact: &PidFd) -> pb::PidfdEntry {
    pb::PidfdEntry {
        id: file.id.0,
        ino: fact.ino,
        flags: file.flags,
        nspid: fact.of.unwrap_or(GONE),
        fown,
        ext: fact.exit_status.map(|status| pb::ExtPidfd {
            exit_status: Some(status),
        }),
    }
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::PidfdEntry) -> Checked<PidFd> {
    let of = match record.nspid {
        GONE => None,
        pid if (1..=MAX_PID).contains(&pid) => Some(pid),
        other => return wrong!("{other} is no process id"),
    };
    let exit_status = record.ext.as_ref().and_then(|ext| ext.exit_status);
    if let Some(status) = exit_status.filter(|&status| of.is_some() || status > MAX_STATUS) {
        return wrong!("exit status {status:#x} is none of a process that is gone");
    }
    Ok(PidFd {
        of,
        ino: record.ino,
        exit_status,
    })
}
