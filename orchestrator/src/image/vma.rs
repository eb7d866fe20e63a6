//! Between memory areas and their records. Guard regions are records of their own after all areas, as the peer writes
//! them.

use proto::pb;

use super::error::{Checked, Wrong, wrong};
use super::memory::is_range;
use crate::objects::sched::image::{policy_from_record, policy_to_record};
use crate::snapshot::{FileId, OpenFile, Vma, VmaKind};

/// Bits of `vma_entry.status`.
const REGULAR: u32 = 1 << 0;
const STACK: u32 = 1 << 1;
const VSYSCALL: u32 = 1 << 2;
const VDSO: u32 = 1 << 3;
const HEAP: u32 = 1 << 5;
const FILE_PRIVATE: u32 = 1 << 6;
const FILE_SHARED: u32 = 1 << 7;
const ANON_SHARED: u32 = 1 << 8;
const ANON_PRIVATE: u32 = 1 << 9;
const SYSV_IPC: u32 = 1 << 10;
const SOCKET: u32 = 1 << 11;
const VVAR: u32 = 1 << 12;
const AIO_RING: u32 = 1 << 13;
const MEMFD: u32 = 1 << 14;
const SHADOW_STACK: u32 = 1 << 15;
const GUARD: u32 = 1 << 16;
const UPROBES: u32 = 1 << 17;
/// What this build does not restore.
const UNSUPPORTED: [(u32, &str); 3] = [
    (SOCKET, "mapping of a packet socket"),
    (SHADOW_STACK, "shadow stack"),
    (UPROBES, "page of a uprobe"),
];

/// `MAP_*` (`include/uapi/linux/mman.h`, `asm-generic/mman-common.h`).
const MAP_SHARED: u32 = 1;
const MAP_PRIVATE: u32 = 2;
const MAP_DROPPABLE: u32 = 8;
const MAP_TYPE: u32 = 0xf;
const MAP_ANONYMOUS: u32 = 0x20;
const MAP_GROWSDOWN: u32 = 0x100;
const MAP_LOCKED: u32 = 0x2000;
const MAP_NORESERVE: u32 = 0x4000;
const MAP_STACK: u32 = 0x2_0000;
const MAP_HUGETLB: u32 = 0x4_0000;
const MAP_HUGE_SIZE: u32 = 0x3f << 26;
/// Flags that a record may have; the mapping is made again with no others.
const FLAGS: u32 = MAP_TYPE
    | MAP_ANONYMOUS
    | MAP_GROWSDOWN
    | MAP_LOCKED
    | MAP_NORESERVE
    | MAP_STACK
    | MAP_HUGETLB
    | MAP_HUGE_SIZE;
/// `PROT_READ`, `PROT_WRITE`, `PROT_EXEC`.
const PROT: u32 = 7;
/// Advice that a mapping keeps: RANDOM, SEQUENTIAL, DONTFORK, MERGEABLE, HUGEPAGE, NOHUGEPAGE, DONTDUMP, WIPEONFORK.
const ADVICE: u64 = 1 << 1 | 1 << 2 | 1 << 10 | 1 << 12 | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 18;
/// The one address at which a vsyscall page may be.
const VSYSCALL_START: u64 = 0xffff_ffff_ff60_0000;
/// `fd` of a record: the file is named by `shmid`.
const NO_FD: i64 = -1;

/// Returns the records of `vmas`, then those of their guard regions.
pub(super) fn to_records(vmas: &[Vma], files: &[&OpenFile]) -> Vec<pb::VmaEntry> {
    let mut records: Vec<pb::VmaEntry> = Vec::with_capacity(vmas.len());
    for vma in vmas {
        let record = to_record(vma, files);
        match records.last_mut() {
            // The peer knows one vvar area, whatever parts the kernel shows it in.
            Some(last) if is_vvar(last) && is_vvar(&record) && last.end == record.start => {
                last.end = record.end
            }
            _ => records.push(record),
        }
    }
    let guards = vmas.iter().flat_map(|vma| &vma.guards);
    let guard = |&[start, end]: &[u64; 2]| pb::VmaEntry {
        start,
        end,
        status: GUARD,
        fd: NO_FD,
        ..Default::default()
    };
    records.extend(guards.map(guard));
    records
}

fn is_vvar(record: &pb::VmaEntry) -> bool {
    record.status & VVAR != 0
}

fn to_record(vma: &Vma, files: &[&OpenFile]) -> pb::VmaEntry {
    let (status, shmid) = status(vma);
    let is_kernels = matches!(vma.kind, VmaKind::Vdso | VmaKind::Vvar | VmaKind::Vsyscall);
    let flags = if is_kernels {
        MAP_PRIVATE | MAP_ANONYMOUS
    } else {
        vma.flags
    };
    let is_locked = vma.locked || vma.locked_on_fault;
    let ext = pb::ExtVma {
        locked_on_fault: vma.locked_on_fault.then_some(true),
        sealed: vma.sealed.then_some(true),
        mempolicy: vma.mempolicy.as_ref().map(policy_to_record),
        name: (!vma.name.is_empty()).then(|| vma.name.clone()),
        protection_key: (vma.protection_key != 0).then_some(vma.protection_key.into()),
    };
    pb::VmaEntry {
        start: vma.start,
        end: vma.end,
        pgoff: vma.offset,
        shmid,
        prot: vma.prot,
        flags: if is_locked { flags | MAP_LOCKED } else { flags },
        status,
        fd: NO_FD,
        madv: (vma.advice != 0).then_some(vma.advice),
        fdflags: match vma.kind {
            VmaKind::SystemV(_) | VmaKind::AioRing => Some(libc::O_RDWR as u32),
            VmaKind::SystemVReadOnly(_) => Some(libc::O_RDONLY as u32),
            kind => file_of(kind).map(|id| open_mode(id, files)),
        },
        ext: (ext != pb::ExtVma::default()).then(|| Box::new(ext)),
    }
}

fn status(vma: &Vma) -> (u32, u64) {
    let memfd = if vma.is_private() {
        FILE_PRIVATE
    } else {
        FILE_SHARED
    };
    match vma.kind {
        VmaKind::Anonymous | VmaKind::Stack | VmaKind::PageFile => (REGULAR | ANON_PRIVATE, 0),
        VmaKind::Heap => (REGULAR | HEAP | ANON_PRIVATE, 0),
        VmaKind::FilePrivate(file) => (REGULAR | FILE_PRIVATE, u64::from(file.0)),
        VmaKind::FileShared(file) => (REGULAR | FILE_SHARED, u64::from(file.0)),
        VmaKind::SharedAnonymous(shmid) => (REGULAR | ANON_SHARED, shmid),
        VmaKind::SystemV(id) | VmaKind::SystemVReadOnly(id) => {
            (REGULAR | ANON_SHARED | SYSV_IPC, u64::from(id))
        }
        VmaKind::Memfd(file) => (REGULAR | MEMFD | memfd, u64::from(file.0)),
        VmaKind::AioRing => (AIO_RING, 0),
        VmaKind::Vdso => (REGULAR | VDSO | ANON_PRIVATE, 0),
        VmaKind::Vvar => (REGULAR | VVAR | ANON_PRIVATE, 0),
        VmaKind::Vsyscall => (VSYSCALL | ANON_PRIVATE, 0),
    }
}

/// Returns the open file description that an area of this kind maps.
pub(super) fn file_of(kind: VmaKind) -> Option<FileId> {
    match kind {
        VmaKind::FilePrivate(file) | VmaKind::FileShared(file) | VmaKind::Memfd(file) => Some(file),
        _ => None,
    }
}

/// Returns the access mode with which the file must be opened for mapping.
fn open_mode(id: FileId, files: &[&OpenFile]) -> u32 {
    let index = files.binary_search_by_key(&id, |file| file.id);
    index.map_or(0, |index| files[index].flags & libc::O_ACCMODE as u32)
}

/// Returns whether `shmid` of a record is the id of a file, and not of a segment of System V, say.
pub(super) fn names_file(record: &pb::VmaEntry) -> bool {
    let is_other = record.status & (SYSV_IPC | AIO_RING) != 0;
    !is_other && record.status & (FILE_PRIVATE | FILE_SHARED | MEMFD) != 0
}

/// Areas as read.
pub(super) struct Areas {
    /// The facts, with their guard regions.
    pub(super) vmas: Vec<Vma>,
    /// Areas of kinds that this build does not restore: first address and what it is.
    pub(super) unsupported: Vec<(u64, &'static str)>,
}

/// Returns the areas in `records`, of a program whose stack began at `start_stack`.
pub(super) fn from_records(records: &[pb::VmaEntry], start_stack: u64) -> Checked<Areas> {
    let mut areas = Areas {
        vmas: Vec::with_capacity(records.len()),
        unsupported: Vec::new(),
    };
    let mut guards = Vec::new();
    for record in records {
        let name = |wrong: Wrong| wrong.of(&format!("area {:#x}-{:#x}", record.start, record.end));
        if record.status & GUARD != 0 {
            if !is_range(record.start, record.end) {
                return wrong!("it is no range of pages in user space").map_err(name);
            }
            guards.push([record.start, record.end]);
            continue;
        }
        let vma = from_record(record, start_stack, &mut areas.unsupported).map_err(name)?;
        if areas.vmas.last().is_some_and(|last| last.end > vma.start) {
            return wrong!("it overlaps the area before it, or is out of order").map_err(name);
        }
        areas.vmas.push(vma);
    }
    guards.sort_unstable();
    for guard in guards {
        place_guard(&mut areas.vmas, guard)?;
    }
    Ok(areas)
}

/// Gives each area its part of a guard region.
fn place_guard(vmas: &mut [Vma], [start, end]: [u64; 2]) -> Checked<()> {
    let first = vmas.partition_point(|vma| vma.end <= start);
    let mut at = start;
    for vma in &mut vmas[first..] {
        if at >= end || vma.start > at {
            break;
        }
        if vma.guards.last().is_some_and(|last| last[1] > at) {
            return wrong!("guard region {start:#x}-{end:#x} overlaps another");
        }
        let until = end.min(vma.end);
        vma.guards.push([at, until]);
        at = until;
    }
    match at >= end {
        true => Ok(()),
        false => wrong!("guard region {start:#x}-{end:#x} lies outside of all areas"),
    }
}

fn from_record(
    record: &pb::VmaEntry,
    start_stack: u64,
    unsupported: &mut Vec<(u64, &'static str)>,
) -> Checked<Vma> {
    check(record)?;
    if let Some((_, what)) = UNSUPPORTED.iter().find(|(bit, _)| record.status & bit != 0) {
        unsupported.push((record.start, what));
    }
    let none = pb::ExtVma::default();
    let ext = record.ext.as_deref().unwrap_or(&none);
    if let Some(name) = ext.name.as_ref().filter(|name| !is_name(name)) {
        return wrong!(
            "its name of {} bytes is none that the kernel gives",
            name.len()
        );
    }
    let locked_on_fault = ext.locked_on_fault.unwrap_or(false);
    Ok(Vma {
        start: record.start,
        end: record.end,
        prot: record.prot,
        flags: record.flags & !MAP_LOCKED,
        kind: kind(record, start_stack)?,
        offset: record.pgoff,
        advice: record.madv.unwrap_or(0),
        locked: record.flags & MAP_LOCKED != 0,
        locked_on_fault,
        sealed: ext.sealed.unwrap_or(false),
        mempolicy: ext.mempolicy.as_ref().map(policy_from_record).transpose()?,
        protection_key: ext.protection_key.map_or(Ok(0), protection_key)?,
        guards: Vec::new(),
        name: ext.name.clone().unwrap_or_default(),
    })
}

/// Returns a key that is one which an area or the kernel may have taken: processors have 16, and every program has the first.
pub(super) fn protection_key(key: u32) -> Checked<u8> {
    match key {
        1..16 => Ok(key as u8),
        _ => wrong!("{key} is no protection key"),
    }
}

/// Returns whether `PR_SET_VMA_ANON_NAME` takes it (`is_valid_name_char`, `ANON_VMA_NAME_MAX_LEN` of `kernel/sys.c`).
fn is_name(name: &[u8]) -> bool {
    let is_valid = |byte: &u8| (0x20..0x7f).contains(byte) && !b"\\`$[]".contains(byte);
    (1..80).contains(&name.len()) && name.iter().all(is_valid)
}

fn check(record: &pb::VmaEntry) -> Checked<()> {
    let page = crate::snapshot::PAGE_SIZE;
    let is_vsyscall = record.status & VSYSCALL != 0;
    if is_vsyscall && (record.start, record.end) != (VSYSCALL_START, VSYSCALL_START + page) {
        return wrong!("it is not where the vsyscall page is");
    }
    if !is_vsyscall && !is_range(record.start, record.end) {
        return wrong!("it is no range of pages in user space");
    }
    if record.prot & !PROT != 0 {
        return wrong!("protection {:#x} is not known", record.prot);
    }
    if record.flags & !FLAGS != 0
        || ![MAP_SHARED, MAP_PRIVATE, MAP_DROPPABLE].contains(&(record.flags & MAP_TYPE))
    {
        return wrong!("mapping flags {:#x} are not known", record.flags);
    }
    if record.madv.unwrap_or(0) & !ADVICE != 0 {
        return wrong!("advice {:#x} is not known", record.madv.unwrap_or(0));
    }
    // Offsets count in pages, and the last byte's must not overflow (mm/mmap.c).
    if !record.pgoff.is_multiple_of(page)
        || record
            .pgoff
            .checked_add(record.end - record.start)
            .is_none()
    {
        return wrong!("offset {:#x} is none of a mapping", record.pgoff);
    }
    Ok(())
}

/// Returns what an attached segment of System V is, by how its memory was opened.
fn segment(record: &pb::VmaEntry) -> Checked<VmaKind> {
    let Some(id) = u32::try_from(record.shmid)
        .ok()
        .filter(|&id| id <= i32::MAX as u32)
    else {
        return wrong!("{:#x} is no id of a segment", record.shmid);
    };
    let read_only = match record.fdflags {
        Some(flags) => flags & libc::O_ACCMODE as u32 == libc::O_RDONLY as u32,
        None => record.prot & libc::PROT_WRITE as u32 == 0,
    };
    match read_only {
        true if record.prot & libc::PROT_WRITE as u32 != 0 => {
            wrong!("it can be written, and was attached for reading")
        }
        true => Ok(VmaKind::SystemVReadOnly(id)),
        false => Ok(VmaKind::SystemV(id)),
    }
}

fn kind(record: &pb::VmaEntry, start_stack: u64) -> Checked<VmaKind> {
    let status = record.status;
    let is_shared = record.flags & MAP_TYPE == MAP_SHARED;
    let file = || match u32::try_from(record.shmid) {
        Ok(id) => Ok(FileId(id)),
        Err(_) => wrong!("file id {:#x} has more than 32 bits", record.shmid),
    };
    let has = |bit: u32| status & bit != 0;
    let (kind, wants_shared) = if UNSUPPORTED.iter().any(|(bit, _)| has(*bit)) {
        (VmaKind::Anonymous, is_shared)
    } else if has(AIO_RING) {
        (VmaKind::AioRing, true)
    } else if has(VSYSCALL) {
        (VmaKind::Vsyscall, false)
    } else if has(VDSO) {
        (VmaKind::Vdso, false)
    } else if has(VVAR) {
        (VmaKind::Vvar, false)
    } else if has(MEMFD) {
        (VmaKind::Memfd(file()?), has(FILE_SHARED))
    } else if has(FILE_PRIVATE) {
        (VmaKind::FilePrivate(file()?), false)
    } else if has(FILE_SHARED) {
        (VmaKind::FileShared(file()?), true)
    } else if has(SYSV_IPC) {
        (segment(record)?, true)
    } else if has(ANON_SHARED) {
        (VmaKind::SharedAnonymous(record.shmid), true)
    } else if has(HEAP) {
        (VmaKind::Heap, false)
    } else if has(STACK) || has(ANON_PRIVATE) && (record.start..record.end).contains(&start_stack) {
        (VmaKind::Stack, false)
    } else if has(ANON_PRIVATE) {
        (VmaKind::Anonymous, false)
    } else {
        return wrong!("status {status:#x} says of no known kind what it maps");
    };
    if wants_shared != is_shared {
        return wrong!(
            "status {status:#x} and mapping flags {:#x} disagree",
            record.flags
        );
    }
    Ok(kind)
}
