//! What of a process's pages has to be stored in a round, and what is as in the set before. Pure.

use crate::memory::select::Wanted;
use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun};

/// Pages that were parted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parted {
    /// To be stored.
    pub own: Vec<Wanted>,
    /// As in the set before.
    pub parent: Vec<PageRun>,
}

/// Parts what is wanted: a page that was not written since the set before, and that this set has, need not be stored. All
/// lists are by ascending address.
pub fn part(wanted: &[Wanted], unwritten: &[[u64; 2]], before: &[PageRun]) -> Parted {
    let mut parted = Parted::default();
    let before = before.iter();
    let before: Vec<[u64; 2]> = before
        .map(|run| [run.start, run.start + run.pages * PAGE_SIZE])
        .collect();
    let same = both(unwritten, &before);
    for run in wanted {
        let mut at = run.start;
        let near = same.partition_point(|range| range[1] <= at);
        for &[start, end] in same[near..].iter().take_while(|range| range[0] < run.end) {
            let (start, end) = (start.max(at), end.min(run.end));
            push_own(&mut parted.own, run, at, start);
            push_parent(&mut parted.parent, start, end);
            at = end;
        }
        push_own(&mut parted.own, run, at, run.end);
    }
    parted
}

/// Returns what lies in ranges of both lists.
fn both(one: &[[u64; 2]], other: &[[u64; 2]]) -> Vec<[u64; 2]> {
    let mut common = Vec::new();
    let (mut left, mut right) = (0, 0);
    while let (Some(a), Some(b)) = (one.get(left), other.get(right)) {
        let (start, end) = (a[0].max(b[0]), a[1].min(b[1]));
        if start < end {
            common.push([start, end]);
        }
        match a[1] < b[1] {
            true => left += 1,
            false => right += 1,
        }
    }
    common
}

fn push_own(own: &mut Vec<Wanted>, run: &Wanted, start: u64, end: u64) {
    if start < end {
        own.push(Wanted { start, end, ..*run });
    }
}

fn push_parent(parent: &mut Vec<PageRun>, start: u64, end: u64) {
    let pages = (end - start) / PAGE_SIZE;
    match parent.last_mut() {
        Some(last) if last.start + last.pages * PAGE_SIZE == start => last.pages += pages,
        _ => parent.push(PageRun {
            start,
            pages,
            at: PageLocation::Parent,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(start: u64, end: u64) -> Wanted {
        Wanted {
            start,
            end,
            readable: true,
            zeros_are_holes: true,
        }
    }

    fn run(start: u64, pages: u64) -> PageRun {
        PageRun {
            start,
            pages,
            at: PageLocation::Parent,
        }
    }

    #[test]
    fn a_page_is_left_out_if_it_is_unwritten_and_was_stored() {
        let all = [wanted(0x1000, 0x9000)];
        let parted = part(
            &all,
            &[[0x2000, 0x4000], [0x5000, 0x8000]],
            &[run(0x3000, 4)],
        );
        assert_eq!(parted.parent, [run(0x3000, 1), run(0x5000, 2)]);
        let own: Vec<_> = parted.own.iter().map(|run| (run.start, run.end)).collect();
        assert_eq!(own, [(0x1000, 0x3000), (0x4000, 0x5000), (0x7000, 0x9000)]);
    }

    #[test]
    fn nothing_is_left_out_without_a_set_before() {
        let all = [wanted(0x1000, 0x3000), wanted(0x8000, 0x9000)];
        let parted = part(&all, &[[0, 0x10000]], &[]);
        assert_eq!((parted.own, parted.parent), (all.to_vec(), vec![]));
        assert_eq!(part(&all, &[], &[run(0x1000, 15)]).own, all);
    }

    #[test]
    fn what_is_gone_is_not_said_to_be_in_the_parent() {
        let parted = part(&[], &[[0x1000, 0x9000]], &[run(0x1000, 8)]);
        assert_eq!(parted, Parted::default());
    }
}
