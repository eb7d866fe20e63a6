//! Memory that is mapped from page files instead of read: private mappings, copied on write, whose unwritten pages are those of the page
//! cache, which all restores of a set have in common.
//!
//! An area is mapped as ever, and runs of pages of some length are mapped over it: so what the images do not have stays memory of zeros.
//! Small runs are read, and of many only the longest are mapped: a process may have a limited number of areas.
//!
//! `madvise(MADV_DONTNEED)` would bring back what the file has, where a program (an allocator, say) relies on zeros. So each mapping
//! is locked on fault (`mlock2(MLOCK_ONFAULT)`), which costs nothing and reads nothing, and has the kernel refuse that advice with
//! `EINVAL` (`madvise_dontneed_free_valid_vma`, `mm/madvise.c`). The lock is not inherited by `fork`.

use super::program::Object;
use super::task::Making;
use crate::snapshot::{Mm, PAGE_SIZE, PageLocation, PageRun, Snapshot, Vma};
use arch::abi::program::Check;

/// Least pages of a run that is mapped: a mapping costs as much as reading some pages.
const LEAST_PAGES: u64 = 16;
/// One in so many of the areas that a process may still have goes to mappings; each may part an area in three.
const SHARE: u64 = 4;
/// `MADV_POPULATE_READ` (Linux 5.14).
const MADV_POPULATE_READ: u64 = 22;
/// `MLOCK_ONFAULT`.
const MLOCK_ONFAULT: u64 = 1;

/// Pages of a page file that were used by a run before, by its number: offsets, which ascend.
pub type WorkingSet = std::collections::BTreeMap<u32, Vec<[u64; 2]>>;

/// Takes the runs that are mapped out of those that are read; a process may have `most_areas`.
pub fn split(snapshot: &mut Snapshot, most_areas: u64, used: &WorkingSet) {
    for mm in snapshot
        .tasks
        .iter_mut()
        .filter_map(|task| task.mm.as_mut())
    {
        split_space(mm, most_areas);
        mm.wanted = wanted(&mm.mapped, used);
    }
}

fn split_space(mm: &mut Mm, most_areas: u64) {
    let most = most_areas.saturating_sub(mm.vmas.len() as u64) / SHARE;
    let (mut mapped, mut read) = (Vec::new(), Vec::new());
    for run in &joined(&mm.pages) {
        part(run, &mm.vmas, &mut mapped, &mut read);
    }
    mapped.sort_by_key(|run| std::cmp::Reverse(run.pages));
    let too_small = mapped.iter().take_while(|run| run.pages >= LEAST_PAGES);
    let kept = too_small.count().min(most as usize);
    read.extend(mapped.split_off(kept));
    read.sort_by_key(|run| run.start);
    mapped.sort_by_key(|run| run.start);
    (mm.mapped, mm.pages) = (mapped, read);
}

/// Parts a run by areas, which ascend, into what may be mapped and what may not.
fn part(run: &PageRun, vmas: &[Vma], mapped: &mut Vec<PageRun>, read: &mut Vec<PageRun>) {
    let end = run.start + run.pages * PAGE_SIZE;
    let PageLocation::Here { pages_id, offset } = run.at else {
        return read.push(*run);
    };
    let mut at = run.start;
    let first = vmas.partition_point(|vma| vma.end <= run.start);
    let push = |start: u64, end: u64, list: &mut Vec<PageRun>| {
        let at = PageLocation::Here {
            pages_id,
            offset: offset + (start - run.start),
        };
        let pages = (end.saturating_sub(start)) / PAGE_SIZE;
        if pages > 0 {
            list.push(PageRun { start, pages, at });
        }
    };
    for vma in vmas[first..].iter().take_while(|vma| vma.start < end) {
        let is_mapped = vma.may_be_mapped() && offset.is_multiple_of(PAGE_SIZE);
        let (start, stop) = (vma.start.max(at), vma.end.min(end));
        push(at, start, read);
        push(start, stop, if is_mapped { mapped } else { read });
        at = stop;
    }
    push(at, end, read);
}

/// Joins runs that follow each other in memory and in their file.
fn joined(runs: &[PageRun]) -> Vec<PageRun> {
    let mut all: Vec<PageRun> = Vec::new();
    for &run in runs {
        if let Some(last) = all.last_mut()
            && last.start + last.pages * PAGE_SIZE == run.start
            && follows(last, &run)
        {
            last.pages += run.pages;
            continue;
        }
        all.push(run);
    }
    all
}

fn follows(one: &PageRun, other: &PageRun) -> bool {
    let here = |run: &PageRun| match run.at {
        PageLocation::Here { pages_id, offset } => Some((pages_id, offset)),
        _ => None,
    };
    let next = here(one).map(|(id, offset)| (id, offset + one.pages * PAGE_SIZE));
    next.is_some() && next == here(other)
}

/// Returns the addresses of mapped runs where a run before used its pages.
fn wanted(mapped: &[PageRun], used: &WorkingSet) -> Vec<[u64; 2]> {
    let mut all: Vec<[u64; 2]> = Vec::new();
    for run in mapped {
        let PageLocation::Here { pages_id, offset } = run.at else {
            continue;
        };
        let used = used.get(&pages_id).map(Vec::as_slice).unwrap_or_default();
        let end = offset + run.pages * PAGE_SIZE;
        let first = used.partition_point(|range| range[1] <= offset);
        for range in used[first..].iter().take_while(|range| range[0] < end) {
            let low = run.start + (range[0].max(offset) - offset);
            let high = run.start + (range[1].min(end) - offset);
            all.push([low, high]);
        }
    }
    all
}

/// Maps the task's mapped runs over its areas.
pub fn plan_mappings(m: &mut Making<'_>) {
    let mm = m.own.mm;
    for run in &mm.mapped {
        let (PageLocation::Here { pages_id, offset }, Some(vma)) = (run.at, area_of(mm, run))
        else {
            continue;
        };
        name(m, run, pages_id, offset);
        let fd = m.own.services.get(&pages_id).copied().unwrap_or(-1);
        let prot = m.own.mapped.get(&vma.start).copied().unwrap_or(vma.prot);
        let more = vma.flags & libc::MAP_NORESERVE as u32;
        let flags = (libc::MAP_PRIVATE | libc::MAP_FIXED) as u32 | more;
        let args = [
            run.start,
            run.pages * PAGE_SIZE,
            u64::from(prot),
            u64::from(flags),
            fd as u64,
            offset,
        ];
        m.b.call_returns(libc::SYS_mmap, &args, run.start as i64);
    }
}

/// Locks them against being thrown away, and has what was used before be there.
pub fn plan_finish(m: &mut Making<'_>) {
    let mm = m.own.mm;
    for run in &mm.mapped {
        let len = run.pages * PAGE_SIZE;
        if let PageLocation::Here { pages_id, offset } = run.at {
            name(m, run, pages_id, offset);
        }
        m.b.call_returns(libc::SYS_mlock2, &[run.start, len, MLOCK_ONFAULT], 0);
    }
    for &[start, end] in &mm.wanted {
        m.b.object(Object::Named(format!("working set {start:x}-{end:x}")));
        // It is there sooner by that; what cannot be had before it is touched is had then.
        let call =
            m.b.call(libc::SYS_madvise, &[start, end - start, MADV_POPULATE_READ]);
        *call = call.check(Check::Ignore, 0);
    }
}

fn area_of<'a>(mm: &'a Mm, run: &PageRun) -> Option<&'a Vma> {
    let place = mm.vmas.partition_point(|vma| vma.end <= run.start);
    mm.vmas.get(place)
}

fn name(m: &mut Making<'_>, run: &PageRun, pages_id: u32, offset: u64) {
    let file = m.snapshot.pages_name(pages_id);
    let (start, end) = (run.start, run.start + run.pages * PAGE_SIZE);
    m.b.object(Object::Named(format!(
        "memory {start:x}-{end:x}, mapped from {file} at {offset:#x}"
    )));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Task, VmaKind};

    fn vma(start: u64, end: u64, kind: VmaKind) -> Vma {
        Vma::new(
            [start, end],
            3,
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u32,
            kind,
        )
    }

    fn run(start: u64, pages: u64, offset: u64) -> PageRun {
        let at = PageLocation::Here {
            pages_id: 1,
            offset,
        };
        PageRun { start, pages, at }
    }

    fn split_one(pages: Vec<PageRun>, most_areas: u64, used: &WorkingSet) -> Mm {
        let mm = Mm {
            vmas: vec![
                vma(0x10000, 0x40000, VmaKind::Anonymous),
                vma(0x40000, 0x80000, VmaKind::Heap),
                vma(0x80000, 0x90000, VmaKind::Stack),
            ],
            pages,
            ..Mm::default()
        };
        let mut snapshot = Snapshot {
            tasks: vec![Task {
                mm: Some(mm),
                ..Task::default()
            }],
            ..Snapshot::default()
        };
        split(&mut snapshot, most_areas, used);
        snapshot.tasks[0].mm.take().expect("memory")
    }

    #[test]
    fn long_runs_are_mapped_by_areas_and_the_rest_is_read() {
        let pages = vec![run(0x10000, 8, 0), run(0x20000, 0x70, 0x8000)];
        let mm = split_one(pages, 65530, &WorkingSet::new());
        assert_eq!(
            mm.mapped,
            [run(0x20000, 0x20, 0x8000), run(0x40000, 0x40, 0x28000)]
        );
        assert_eq!(mm.pages, [run(0x10000, 8, 0), run(0x80000, 0x10, 0x68000)]);
    }

    #[test]
    fn neighbours_in_memory_and_file_are_one() {
        let pages = vec![run(0x10000, 8, 0), run(0x18000, 8, 0x8000)];
        let mm = split_one(pages, 65530, &WorkingSet::new());
        assert_eq!(mm.mapped, [run(0x10000, 16, 0)]);
    }

    #[test]
    fn where_areas_are_few_the_longest_are_mapped() {
        let pages = vec![run(0x10000, 16, 0), run(0x40000, 0x20, 0x20000)];
        let mm = split_one(pages, 3 + SHARE, &WorkingSet::new());
        assert_eq!(mm.mapped, [run(0x40000, 0x20, 0x20000)]);
        assert_eq!(mm.pages, [run(0x10000, 16, 0)]);
    }

    #[test]
    fn what_was_used_before_is_wanted_where_it_is_mapped() {
        let used = WorkingSet::from([(1, vec![[0, 0x1000], [0x9000, 0x30000]]), (2, vec![[0, 1]])]);
        let pages = vec![run(0x20000, 0x10, 0x8000), run(0x40000, 2, 0)];
        let mm = split_one(pages, 65530, &used);
        assert_eq!(mm.wanted, [[0x21000, 0x30000]]);
    }
}
