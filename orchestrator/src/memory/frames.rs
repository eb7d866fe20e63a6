//! Pages that a child still has in common with its parent: they are the same page frame, so their bytes need not be stored a
//! second time.
//!
//! Frame numbers are what `/proc/PID/pagemap` says at one moment, and the kernel may move a page at any time, frozen or not.
//! So the parent is asked before and after its children: a frame that was the parent's both times was nobody else's when
//! a child had it, but the page that both have. To ask costs a look at every page's frame, so the parent is asked once for all
//! of its children, window by window.

use super::Error;
use super::select::Wanted;
use crate::procfs::pagemap::{PageEntry, Pagemap};
use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun};
use crate::sys::{Pid, RemoteAddr};

/// Pages of a window: as many words are kept of each child.
const WINDOW: u64 = 2048;

/// A frozen child.
#[derive(Debug)]
pub struct Child<'a> {
    /// Its number.
    pub pid: Pid,
    /// What is wanted of it, by address.
    pub wanted: &'a [Wanted],
    /// Where it may have pages in common with its parent, by address.
    pub ranges: &'a [[u64; 2]],
}

/// What of a child's pages has to be stored, and what is as in its parent.
#[derive(Debug, Default)]
pub struct Parted {
    /// To be stored.
    pub own: Vec<Wanted>,
    /// As in the parent.
    pub common: Vec<PageRun>,
}

/// Parts what is wanted of each child: of many, by two threads.
///
/// # Errors
/// The page maps cannot be read.
pub fn part(parent: Pid, children: &[Child<'_>]) -> Result<Vec<Parted>, Error> {
    if children.len() < WORTH_A_THREAD {
        return part_some(parent, children);
    }
    let (one, other) = children.split_at(children.len() / 2);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| part_some(parent, other));
        let mut all = part_some(parent, one)?;
        all.append(&mut second.join().expect("parting does not panic")?);
        Ok(all)
    })
}

/// From so many children on a second thread is worth its making, and a second look at their parent.
const WORTH_A_THREAD: usize = 4;

fn part_some(parent: Pid, children: &[Child<'_>]) -> Result<Vec<Parted>, Error> {
    let parents = open(parent)?;
    let mut parting = Vec::new();
    for child in children {
        parting.push(Parting {
            pid: child.pid,
            map: open(child.pid)?,
            wanted: child.wanted,
            ranges: child.ranges,
            at: 0,
            words: Vec::new(),
            parted: Parted::default(),
        });
    }
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for [start, end] in windows(children) {
        if !parting.iter().any(|child| child.has_any(start, end)) {
            continue;
        }
        let pages = ((end - start) / PAGE_SIZE) as usize;
        read(parent, &parents, start, pages, &mut before)?;
        for child in &mut parting {
            child.words.clear();
            if child.has_any(start, end) {
                read(child.pid, &child.map, start, pages, &mut child.words)?;
            }
        }
        read(parent, &parents, start, pages, &mut after)?;
        for child in &mut parting {
            child.part(start, end, [&before, &after]);
        }
    }
    Ok(parting.into_iter().map(Parting::finish).collect())
}

fn open(pid: Pid) -> Result<Pagemap, Error> {
    Pagemap::open(pid).map_err(|error| failed(pid, 0, error))
}

fn read(
    pid: Pid,
    map: &Pagemap,
    start: u64,
    pages: usize,
    words: &mut Vec<u64>,
) -> Result<(), Error> {
    map.read(RemoteAddr(start), pages, words)
        .map_err(|error| failed(pid, start, error))
}

/// Returns all that any child may have in common with its parent, in windows by address.
fn windows(children: &[Child<'_>]) -> Vec<[u64; 2]> {
    let mut ranges: Vec<[u64; 2]> = children
        .iter()
        .flat_map(|child| child.ranges)
        .copied()
        .collect();
    ranges.sort_unstable();
    let mut windows: Vec<[u64; 2]> = Vec::new();
    let mut at = 0;
    for [start, end] in ranges {
        at = at.max(start);
        while at < end {
            let stop = end.min(at + WINDOW * PAGE_SIZE);
            windows.push([at, stop]);
            at = stop;
        }
    }
    windows
}

/// A child whose pages are being parted.
#[derive(Debug)]
struct Parting<'a> {
    pid: Pid,
    map: Pagemap,
    /// What is left of it.
    wanted: &'a [Wanted],
    ranges: &'a [[u64; 2]],
    /// Up to where the first of what is left is done.
    at: u64,
    words: Vec<u64>,
    parted: Parted,
}

impl Parting<'_> {
    /// Returns whether anything is wanted between two addresses that may be in common.
    fn has_any(&self, start: u64, end: u64) -> bool {
        let near = self.ranges.partition_point(|range| range[1] <= start);
        let mut ranges = self.ranges[near..]
            .iter()
            .take_while(|range| range[0] < end);
        ranges.any(|range| {
            let (start, end) = (start.max(range[0]), end.min(range[1]));
            let near = self.wanted.partition_point(|run| run.end <= start);
            self.wanted.get(near).is_some_and(|run| run.start < end)
        })
    }

    /// Parts all that is wanted up to the end of a window, of which the words are known.
    fn part(&mut self, start: u64, end: u64, parents: [&[u64]; 2]) {
        while let Some(run) = self.wanted.first().copied()
            && run.start < end
        {
            let mut at = self.at.max(run.start);
            let stop = run.end.min(end);
            self.push_own(&run, at, stop.min(start));
            at = at.max(start);
            let near = self.ranges.partition_point(|range| range[1] <= at);
            for &[from, to] in self.ranges[near..]
                .iter()
                .take_while(|range| range[0] < stop)
            {
                let (from, to) = (from.max(at), to.min(stop));
                self.push_own(&run, at, from);
                self.compare(&run, [from, to], start, parents);
                at = to;
            }
            self.push_own(&run, at, stop);
            self.at = stop;
            if stop < run.end {
                break;
            }
            self.wanted = &self.wanted[1..];
        }
    }

    fn push_own(&mut self, run: &Wanted, start: u64, end: u64) {
        push_own(&mut self.parted.own, run, start, end);
    }

    /// Compares the frames of some pages with the parent's.
    fn compare(&mut self, run: &Wanted, [from, to]: [u64; 2], start: u64, parents: [&[u64]; 2]) {
        let mut at = from;
        while at < to {
            let index = ((at - start) / PAGE_SIZE) as usize;
            let word = |words: &[u64]| PageEntry(words.get(index).copied().unwrap_or(0));
            let (own, [before, after]) = (word(&self.words), parents.map(word));
            let is_common = !own.is_exclusive()
                && own.frame().is_some()
                && own.frame() == before.frame()
                && own.frame() == after.frame();
            match is_common {
                true => push_common(&mut self.parted.common, at),
                false => push_own(&mut self.parted.own, run, at, at + PAGE_SIZE),
            }
            at += PAGE_SIZE;
        }
    }

    /// What is left is in common with nobody.
    fn finish(mut self) -> Parted {
        for run in self.wanted {
            push_own(&mut self.parted.own, run, self.at.max(run.start), run.end);
        }
        self.parted
    }
}

fn push_own(own: &mut Vec<Wanted>, run: &Wanted, start: u64, end: u64) {
    if start >= end {
        return;
    }
    match own.last_mut() {
        Some(last)
            if (last.end, last.readable, last.zeros_are_holes)
                == (start, run.readable, run.zeros_are_holes) =>
        {
            last.end = end;
        }
        _ => own.push(Wanted { start, end, ..*run }),
    }
}

fn push_common(common: &mut Vec<PageRun>, at: u64) {
    match common.last_mut() {
        Some(last) if last.start + last.pages * PAGE_SIZE == at => last.pages += 1,
        _ => common.push(PageRun {
            start: at,
            pages: 1,
            at: PageLocation::ParentTask,
        }),
    }
}

/// Returns the runs of two lists, by address; both ascend.
pub fn merged(own: Vec<PageRun>, common: Vec<PageRun>) -> Vec<PageRun> {
    let mut all = own;
    all.extend(common);
    all.sort_by_key(|run| run.start);
    all
}

fn failed(pid: Pid, start: u64, error: crate::procfs::Error) -> Error {
    Error::Read {
        pid: pid.0,
        start,
        pages: 0,
        source: std::io::Error::other(error),
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

    #[test]
    fn what_lies_outside_of_the_ranges_is_stored() {
        // A process is no parent of itself, and its pages are the same frames: those that are nobody else's are its own.
        let this = Pid::this();
        let run = wanted(0x1000, 0x5000);
        let child = Child {
            pid: this,
            wanted: &[run],
            ranges: &[],
        };
        let parted = part(this, &[child]).expect("parted");
        assert_eq!(parted[0].own, [run]);
        assert!(parted[0].common.is_empty());
    }

    #[test]
    fn what_is_in_common_is_found_in_every_window() {
        let run = wanted(0x1000, 0x9000);
        let ranges = [[0x2000, 0x4000], [0x5000, 0x6000]];
        let frame = |frame: u64| 1 << 63 | frame;
        let parent = [frame(1), frame(2), frame(3), 0, frame(5)];
        let moved = [frame(1), frame(9), frame(3), 0, frame(5)];
        let mut child = Parting {
            pid: Pid::this(),
            map: Pagemap::open(Pid::this()).expect("page map"),
            wanted: &[run],
            ranges: &ranges,
            at: 0,
            words: vec![frame(1), frame(2)],
            parted: Parted::default(),
        };
        // Of two windows: the second page's frame became another one meanwhile.
        child.part(0x2000, 0x4000, [&parent, &moved]);
        child.words = vec![frame(7), 0];
        child.part(0x5000, 0x6000, [&[frame(7)], &[frame(7)]]);
        let parted = child.finish();
        let own: Vec<_> = parted.own.iter().map(|run| [run.start, run.end]).collect();
        assert_eq!(own, [[0x1000, 0x2000], [0x3000, 0x5000], [0x6000, 0x9000]]);
        let common: Vec<_> = parted
            .common
            .iter()
            .map(|run| (run.start, run.pages))
            .collect();
        assert_eq!(common, [(0x2000, 1), (0x5000, 1)]);
    }

    #[test]
    fn runs_are_merged_by_address() {
        let run = |start| PageRun {
            start,
            pages: 1,
            at: PageLocation::ParentTask,
        };
        let all = merged(vec![run(0x1000), run(0x5000)], vec![run(0x3000)]);
        let starts: Vec<u64> = all.iter().map(|run| run.start).collect();
        assert_eq!(starts, [0x1000, 0x3000, 0x5000]);
    }
}
