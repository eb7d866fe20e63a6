//! Pages that a child still has in common with its parent: they are the same page frame, so their bytes need not be stored a
//! second time.
//!
//! Frame numbers are what `/proc/PID/pagemap` says at one moment, and the kernel may move a page at any time, frozen or not.
//! So the parent is asked before and after the child: a frame that was the parent's both times was nobody else's when the
//! child had it, but the page that both have.

use super::Error;
use super::select::Wanted;
use crate::procfs::pagemap::{PageEntry, Pagemap};
use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun};
use crate::sys::{Pid, RemoteAddr};

/// Words of pagemap read at a time.
const WORDS: usize = 32768;

/// A frozen parent and its child.
#[derive(Debug)]
pub struct Frames {
    child: i32,
    maps: [Pagemap; 2],
    words: [Vec<u64>; 3],
}

/// What of a child's pages has to be stored, and what is as in its parent.
#[derive(Debug, Default)]
pub struct Parted {
    /// To be stored.
    pub own: Vec<Wanted>,
    /// As in the parent.
    pub common: Vec<PageRun>,
}

impl Frames {
    /// Opens the page maps.
    ///
    /// # Errors
    /// They cannot be opened.
    pub fn open(parent: Pid, child: Pid) -> Result<Self, Error> {
        let open = |pid: Pid| Pagemap::open(pid).map_err(|error| failed(pid.0, 0, error));
        Ok(Self {
            child: child.0,
            maps: [open(parent)?, open(child)?],
            words: Default::default(),
        })
    }

    /// Parts what is wanted of the child, inside of the ranges that both have (by ascending address, as `wanted`).
    ///
    /// # Errors
    /// The page maps cannot be read.
    pub fn part(&mut self, wanted: &[Wanted], ranges: &[[u64; 2]]) -> Result<Parted, Error> {
        let mut parted = Parted::default();
        for run in wanted {
            let mut at = run.start;
            let near = ranges.partition_point(|range| range[1] <= at);
            for &[start, end] in ranges[near..].iter().take_while(|range| range[0] < run.end) {
                let (start, end) = (start.max(at), end.min(run.end));
                push_own(&mut parted.own, run, at, start);
                self.compare(run, start, end, &mut parted)?;
                at = end;
            }
            push_own(&mut parted.own, run, at, run.end);
        }
        Ok(parted)
    }

    fn compare(
        &mut self,
        run: &Wanted,
        start: u64,
        end: u64,
        parted: &mut Parted,
    ) -> Result<(), Error> {
        let mut at = start;
        while at < end {
            let pages = (((end - at) / PAGE_SIZE) as usize).min(WORDS);
            for (slot, map) in [0, 1, 0].into_iter().enumerate() {
                self.maps[map]
                    .read(RemoteAddr(at), pages, &mut self.words[slot])
                    .map_err(|error| failed(self.child, at, error))?;
            }
            let [before, own, after] = &self.words;
            for page in 0..pages {
                let word = |words: &[u64]| PageEntry(words.get(page).copied().unwrap_or(0));
                let [before, own, after] = [word(before), word(own), word(after)];
                let is_common = !own.is_exclusive()
                    && own.frame().is_some()
                    && own.frame() == before.frame()
                    && own.frame() == after.frame();
                let from = at + page as u64 * PAGE_SIZE;
                match is_common {
                    true => push_common(&mut parted.common, from),
                    false => push_own(&mut parted.own, run, from, from + PAGE_SIZE),
                }
            }
            at += pages as u64 * PAGE_SIZE;
        }
        Ok(())
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

fn failed(pid: i32, start: u64, error: crate::procfs::Error) -> Error {
    Error::Read {
        pid,
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
        let mut frames = Frames::open(this, this).expect("page maps");
        let run = wanted(0x1000, 0x5000);
        let parted = frames.part(&[run], &[]).expect("parted");
        assert_eq!(parted.own, [run]);
        assert!(parted.common.is_empty());
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
