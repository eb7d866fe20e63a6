//! Memory areas: from `smaps` to the model. What cannot be kept is refused by its range and name.

use super::files::{FileTable, terminated};
use crate::error::Refusal;
use crate::objects::aio;
use crate::procfs::smaps::{self, Areas, VmFlags};
use crate::snapshot::{FileId, Vma, VmaKind};
use crate::sys::{self, Pid};
use std::os::unix::fs::FileExt;

/// Advice numbers of `madvise(2)` by the flag that each leaves.
const ADVICE: [(VmFlags, i32); 8] = [
    (VmFlags::RAND_READ, libc::MADV_RANDOM),
    (VmFlags::SEQ_READ, libc::MADV_SEQUENTIAL),
    (VmFlags::DONTCOPY, libc::MADV_DONTFORK),
    (VmFlags::MERGEABLE, libc::MADV_MERGEABLE),
    (VmFlags::HUGEPAGE, libc::MADV_HUGEPAGE),
    (VmFlags::NOHUGEPAGE, libc::MADV_NOHUGEPAGE),
    (VmFlags::DONTDUMP, libc::MADV_DONTDUMP),
    (VmFlags::WIPEONFORK, libc::MADV_WIPEONFORK),
];
/// `MAP_DROPPABLE` of `linux/mman.h` (6.11).
const MAP_DROPPABLE: u32 = 8;

/// Shared memory that areas map: anonymous, or of System V.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its id in the images.
    pub id: u64,
    /// A process that maps it.
    pub holder: Pid,
    /// Range of an area of it that maps it, to open it by.
    pub range: [u64; 2],
}

/// Collects the areas of a process, by address; files and shared memory that they map are added to the tables.
pub fn collect(
    pid: Pid,
    areas: &Areas,
    files: &mut FileTable,
    segments: &mut Vec<Segment>,
    refusals: &mut Vec<Refusal>,
) -> Vec<Vma> {
    let mut all = Vec::new();
    for area in &areas.vmas {
        let path = areas.path(area);
        match kind_of(pid, area, &path, files, segments) {
            Ok(kind) => all.push(vma_of(area, kind, name_in(&path))),
            Err((reason, remedy)) => refusals.push(Refusal {
                task: pid.0,
                object: name_of(area, &path),
                reason,
                remedy,
            }),
        }
    }
    all
}

/// Returns the name that the program gave to anonymous memory; empty = none.
fn name_in(path: &[u8]) -> &[u8] {
    let name = path
        .strip_prefix(b"[anon:")
        .or_else(|| path.strip_prefix(b"[anon_shmem:"));
    name.and_then(|name| name.strip_suffix(b"]"))
        .unwrap_or_default()
}

fn name_of(area: &smaps::Vma, path: &[u8]) -> String {
    format!(
        "memory {:x}-{:x} {}",
        area.start,
        area.end,
        String::from_utf8_lossy(path)
    )
    .trim_end()
    .into()
}

type Refused = (String, String);

fn kind_of(
    pid: Pid,
    area: &smaps::Vma,
    path: &[u8],
    files: &mut FileTable,
    segments: &mut Vec<Segment>,
) -> Result<VmaKind, Refused> {
    let flags = area.vm_flags;
    if flags.intersects(VmFlags::UFFD_MISSING | VmFlags::UFFD_WP | VmFlags::UFFD_MINOR) {
        return Err(("it is registered with userfaultfd".into(), String::new()));
    }
    if flags.contains(VmFlags::SHADOW_STACK) {
        return Err(("it is a shadow stack".into(), String::new()));
    }
    if flags.contains(VmFlags::SYNC) {
        return Err((
            "it is mapped with MAP_SYNC, which is not kept yet".into(),
            String::new(),
        ));
    }
    let is_huge = flags.contains(VmFlags::HUGETLB);
    match path {
        b"[vdso]" => Ok(VmaKind::Vdso),
        b"[vvar]" | b"[vvar_vclock]" => Ok(VmaKind::Vvar),
        b"[vsyscall]" => Ok(VmaKind::Vsyscall),
        b"[heap]" => Ok(VmaKind::Heap),
        b"[stack]" => Ok(VmaKind::Stack),
        b"/anon_hugepage (deleted)" if is_huge && !area.shared => Ok(VmaKind::Anonymous),
        name if area.shared && name.starts_with(b"/SYSV") => {
            let Ok(id) = u32::try_from(area.inode) else {
                return Err(("its id has more than 32 bits".into(), String::new()));
            };
            note_segment(segments, pid, area, area.inode);
            Ok(match flags.contains(VmFlags::MAYWRITE) {
                true => VmaKind::SystemV(id),
                false => VmaKind::SystemVReadOnly(id),
            })
        }
        name if is_huge && name != b"/anon_hugepage (deleted)" && !name.starts_with(b"/memfd:") => {
            huge_file(pid, area, name, files)
        }
        b"" => Ok(VmaKind::Anonymous),
        name if area.shared
            && (is_huge || name == b"/dev/zero (deleted)" || name.starts_with(b"[anon_shmem:")) =>
        {
            let id = content_id(area.inode);
            note_segment(segments, pid, area, id);
            Ok(VmaKind::SharedAnonymous(id))
        }
        name if name.starts_with(b"[anon:") => Ok(VmaKind::Anonymous),
        name if name.starts_with(b"/[aio]") => match is_whole_ring(pid, area) {
            true => Ok(VmaKind::AioRing),
            false => Err((
                "it is a ring of asynchronous I/O (io_setup) of which the program has overwritten or cut off a part".into(),
                String::new(),
            )),
        },
        name if name.starts_with(b"/memfd:") || name == b"/dev/zero (deleted)" => files
            .mapped_memfd(pid, area)
            .map(VmaKind::Memfd)
            .map_err(|(reason, remedy)| (reason, remedy.into())),
        name if !area.shared && is_page_file(name, flags) => Ok(VmaKind::PageFile),
        name if name.starts_with(b"/") && !flags.intersects(VmFlags::IO | VmFlags::PFNMAP) => {
            mapped_file(pid, area, name, files)
        }
        name if name.starts_with(b"socket:") => Err((
            "it is a ring of a socket of packets, of which nobody can set where the kernel is".into(),
            String::new(),
        )),
        _ => Err(("this kind of mapping is not kept yet".into(), String::new())),
    }
}

/// Returns whether a private mapping is of a page file, made by `restore --map-images`: by the file's name, and by how it is locked, which a
/// child has not inherited, or by the set that the file is of. All of such an area is stored, as anonymous memory: a program that
/// maps such a file itself has the same bytes after the restore.
fn is_page_file(path: &[u8], flags: VmFlags) -> bool {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let mut parts = path.rsplitn(2, |byte| *byte == b'/');
    let (name, folder) = (parts.next().unwrap_or_default(), parts.next());
    let number = name
        .strip_prefix(b"pages-")
        .and_then(|rest| rest.strip_suffix(b".img"));
    let is_name =
        number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit));
    let (true, Some(folder)) = (is_name, folder) else {
        return false;
    };
    let inventory = [folder, b"/inventory.img"].concat();
    flags.contains(VmFlags::LOCKONFAULT) || sys::file::statx_path(&terminated(&inventory)).is_ok()
}

/// Returns whether an area is a ring as the kernel made it.
fn is_whole_ring(pid: Pid, area: &smaps::Vma) -> bool {
    let mut header = [0; aio::HEADER];
    let memory = std::fs::File::open(format!("/proc/{}/mem", pid.0));
    let read = memory.and_then(|memory| memory.read_exact_at(&mut header, area.start));
    let len = area.end - area.start;
    read.is_ok()
        && area.shared
        && area.offset == 0
        && aio::is_length(len)
        && aio::state(&header, len).is_some()
}

/// Returns the id in the images of shared memory that is behind a file with this inode. Segments of System V have their own
/// ids, of 31 bits: those of other memory lie above, as an inode may be any number.
pub fn content_id(inode: u64) -> u64 {
    inode.saturating_add(1 << 31)
}

fn note_segment(segments: &mut Vec<Segment>, pid: Pid, area: &smaps::Vma, id: u64) {
    if !segments.iter().any(|segment| segment.id == id) {
        segments.push(Segment {
            id,
            holder: pid,
            range: [area.start, area.end],
        });
    }
}

fn mapped_file(
    pid: Pid,
    area: &smaps::Vma,
    path: &[u8],
    files: &mut FileTable,
) -> Result<VmaKind, Refused> {
    let id = mapped_path(pid, area, path, files)?;
    Ok(if area.shared {
        VmaKind::FileShared(id)
    } else {
        VmaKind::FilePrivate(id)
    })
}

/// Returns what an area of a file of huge pages is. Such a file can be mapped, but not written: one without a name could not
/// be made again.
fn huge_file(
    pid: Pid,
    area: &smaps::Vma,
    path: &[u8],
    files: &mut FileTable,
) -> Result<VmaKind, Refused> {
    let refused = |reason: &str| Err((reason.into(), String::new()));
    let found = sys::file::statx_path(&terminated(path));
    let has_name = found.is_ok_and(|found| (found.dev, found.ino) == (area.dev, area.inode));
    match has_name {
        true => mapped_file(pid, area, path, files),
        false => refused("a file of huge pages (hugetlbfs) that was deleted is not kept"),
    }
}

fn mapped_path(
    pid: Pid,
    area: &smaps::Vma,
    path: &[u8],
    files: &mut FileTable,
) -> Result<FileId, Refused> {
    let writable = area.shared && area.vm_flags.contains(VmFlags::MAYWRITE);
    if let Some(id) = files.mapped(path, writable) {
        return Ok(id);
    }
    let found = sys::file::statx_path(&terminated(path));
    if let Ok(found) = &found
        && (found.dev, found.ino) == (area.dev, area.inode)
    {
        return Ok(files.add_mapped(path, found, writable));
    }
    // Some file systems show another device in maps than in stat, and a path may lead elsewhere: the mapping is asked.
    let link = format!("map_files/{:x}-{:x}", area.start, area.end);
    let opened = std::fs::File::open(format!("/proc/{}/{link}", pid.0));
    let lost = |error: &dyn std::fmt::Display| {
        let reason = format!("the file that it maps cannot be opened: {error}");
        (reason, String::new())
    };
    let opened = opened.map_err(|error| lost(&error))?;
    let mapped = sys::file::statx(&opened).map_err(|error| lost(&error))?;
    match found {
        Ok(found) if (found.dev, found.ino) == (mapped.dev, mapped.ino) => {
            Ok(files.add_mapped(path, &found, writable))
        }
        _ => files.mapped_deleted(&opened.into(), &mapped, path, writable),
    }
}

fn vma_of(area: &smaps::Vma, kind: VmaKind, name: &[u8]) -> Vma {
    let flags = area.vm_flags;
    let advice = ADVICE
        .iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .fold(0, |bits, (_, advice)| bits | 1 << advice);
    let has_file = matches!(
        kind,
        VmaKind::FilePrivate(_)
            | VmaKind::FileShared(_)
            | VmaKind::Memfd(_)
            | VmaKind::SharedAnonymous(_)
            | VmaKind::SystemV(_)
            | VmaKind::SystemVReadOnly(_)
    );
    Vma {
        start: area.start,
        end: area.end,
        prot: area.prot,
        flags: map_flags(area, kind),
        kind,
        offset: if has_file { area.offset } else { 0 },
        advice,
        locked: flags.contains(VmFlags::LOCKED) && kind != VmaKind::PageFile,
        locked_on_fault: flags.contains(VmFlags::LOCKONFAULT) && kind != VmaKind::PageFile,
        sealed: flags.contains(VmFlags::SEALED),
        // Whether it is the kernel's own is known once it was asked for: see `keys`.
        protection_key: area.protection_key as u8,
        mempolicy: None,
        guards: Vec::new(),
        name: name.to_vec(),
    }
}

fn map_flags(area: &smaps::Vma, kind: VmaKind) -> u32 {
    let vm = area.vm_flags;
    let sharing = if area.shared {
        libc::MAP_SHARED as u32
    } else if vm.contains(VmFlags::DROPPABLE) {
        MAP_DROPPABLE
    } else {
        libc::MAP_PRIVATE as u32
    };
    let mut flags = sharing;
    if !matches!(
        kind,
        VmaKind::FilePrivate(_) | VmaKind::FileShared(_) | VmaKind::Memfd(_) | VmaKind::AioRing
    ) {
        flags |= libc::MAP_ANONYMOUS as u32;
    }
    if vm.contains(VmFlags::GROWSDOWN) {
        flags |= libc::MAP_GROWSDOWN as u32;
    }
    if vm.contains(VmFlags::NORESERVE) {
        flags |= libc::MAP_NORESERVE as u32;
    }
    if vm.contains(VmFlags::HUGETLB) {
        flags |= libc::MAP_HUGETLB as u32
            | area.sizes.kernel_page.trailing_zeros() << libc::MAP_HUGE_SHIFT;
    }
    flags
}
