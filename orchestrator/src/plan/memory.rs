//! Memory: every area at its final address, its content read straight into place, then its final protection and advice.
//!
//! An area whose content is stored is mapped writable, filled, and protected after. One without stored pages is mapped as it
//! will be: a large PROT_NONE reservation mapped writable first would count against the commit limit.

use std::collections::BTreeMap;

use super::fill::{self, Target};
use super::heritage::{plan_differences, plan_inherited};
use super::host::TASK_SIZE;
use super::inherit::{ADVICE_EARLY, is_private_memory};
use super::keys;
use super::mapped;
use super::program::Object;
use super::task::Making;
use super::vdso::VdsoPlan;
use crate::objects::regular::plan::open_flags;
use crate::snapshot::{FileId, FileKind, PAGE_SIZE, PageRun, SharedMemory, Vma, VmaKind};

pub const PROT_WRITE: u32 = libc::PROT_WRITE as u32;
const PROT_RW: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const MAP_NEW: u64 = libc::MAP_FIXED_NOREPLACE as u64;
/// `MAP_LOCKED`: said by `mlock` later, when all is in place.
const MAP_LOCKED: u32 = libc::MAP_LOCKED as u32;
/// `MADV_GUARD_INSTALL` (Linux 6.13, `asm-generic/mman-common.h`).
const MADV_GUARD_INSTALL: u64 = 102;
/// `MLOCK_ONFAULT`.
const MLOCK_ONFAULT: u64 = 1;
/// `mseal` (Linux 6.10).
pub const SYS_MSEAL: i64 = 462;

/// Adds private memory with its content: areas that children may be born with.
pub fn plan_private(m: &mut Making<'_>, vdso: &VdsoPlan) {
    refuse_addresses(m);
    let inherited = plan_inherited(m);
    let mut open = None;
    for vma in &m.own.mm.vmas {
        if is_early(vma, vdso) && !m.own.mapped.contains_key(&vma.start) {
            plan_area(m, vma, None, &mut open);
        }
    }
    close_open(m, &mut open);
    plan_differences(m, &inherited);
    mapped::plan_mappings(m);
    let runs = fill::outside(&m.own.mm.pages, &vdso.made_by_kernel);
    let is_early_run = |run: &PageRun| {
        let vmas = &m.own.mm.vmas;
        let place = vmas.partition_point(|vma| vma.end <= run.start);
        vmas.get(place).is_some_and(|vma| is_early(vma, vdso))
    };
    let runs: Vec<PageRun> = runs.into_iter().filter(is_early_run).collect();
    fill::plan_fill(m, &runs, Target::Memory, "memory");
    vdso.plan_patches(m);
}

/// Returns whether an area is made before children are born: what needs no descriptor that several tasks may share.
fn is_early(vma: &Vma, vdso: &VdsoPlan) -> bool {
    !vdso.is_made_by_kernel(vma) && (is_private_memory(vma) || is_kernels(vma))
}

/// Adds the segments of shared memory that this task makes.
pub fn plan_make_shared<'a>(m: &mut Making<'a>) -> SharedPlan<'a> {
    let shared = SharedPlan::of(m);
    for vma in &m.own.mm.vmas {
        if let VmaKind::SharedAnonymous(id) = vma.kind
            && shared.is_whole(id, vma)
        {
            plan_area(m, vma, Some(&shared), &mut None);
        }
    }
    shared
}

/// Adds all other mappings of what tasks may share.
pub fn plan_shared(m: &mut Making<'_>, shared: &SharedPlan<'_>) {
    let mut open = None;
    for vma in &m.own.mm.vmas {
        let is_late = matches!(
            vma.kind,
            VmaKind::SharedAnonymous(_) | VmaKind::Memfd(_) | VmaKind::FileShared(_)
        );
        if is_late && !m.own.mapped.contains_key(&vma.start) {
            plan_area(m, vma, Some(shared), &mut open);
        }
    }
    close_open(m, &mut open);
}

/// Adds the content of what was mapped late, and what all areas need when their content is in place.
pub fn plan_finish(m: &mut Making<'_>, vdso: &VdsoPlan, shared: &SharedPlan<'_>) {
    fill_shared(m, shared);
    let is_late_run = |run: &PageRun| {
        let vmas = &m.own.mm.vmas;
        let place = vmas.partition_point(|vma| vma.end <= run.start);
        let vma = vmas.get(place);
        vma.is_some_and(|vma| matches!(vma.kind, VmaKind::Memfd(_) | VmaKind::AioRing))
    };
    let pages = m.own.mm.pages.iter().copied();
    let late: Vec<PageRun> = pages.filter(is_late_run).collect();
    fill::plan_fill(m, &late, Target::Memory, "memory");
    for vma in &m.own.mm.vmas {
        if !vdso.is_made_by_kernel(vma) {
            plan_finish_area(m, vma);
        }
    }
    mapped::plan_finish(m);
    close_shared(m, shared);
}

/// `CAP_SYS_RAWIO`: what lets a task map below `vm.mmap_min_addr` (`security/min_addr.c`).
const CAP_SYS_RAWIO: u64 = 1 << 17;

/// Refuses areas where this kernel, or this process, may have none.
fn refuse_addresses(m: &mut Making<'_>) {
    let min = match m.host.creds.cap_effective & CAP_SYS_RAWIO {
        0 => m.host.mmap_min_addr,
        _ => 0,
    };
    for vma in m
        .own
        .mm
        .vmas
        .iter()
        .filter(|vma| vma.kind != VmaKind::Vsyscall)
    {
        if vma.start < min {
            let reason = format!("it is below vm.mmap_min_addr ({min:#x})");
            let remedy = "sysctl vm.mmap_min_addr=0";
            m.report.refuse(area(vma).to_string(), reason, remedy);
        }
        if vma.end > TASK_SIZE {
            let reason = "it is above what a task may map with 4-level page tables";
            m.report.refuse(area(vma).to_string(), reason, "");
        }
    }
}

/// Adds the sealing of areas, after which nothing about them can change.
pub fn plan_seals(m: &mut Making<'_>) {
    for vma in m
        .own
        .mm
        .vmas
        .iter()
        .filter(|vma| vma.sealed && !is_kernels(vma))
    {
        m.b.object(area(vma));
        m.b.call_returns(SYS_MSEAL, &[vma.start, vma.len(), 0], 0);
    }
}

/// Returns whether the kernel, not the planner, makes the area's content.
fn is_kernels(vma: &Vma) -> bool {
    matches!(vma.kind, VmaKind::Vdso | VmaKind::Vvar | VmaKind::Vsyscall)
}

/// Returns the words for an area.
pub fn area(vma: &Vma) -> Object {
    let kind = match vma.kind {
        VmaKind::Anonymous => "anonymous",
        VmaKind::Heap => "[heap]",
        VmaKind::Stack => "[stack]",
        VmaKind::FilePrivate(_) => "private file mapping",
        VmaKind::FileShared(_) => "shared file mapping",
        VmaKind::SharedAnonymous(_) => "shared anonymous memory",
        VmaKind::SystemV(_) | VmaKind::SystemVReadOnly(_) => "System V shared memory",
        VmaKind::Memfd(_) => "memfd mapping",
        VmaKind::AioRing => "ring of asynchronous I/O",
        VmaKind::Vdso => "[vdso]",
        VmaKind::Vvar => "[vvar]",
        VmaKind::Vsyscall => "[vsyscall]",
        VmaKind::PageFile => "memory of a page file",
    };
    Object::Area(vma.start, vma.end, kind)
}

/// Returns whether bytes are read into the area after it is mapped.
pub fn is_filled(m: &Making<'_>, vma: &Vma, shared: Option<&SharedPlan<'_>>) -> bool {
    match vma.kind {
        VmaKind::SharedAnonymous(id) => {
            shared.is_some_and(|shared| shared.is_filled_in_place(id, vma))
        }
        _ => vma.is_private() && fill::touches(&m.own.mm.pages, vma.start, vma.end),
    }
}

/// Returns the protection of an area before it gets its key. The kernel takes a key by itself for what may be executed only,
/// which is not to be where the program has given another.
fn first_prot(vma: &Vma) -> u32 {
    match vma.prot == libc::PROT_EXEC as u32 && vma.protection_key != 0 {
        true => vma.prot | libc::PROT_READ as u32,
        false => vma.prot,
    }
}

fn plan_area(
    m: &mut Making<'_>,
    vma: &Vma,
    shared: Option<&SharedPlan<'_>>,
    open: &mut Option<OpenNow>,
) {
    m.b.object(area(vma));
    let prot = match is_filled(m, vma, shared) {
        true => first_prot(vma) | PROT_WRITE,
        false => first_prot(vma),
    };
    m.own.mapped.insert(vma.start, prot);
    let mut flags = u64::from(vma.flags & !MAP_LOCKED) | MAP_NEW;
    let fd = match vma.kind {
        VmaKind::FilePrivate(id) | VmaKind::FileShared(id) | VmaKind::Memfd(id) => {
            match file_descriptor(m, vma, id, open) {
                Some(fd) => fd as u64,
                None => return,
            }
        }
        VmaKind::SharedAnonymous(id) if !shared.is_some_and(|shared| shared.is_whole(id, vma)) => {
            match open_segment(m, id) {
                Some(fd) => {
                    flags &= !(libc::MAP_ANONYMOUS as u64);
                    plan_map(m, vma, prot, flags, fd as u64);
                    m.b.close(fd);
                    return plan_early_advice(m, vma);
                }
                None => return,
            }
        }
        _ => u64::MAX,
    };
    plan_map(m, vma, prot, flags, fd);
    plan_early_advice(m, vma);
}

/// Adds the opening of a segment where it is mapped whole, by this task or another.
fn open_segment(m: &mut Making<'_>, id: u64) -> Option<i32> {
    let &(pid, at) = m.segments.get(&id)?;
    let memory = m.snapshot.shared.iter().find(|memory| memory.id == id)?;
    let end = at + whole(memory.size);
    let path = format!("/proc/{pid}/map_files/{at:x}-{end:x}");
    Some(m.b.open_path(path.as_bytes(), libc::O_RDWR as u32))
}

fn plan_map(m: &mut Making<'_>, vma: &Vma, prot: u32, flags: u64, fd: u64) {
    let offset = if fd == u64::MAX { 0 } else { vma.offset };
    let args = [vma.start, vma.len(), u64::from(prot), flags, fd, offset];
    m.b.call_returns(libc::SYS_mmap, &args, vma.start as i64);
}

pub fn plan_early_advice(m: &mut Making<'_>, vma: &Vma) {
    plan_advice(m, vma, vma.advice & ADVICE_EARLY);
    if let Some(policy) = &vma.mempolicy {
        let nodes = m.b.put(&policy.nodes);
        // The kernel wants the number of bits plus one (`get_nodes`, `mm/mempolicy.c`).
        let bits = policy.nodes.len() as u64 * 8 + 1;
        let mode = u64::from(policy.mode);
        let args = [vma.start, vma.len(), mode, nodes, bits, 0];
        m.b.call_returns(libc::SYS_mbind, &args, 0);
    }
}

fn plan_advice(m: &mut Making<'_>, vma: &Vma, bits: u64) {
    for advice in (0..64).filter(|advice| bits >> advice & 1 != 0) {
        m.b.call_returns(libc::SYS_madvise, &[vma.start, vma.len(), advice], 0);
    }
}

/// `PR_SET_VMA`, whose function 0 sets the name of anonymous memory (Linux 5.17).
const PR_SET_VMA: u64 = 0x5356_4d41;

fn plan_name(m: &mut Making<'_>, vma: &Vma) {
    if vma.name.is_empty() {
        return;
    }
    if !m.host.has_area_names {
        let what = area(vma);
        return m
            .report
            .lose(format!("{what}: its name: this kernel knows none"));
    }
    let name = m.b.put_cstr(&vma.name);
    let args = [PR_SET_VMA, 0, vma.start, vma.len(), name];
    m.b.call_returns(libc::SYS_prctl, &args, 0);
}

/// Adds what an area still needs when its content is in place.
fn plan_finish_area(m: &mut Making<'_>, vma: &Vma) {
    let prot = first_prot(vma);
    let has_prot = m.own.mapped.get(&vma.start) == Some(&prot);
    let has_more = !vma.guards.is_empty()
        || !vma.name.is_empty()
        || vma.advice & !ADVICE_EARLY != 0
        || vma.protection_key != 0;
    if has_prot && !has_more && !vma.locked && !vma.locked_on_fault {
        return;
    }
    m.b.object(area(vma));
    if !has_prot {
        let args = [vma.start, vma.len(), u64::from(prot)];
        m.b.call_returns(libc::SYS_mprotect, &args, 0);
    }
    for &[start, end] in &vma.guards {
        m.b.call_returns(
            libc::SYS_madvise,
            &[start, end - start, MADV_GUARD_INSTALL],
            0,
        );
    }
    plan_advice(m, vma, vma.advice & !ADVICE_EARLY);
    plan_name(m, vma);
    if vma.locked || vma.locked_on_fault {
        let flags = u64::from(vma.locked_on_fault) * MLOCK_ONFAULT;
        // Locking faults all pages in, and tells of those that cannot be (PROT_NONE, guard regions) after it has locked
        // the rest (`do_mlock`, `mm/mlock.c`).
        m.b.call_or(
            libc::SYS_mlock2,
            &[vma.start, vma.len(), flags],
            libc::ENOMEM,
        );
    }
    keys::plan_area(m, vma);
}

/// The file that was opened last for a mapping: the areas of one library are neighbours.
#[derive(Debug, Clone, Copy)]
struct OpenNow {
    id: FileId,
    flags: u32,
    fd: i32,
}

/// Returns a descriptor of the file for this area, opening it where no descriptor of the task serves.
fn file_descriptor(
    m: &mut Making<'_>,
    vma: &Vma,
    id: FileId,
    open: &mut Option<OpenNow>,
) -> Option<i32> {
    let Some(&file) = m.files.get(&id) else {
        let reason = format!("its file {} is not in the images", id.0);
        m.report.refuse(area(vma).to_string(), reason, "");
        return None;
    };
    let is_path = file.flags & libc::O_PATH as u32 != 0;
    if let (Some(&fd), false) = (m.own.placed.get(&id), is_path) {
        return Some(fd);
    }
    let needs_write = !vma.is_private() && vma.prot & PROT_WRITE != 0;
    let flags = mapping_flags(file.flags, needs_write);
    match open {
        Some(now) if now.id == id && now.flags == flags => return Some(now.fd),
        _ => close_open(m, open),
    }
    m.b.object(area(vma));
    let fd = match &file.kind {
        FileKind::Regular(regular) => m.b.open_path(&regular.path, flags),
        FileKind::Device(device) => m.b.open_path(&device.node.path, flags),
        FileKind::Memfd(memfd) => {
            let (pid, master) = *m.masters.get(&memfd.inode_id)?;
            let path = format!("/proc/{pid}/fd/{master}");
            m.b.open_path(path.as_bytes(), flags)
        }
        _ => {
            let reason = "it maps a file that is found by no path";
            m.report.refuse(area(vma).to_string(), reason, "");
            return None;
        }
    };
    *open = Some(OpenNow { id, flags, fd });
    Some(fd)
}

/// Returns the flags to open a file with that is only mapped.
fn mapping_flags(recorded: u32, needs_write: bool) -> u32 {
    let access = recorded & libc::O_ACCMODE as u32;
    // Every mapping needs the right to read, whatever its protection (`do_mmap`, `mm/mmap.c`).
    let access = if needs_write || access != libc::O_RDONLY as u32 {
        libc::O_RDWR as u32
    } else {
        access
    };
    access | (open_flags(recorded) & libc::O_NOATIME as u32)
}

fn close_open(m: &mut Making<'_>, open: &mut Option<OpenNow>) {
    if let Some(now) = open.take() {
        m.b.close(now.fd);
    }
}

/// How shared anonymous segments are made: one that a single area maps whole is made by that area, any other at a
/// temporary place, from which each area is opened through `/proc/self/map_files`.
#[derive(Debug, Default)]
pub struct SharedPlan<'a> {
    segments: BTreeMap<u64, Segment<'a>>,
}

#[derive(Debug)]
struct Segment<'a> {
    memory: &'a SharedMemory,
    /// Where it is mapped whole: the area's own address, or a temporary one.
    at: u64,
    is_temporary: bool,
}

impl<'a> SharedPlan<'a> {
    /// Maps the segments that need a temporary place and notes where each is.
    fn of(m: &mut Making<'a>) -> Self {
        let mut plan = Self::default();
        for vma in &m.own.mm.vmas {
            let VmaKind::SharedAnonymous(id) = vma.kind else {
                continue;
            };
            if plan.segments.contains_key(&id) || m.sharing.segments.get(&id) != Some(&m.own.member)
            {
                continue;
            }
            let Some(memory) = m.snapshot.shared.iter().find(|memory| memory.id == id) else {
                let reason = format!("its segment {id} is not in the images");
                m.report.refuse(area(vma).to_string(), reason, "");
                continue;
            };
            let users = m.own.mm.vmas.iter().filter(|other| other.kind == vma.kind);
            let is_whole = vma.offset == 0 && vma.len() == memory.size && users.count() == 1;
            let at = if is_whole {
                Some(vma.start)
            } else {
                map_temporary(m, memory, vma.flags & HUGE)
            };
            if let Some(at) = at {
                m.segments.insert(id, (m.own.task.pid, at));
                let is_temporary = !is_whole;
                plan.segments.insert(
                    id,
                    Segment {
                        memory,
                        at,
                        is_temporary,
                    },
                );
            }
        }
        plan
    }

    fn is_whole(&self, id: u64, vma: &Vma) -> bool {
        let segment = self.segments.get(&id);
        segment.is_some_and(|segment| !segment.is_temporary && segment.at == vma.start)
    }

    fn is_filled_in_place(&self, id: u64, vma: &Vma) -> bool {
        let segment = self.segments.get(&id);
        self.is_whole(id, vma) && segment.is_some_and(|segment| !segment.memory.pages.is_empty())
    }
}

/// `MAP_HUGETLB` and the size of its pages.
const HUGE: u32 = libc::MAP_HUGETLB as u32 | 0x3f << libc::MAP_HUGE_SHIFT;

fn map_temporary(m: &mut Making<'_>, memory: &SharedMemory, huge: u32) -> Option<u64> {
    let len = whole(memory.size);
    let name = format!("shared memory {}", memory.id);
    // The size of huge pages is in the flags, as its logarithm.
    let page = match huge >> libc::MAP_HUGE_SHIFT {
        0 => PAGE_SIZE,
        log => 1 << log,
    };
    let Some(at) = m.holes.take_aligned(len, page) else {
        m.report
            .refuse(name, "no free address space to make it in", "");
        return None;
    };
    m.b.object(Object::Named(name));
    let flags = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u64 | MAP_NEW | u64::from(huge);
    let args = [at, len, PROT_RW, flags, u64::MAX, 0];
    m.b.call_returns(libc::SYS_mmap, &args, at as i64);
    Some(at)
}

fn fill_shared(m: &mut Making<'_>, shared: &SharedPlan<'_>) {
    for segment in shared.segments.values() {
        fill::plan_fill(
            m,
            &segment.memory.pages,
            Target::At(segment.at),
            "shared memory",
        );
    }
}

fn close_shared(m: &mut Making<'_>, shared: &SharedPlan<'_>) {
    for segment in shared.segments.values().filter(|s| s.is_temporary) {
        m.b.object(Object::Named(format!(
            "shared memory {}",
            segment.memory.id
        )));
        let len = whole(segment.memory.size);
        m.b.call_returns(libc::SYS_munmap, &[segment.at, len], 0);
    }
}

fn whole(size: u64) -> u64 {
    size.next_multiple_of(PAGE_SIZE)
}
