//! Segments of System V shared memory that the tree has attached.
//!
//! An area tells the id, but not of which namespace: one that was attached before `unshare` is of another than the process.
//! So the number of areas in the tree has to be that of the attachments which the namespace tells; more are of others.

use super::areas::Segment;
use super::collect::TaskFacts;
use super::files::FileTable;
use crate::error::Refusal;
use crate::procfs::smaps;
use crate::procfs::sysvipc::{self, Shm};
use crate::snapshot::{IpcPerm, ShmSegment, VmaKind};
use crate::sys::Pid;
use std::collections::{BTreeMap, BTreeSet};

/// `SHM_HUGETLB`, and where the size of huge pages stands in flags, as in those of `mmap`.
const SHM_HUGETLB: u32 = 0o4000;
const HUGE_SIZE: u32 = 0x3f << libc::MAP_HUGE_SHIFT;

/// Areas of one segment.
#[derive(Debug, Default)]
struct Attached {
    areas: u64,
    /// Process of the first of them, and where it is.
    first: (i32, u64, u64),
    flags: u32,
}

/// Returns the segments that areas are of, or refuses those that others have too.
///
/// # Errors
/// The kernel's table cannot be read.
pub fn collect(
    tasks: &[TaskFacts],
    refusals: &mut Vec<Refusal>,
) -> Result<Vec<ShmSegment>, super::Error> {
    let has_any = tasks.iter().any(|facts| {
        let mut vmas = facts.task.mm.iter().flat_map(|mm| &mm.vmas);
        vmas.any(|vma| vma.segment().is_some())
    });
    match has_any {
        true => Ok(collect_own(tasks, &sysvipc::read_shm()?, refusals)),
        false => Ok(Vec::new()),
    }
}

/// Returns the segments that areas are of, by the table of their namespace, or refuses those that others have too.
pub fn collect_own(
    tasks: &[TaskFacts],
    table: &[Shm],
    refusals: &mut Vec<Refusal>,
) -> Vec<ShmSegment> {
    let attached = attached(tasks);
    let pids: BTreeSet<i32> = tasks.iter().map(|facts| facts.task.pid).collect();
    let mut segments = Vec::new();
    for (id, of_tree) in attached {
        let found = table.iter().find(|shm| shm.id == id);
        let reason = match found {
            Some(shm) if shm.attached == of_tree.areas => {
                segments.push(segment(shm, of_tree.flags));
                continue;
            }
            Some(shm) if shm.attached > of_tree.areas => outside(id, &pids),
            _ => "it is of another IPC namespace than its process".into(),
        };
        let (pid, start, end) = of_tree.first;
        refusals.push(Refusal {
            task: pid,
            object: format!("memory {start:x}-{end:x} (System V shared memory {id})"),
            reason,
            remedy: String::new(),
        });
    }
    segments
}

fn attached(tasks: &[TaskFacts]) -> BTreeMap<u32, Attached> {
    let mut all: BTreeMap<u32, Attached> = BTreeMap::new();
    for facts in tasks {
        for vma in facts.task.mm.iter().flat_map(|mm| &mm.vmas) {
            if let Some(id) = vma.segment() {
                let entry = all.entry(id).or_insert_with(|| Attached {
                    first: (facts.task.pid, vma.start, vma.end),
                    ..Attached::default()
                });
                entry.areas += 1;
                entry.flags |= vma.flags;
            }
        }
    }
    all
}

/// Returns the fact of a segment whose areas have these flags of `mmap`.
pub fn segment(shm: &Shm, flags: u32) -> ShmSegment {
    let [uid, gid, cuid, cgid] = shm.owners;
    let huge = match flags & libc::MAP_HUGETLB as u32 {
        0 => 0,
        _ => SHM_HUGETLB | flags & HUGE_SIZE,
    };
    ShmSegment {
        perm: IpcPerm {
            id: shm.id,
            key: shm.key,
            uid,
            gid,
            cuid,
            cgid,
            mode: shm.mode,
        },
        size: shm.size,
        huge,
        made: Some((shm.creator, shm.changed)),
    }
}

/// Has areas of shared anonymous memory that somebody has opened too map what the descriptor is of.
pub fn name_opened(tasks: &mut [TaskFacts], memory: &mut Vec<Segment>, files: &mut FileTable) {
    let mut opened = BTreeSet::new();
    let spaces = tasks.iter_mut().flat_map(|facts| &mut facts.task.mm);
    for vma in spaces.flat_map(|mm| &mut mm.vmas) {
        if let VmaKind::SharedAnonymous(id) = vma.kind
            && let Some(file) = files.memfd_mapping(id)
        {
            opened.insert(id);
            vma.kind = VmaKind::Memfd(file);
            vma.flags &= !(libc::MAP_ANONYMOUS as u32);
        }
    }
    memory.retain(|segment| !opened.contains(&segment.id));
}

/// Returns the words for a segment that others have attached: one of them by name, if it can be found.
fn outside(id: u32, pids: &BTreeSet<i32>) -> String {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has_it = |pid: &i32| {
        smaps::read_maps(Pid(*pid)).is_ok_and(|areas| {
            let mut all = areas.vmas.iter();
            all.any(|vma| vma.inode == u64::from(id) && areas.path(vma).starts_with(b"/SYSV"))
        })
    };
    let mut others = numbers.filter(|pid| !pids.contains(pid));
    match others.find(has_it) {
        Some(pid) => {
            format!("process {pid}, which is outside of what is dumped, has it attached too")
        }
        None => "a process outside of what is dumped has it attached too".into(),
    }
}
