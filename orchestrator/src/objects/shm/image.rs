//! Between segments and their records in `ipcns-shm-ID.img`; their content is in pagemaps.

use crate::image::error::{Checked, wrong};
use crate::snapshot::{IpcPerm, ShmSegment};
use proto::pb;

/// `SHM_HUGETLB` and the bits of its page size (`include/uapi/linux/shm.h`).
const HUGE: u32 = 0o4000 | 0x3f << 26;
/// Permissions, `SHM_DEST`, `SHM_LOCKED`.
const MODE: u32 = 0o3777;
/// Highest id (`ipc/util.h`: ids are not negative).
const MAX_ID: u32 = i32::MAX as u32;

/// Returns the record of `fact`.
pub(crate) fn to_record(fact: &ShmSegment) -> pb::IpcShmEntry {
    pb::IpcShmEntry {
        desc: perm_to_record(&fact.perm),
        size: fact.size,
        in_pagemaps: Some(true),
        hugetlb_flag: (fact.huge != 0).then_some(fact.huge),
        ext: fact
            .made
            .map(|(creator, changed)| pb::ExtIpcShm { creator, changed }),
    }
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::IpcShmEntry) -> Checked<ShmSegment> {
    let perm = perm_from_record(&record.desc)?;
    if record.desc.mode & !MODE != 0 {
        return wrong!("mode {:#o} is not known", record.desc.mode);
    }
    if record.size == 0 || record.size > i64::MAX as u64 {
        return wrong!("a segment of {:#x} bytes", record.size);
    }
    let huge = record.hugetlb_flag.unwrap_or(0);
    if huge & !HUGE != 0 {
        return wrong!("flags {huge:#x} of huge pages are not known");
    }
    let made = record.ext.as_ref();
    Ok(ShmSegment {
        perm,
        size: record.size,
        huge,
        made: made.map(|made| (made.creator, made.changed)),
    })
}

/// Returns the record of what every object of System V has.
pub(crate) fn perm_to_record(perm: &IpcPerm) -> pb::IpcDescEntry {
    pb::IpcDescEntry {
        key: perm.key,
        uid: perm.uid,
        gid: perm.gid,
        cuid: perm.cuid,
        cgid: perm.cgid,
        mode: perm.mode,
        id: perm.id,
    }
}

/// Returns what `record` says of an object of System V.
pub(crate) fn perm_from_record(record: &pb::IpcDescEntry) -> Checked<IpcPerm> {
    if record.id > MAX_ID {
        return wrong!("{:#x} is no id", record.id);
    }
    let owners = [record.uid, record.gid, record.cuid, record.cgid];
    if owners.contains(&u32::MAX) {
        return wrong!("-1 is no user or group");
    }
    Ok(IpcPerm {
        id: record.id,
        key: record.key,
        uid: record.uid,
        gid: record.gid,
        cuid: record.cuid,
        cgid: record.cgid,
        mode: record.mode,
    })
}
