//! Copy-on-write across a tree: which areas of a child may share pages with its parent's. Pure; the dump asks the same
//! question as the restore.
//!
//! A child that is cloned from its parent has the parent's areas with the parent's pages. Where the child's own area is the
//! same (kind, file and offset, growth, advice that decides how pages are made), it is kept, and only pages that differ are
//! written or thrown away; all else is unmapped and made anew.

use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun, Task, Vma, VmaKind};

/// Advice that decides how pages are made, and is given before they are.
pub const ADVICE_EARLY: u64 = 1 << libc::MADV_HUGEPAGE | 1 << libc::MADV_NOHUGEPAGE;

/// A range that a child has in common with its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Common {
    /// First address: where the child's area begins.
    pub start: u64,
    /// Address after the last: where the first of the two areas ends.
    pub end: u64,
    /// Place of the area among the parent's.
    pub parent: usize,
    /// Place of the area among the child's.
    pub child: usize,
}

/// Returns the parent of a task, if it is of the same program and a restore has it make the task, and the ranges that both have.
/// `tasks` are those of a tree that live.
pub fn with_parent(tasks: &[&Task], index: usize) -> Option<(i32, Vec<[u64; 2]>)> {
    let child = tasks[index];
    // One that shares anything with others may be made by a brother.
    let mut others = tasks[..index].iter();
    if others.any(|other| other.pid != child.ppid && share_any(child, other)) {
        return None;
    }
    let parent = tasks.iter().find(|task| task.pid == child.ppid)?;
    // One of another session is not made by its parent.
    if child.sid != child.pid && child.sid != parent.sid {
        return None;
    }
    let (mm, parents) = (child.mm.as_ref()?, parent.mm.as_ref()?);
    let common = common(&parents.vmas, &mm.vmas);
    let ranges: Vec<[u64; 2]> = common.iter().map(|one| [one.start, one.end]).collect();
    (mm.exe == parents.exe && !ranges.is_empty()).then_some((parent.pid, ranges))
}

fn share_any(one: &Task, other: &Task) -> bool {
    let ids = |task: &Task| [task.ids.vm, task.ids.files, task.ids.fs];
    let both = ids(one).into_iter().zip(ids(other));
    both.into_iter()
        .any(|(one, other)| one != 0 && one == other)
}

/// Returns what two lists of areas, by ascending address, have in common.
pub fn common(parent: &[Vma], child: &[Vma]) -> Vec<Common> {
    let mut all = Vec::new();
    let mut at = 0;
    for (place, vma) in child.iter().enumerate() {
        while parent.get(at).is_some_and(|other| other.end <= vma.start) {
            at += 1;
        }
        let Some(other) = parent.get(at) else {
            break;
        };
        if other.start <= vma.start && are_alike(other, vma) {
            all.push(Common {
                start: vma.start,
                end: vma.end.min(other.end),
                parent: at,
                child: place,
            });
        }
    }
    all
}

/// Returns whether pages of an area are its task's own, and can be had by being born with them.
pub fn is_private_memory(vma: &Vma) -> bool {
    let is_kind = matches!(
        vma.kind,
        VmaKind::Anonymous | VmaKind::Heap | VmaKind::Stack | VmaKind::FilePrivate(_)
    );
    is_kind && vma.is_private()
}

fn are_alike(parent: &Vma, child: &Vma) -> bool {
    let has_same_offset = match child.kind {
        VmaKind::FilePrivate(_) => {
            parent.offset.checked_add(child.start - parent.start) == Some(child.offset)
        }
        _ => true,
    };
    is_private_memory(child)
        && parent.kind == child.kind
        && parent.flags == child.flags
        && parent.advice & ADVICE_EARLY == child.advice & ADVICE_EARLY
        && parent.mempolicy == child.mempolicy
        && has_same_offset
}

/// Returns the parts of `wanted` in `start..end` where `without` has no page: both ascend.
pub fn missing(wanted: &[PageRun], without: &[PageRun], start: u64, end: u64) -> Vec<[u64; 2]> {
    let mut left: Vec<[u64; 2]> = Vec::new();
    let first = wanted.partition_point(|run| end_of(run) <= start);
    for run in wanted[first..].iter().take_while(|run| run.start < end) {
        let (mut at, stop) = (run.start.max(start), end_of(run).min(end));
        let near = without.partition_point(|other| end_of(other) <= at);
        for other in without[near..]
            .iter()
            .take_while(|other| other.start < stop)
        {
            push(&mut left, at, other.start);
            at = at.max(end_of(other));
        }
        push(&mut left, at, stop);
    }
    left
}

fn push(left: &mut Vec<[u64; 2]>, start: u64, end: u64) {
    if start >= end {
        return;
    }
    match left.last_mut() {
        Some(last) if last[1] == start => last[1] = end,
        _ => left.push([start, end]),
    }
}

/// Returns the address after the last of a run.
pub fn end_of(run: &PageRun) -> u64 {
    run.start + run.pages * PAGE_SIZE
}

/// Returns the first page that is as in the parent task outside of what is in common with it.
pub fn misplaced(runs: &[PageRun], common: &[Common]) -> Option<u64> {
    let inherited = runs.iter().filter(|run| run.at == PageLocation::ParentTask);
    let mut at = 0;
    for run in inherited {
        let mut from = run.start;
        while from < end_of(run) {
            while common.get(at).is_some_and(|range| range.end <= from) {
                at += 1;
            }
            match common.get(at) {
                Some(range) if range.start <= from => from = range.end,
                _ => return Some(from),
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vma(start: u64, end: u64, kind: VmaKind) -> Vma {
        Vma::new([start, end], 3, libc::MAP_PRIVATE as u32, kind)
    }

    fn run(start: u64, pages: u64, at: PageLocation) -> PageRun {
        PageRun { start, pages, at }
    }

    #[test]
    fn an_area_that_grew_or_was_split_is_still_common() {
        let parent = [
            vma(0x1000, 0x5000, VmaKind::Heap),
            vma(0x9000, 0xc000, VmaKind::Anonymous),
        ];
        let child = [
            vma(0x1000, 0x8000, VmaKind::Heap),
            vma(0xa000, 0xb000, VmaKind::Anonymous),
            vma(0xb000, 0xc000, VmaKind::Stack),
        ];
        let found = common(&parent, &child);
        let ranges: Vec<_> = found.iter().map(|one| (one.start, one.end)).collect();
        assert_eq!(ranges, [(0x1000, 0x5000), (0xa000, 0xb000)]);
    }

    #[test]
    fn pages_that_the_child_lacks_are_told() {
        let own = PageLocation::ParentTask;
        let parent = [run(0x1000, 4, own), run(0x9000, 1, own)];
        let child = [run(0x2000, 1, own)];
        assert_eq!(
            missing(&parent, &child, 0, 0xf000),
            [[0x1000, 0x2000], [0x3000, 0x5000], [0x9000, 0xa000]]
        );
        assert_eq!(missing(&parent, &child, 0x4000, 0x9000), [[0x4000, 0x5000]]);
    }

    #[test]
    fn a_page_of_the_parent_must_lie_in_what_is_common() {
        let parent = [vma(0x1000, 0x5000, VmaKind::Heap)];
        let both = common(&parent, &parent);
        let inherited = |start, pages| [run(start, pages, PageLocation::ParentTask)];
        assert_eq!(misplaced(&inherited(0x1000, 4), &both), None);
        assert_eq!(misplaced(&inherited(0x1000, 5), &both), Some(0x5000));
        assert_eq!(misplaced(&inherited(0x6000, 1), &both), Some(0x6000));
    }
}
