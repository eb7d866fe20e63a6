//! Between the facts and their records: descriptors in `files.img`, inodes in `memfd.img`, content as shared memory.

use crate::image::error::{Checked, wrong};
use crate::snapshot::{MemfdFile, MemfdInode, OpenFile};
use proto::pb;

/// `MFD_HUGETLB` and the bits of its page size (`include/uapi/linux/memfd.h`).
const HUGETLB_FLAGS: u32 = 4 | 0x3f << 26;
/// `F_SEAL_*` that exist.
const SEALS: u32 = 0x3f;
/// Longest name (`MFD_NAME_MAX_LEN` in `mm/memfd.c`).
const MAX_NAME: usize = 249;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &MemfdFile,
) -> pb::MemfdFileEntry {
    pb::MemfdFileEntry {
        id: file.id.0,
        flags: file.flags,
        pos: fact.pos,
        fown,
        inode_id: fact.inode_id,
    }
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::MemfdFileEntry) -> MemfdFile {
    MemfdFile {
        inode_id: record.inode_id,
        pos: record.pos,
    }
}

/// Returns the record of an inode.
pub(crate) fn inode_to_record(inode: &MemfdInode) -> Checked<pb::MemfdInodeEntry> {
    let Ok(shmid) = u32::try_from(inode.shmid) else {
        return wrong!(
            "memfd {}: id {} of its content has more than 32 bits",
            inode.id,
            inode.shmid
        );
    };
    Ok(pb::MemfdInodeEntry {
        name: inode.name.clone(),
        uid: inode.uid,
        gid: inode.gid,
        size: inode.size,
        shmid,
        seals: inode.seals,
        inode_id: u64::from(inode.id),
        hugetlb_flag: (inode.hugetlb_flag != 0).then_some(inode.hugetlb_flag),
        mode: inode.mode,
    })
}

/// Returns the inode in `record`.
pub(crate) fn inode_from_record(record: &pb::MemfdInodeEntry) -> Checked<MemfdInode> {
    let Ok(id) = u32::try_from(record.inode_id) else {
        return wrong!("inode id {} has more than 32 bits", record.inode_id);
    };
    if record.name.len() > MAX_NAME || record.name.contains(&0) {
        return wrong!(
            "no name of a memfd: {:?}",
            String::from_utf8_lossy(&record.name)
        );
    }
    if record.size > i64::MAX as u64 {
        return wrong!("size {:#x} is more than a file can have", record.size);
    }
    let hugetlb_flag = record.hugetlb_flag.unwrap_or(0);
    if hugetlb_flag & !HUGETLB_FLAGS != 0 || record.seals & !SEALS != 0 {
        return wrong!(
            "flags {hugetlb_flag:#x} or seals {:#x} are not known",
            record.seals
        );
    }
    Ok(MemfdInode {
        id,
        name: record.name.clone(),
        uid: record.uid,
        gid: record.gid,
        size: record.size,
        shmid: u64::from(record.shmid),
        seals: record.seals,
        hugetlb_flag,
        mode: record.mode,
    })
}
