//! Tracking by userfaultfd with asynchronous write protection (6.7 and up).
//!
//! A page that is written loses its protection; `PAGEMAP_SCAN` tells which have, and in the same step, page by page, protects
//! them again. So a look needs no frozen process, and no write falls between two looks.
//!
//! What the kernel does, and how it is met (`mm/userfaultfd.c`, `fs/proc/task_mmu.c`):
//!
//! - An area that was made, or moved by `mremap`, is not registered: it is registered at the next look, and all of it counts as
//!   written then, whatever protection older kernels leave on pages that were moved. That an area is registered is asked page by
//!   page table (`PAGE_IS_WPALLOWED`), that it is registered with *our* descriptor by registering it once more.
//! - Pages that were discarded and are there again have no protection. A private page over a file that was discarded leaves a
//!   marker that looks like swap; it is told apart by the type of the entry.
//! - The zero page is told as unwritten where it was seen before, but can also be what a read made of a discarded page: it is
//!   never called unwritten.
//! - Where a call needs its buffer of 512 runs more than once, it says that it ended where the buffer was last full, though it went
//!   to the end (`do_pagemap_scan`, `walk_end`, seen on 6.18). What lies behind is told again by the next call, protected by the
//!   first, and a program that runs may have written it in between. So a page counts as written if any of the calls says so.
//!
//! What the target can notice: two areas where it would have one, when it maps next to memory that is tracked, and `mremap` over
//! both fails; a userfaultfd of its own cannot have the memory (`EBUSY`).

use super::{Next, Tracker, tracked_ranges};
use crate::memory::Error;
use crate::procfs::pagemap::{PageEntry, Pagemap};
use crate::snapshot::{PAGE_SIZE, Vma};
use crate::sys::pagemap_scan::{PageIs, PageRegion, Query, ScanFlags, scan};
use crate::sys::{self, Pid, RemoteAddr, uffd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Runs taken at one call.
const REGIONS: usize = 8192;

/// Returns whether this kernel has it.
pub fn works() -> bool {
    uffd::userfaultfd().is_ok_and(|uffd| uffd::enable_async(uffd).is_ok())
}

/// Tracks by a userfaultfd of the process.
#[derive(Debug)]
pub struct WpAsync {
    pid: Pid,
    uffd: OwnedFd,
}

impl WpAsync {
    /// Takes a userfaultfd that was made in the process and enabled.
    pub fn new(pid: Pid, uffd: OwnedFd) -> Self {
        Self { pid, uffd }
    }

    fn failed(&self, source: sys::Error) -> Error {
        Error::Scan {
            pid: self.pid.0,
            source,
        }
    }

    fn unread(&self, error: crate::procfs::Error) -> Error {
        Error::Read {
            pid: self.pid.0,
            start: 0,
            pages: 0,
            source: std::io::Error::other(error),
        }
    }

    /// Registers what of the areas is not, and returns the ranges that are registered with us, with the word whether each
    /// was so before.
    fn register(&self, pagemap: &Pagemap, areas: &[Vma]) -> Vec<([u64; 2], bool)> {
        let mut ours: Vec<([u64; 2], bool)> = Vec::new();
        let mut add = |range: [u64; 2], before: bool| match ours.last_mut() {
            Some((last, same)) if last[1] == range[0] && *same == before => last[1] = range[1],
            _ => ours.push((range, before)),
        };
        for range in tracked_ranges(areas) {
            let near = areas.partition_point(|vma| vma.end <= range[0]);
            let inside = areas[near..].iter().take_while(|vma| vma.start < range[1]);
            let inside: Vec<_> = inside
                .map(|vma| ([vma.start, vma.end], is_registered(pagemap, vma.start)))
                .collect();
            if register(&self.uffd, range).is_ok() {
                inside
                    .iter()
                    .for_each(|&(range, before)| add(range, before));
                continue;
            }
            for &(range, before) in &inside {
                if register(&self.uffd, range).is_ok() {
                    add(range, before);
                }
            }
        }
        ours
    }

    /// Scans a registered range, which protects it again if tracking begins anew; adds what is unwritten.
    fn look(
        &self,
        pagemap: &Pagemap,
        [start, end]: [u64; 2],
        next: Next,
        unwritten: &mut Vec<[u64; 2]>,
    ) -> Result<(), Error> {
        let query = Query {
            flags: match next {
                Next::Begin => ScanFlags::WP_MATCHING,
                Next::GoOn => ScanFlags::default(),
            },
            inverted: PageIs::FILE,
            all_of: PageIs::FILE,
            any_of: PageIs::PRESENT | PageIs::SWAPPED,
            tell: PageIs::WPALLOWED | PageIs::WRITTEN | PageIs::SWAPPED | PageIs::PFNZERO,
            ..Query::default()
        };
        let mut regions = Vec::with_capacity(REGIONS);
        let mut at = RemoteAddr(start);
        let mut told = Told::default();
        while at.0 < end {
            at = scan(pagemap, at..RemoteAddr(end), &query, &mut regions)
                .map_err(|error| self.failed(error))?;
            told.add(&regions);
        }
        told.settle()
            .into_iter()
            .try_for_each(|region| self.judge(pagemap, &region, unwritten))
    }

    fn judge(
        &self,
        pagemap: &Pagemap,
        region: &PageRegion,
        unwritten: &mut Vec<[u64; 2]>,
    ) -> Result<(), Error> {
        let is = region.categories;
        if !is.contains(PageIs::WPALLOWED) || is.intersects(PageIs::WRITTEN | PageIs::PFNZERO) {
            return Ok(());
        }
        if !is.contains(PageIs::SWAPPED) {
            push(unwritten, [region.start, region.end]);
            return Ok(());
        }
        let mut words = Vec::new();
        let pages = ((region.end - region.start) / PAGE_SIZE) as usize;
        pagemap
            .read(RemoteAddr(region.start), pages, &mut words)
            .map_err(|error| self.unread(error))?;
        for (index, &word) in words.iter().enumerate() {
            if PageEntry(word).is_swapped() {
                let start = region.start + index as u64 * PAGE_SIZE;
                push(unwritten, [start, start + PAGE_SIZE]);
            }
        }
        Ok(())
    }
}

impl Tracker for WpAsync {
    fn sees_running(&self) -> bool {
        true
    }

    fn unwritten(&mut self, areas: &[Vma], next: Next) -> Result<Vec<[u64; 2]>, Error> {
        let pagemap = Pagemap::open(self.pid).map_err(|error| self.unread(error))?;
        let mut unwritten = Vec::new();
        for (range, before) in self.register(&pagemap, areas) {
            let mut found = Vec::new();
            self.look(&pagemap, range, next, &mut found)?;
            if before {
                found
                    .into_iter()
                    .for_each(|range| push(&mut unwritten, range));
            }
        }
        Ok(unwritten)
    }

    fn held(&self) -> Option<BorrowedFd<'_>> {
        Some(self.uffd.as_fd())
    }
}

/// What calls have told of a range, one after the other.
#[derive(Debug, Default)]
struct Told {
    /// By address, each page once, as it was told first.
    first: Vec<PageRegion>,
    /// What was told again, and had been written by then.
    written_since: Vec<[u64; 2]>,
}

impl Told {
    fn add(&mut self, regions: &[PageRegion]) {
        for region in regions {
            let known = self.first.last().map_or(0, |last| last.end);
            if region.start < known && region.categories.contains(PageIs::WRITTEN) {
                self.written_since
                    .push([region.start, region.end.min(known)]);
            }
            let start = region.start.max(known);
            if start < region.end {
                self.first.push(PageRegion { start, ..*region });
            }
        }
    }

    /// Returns what was told first, without what was written since.
    fn settle(mut self) -> Vec<PageRegion> {
        // Where more than two calls told the same, ranges overlap.
        self.written_since.sort_unstable();
        self.written_since.dedup_by(|next, last| {
            let overlap = next[0] <= last[1];
            if overlap {
                last[1] = last[1].max(next[1]);
            }
            overlap
        });
        let mut left = Vec::with_capacity(self.first.len());
        for region in self.first {
            let mut at = region.start;
            let near = self.written_since.partition_point(|range| range[1] <= at);
            let near = self.written_since[near..].iter();
            for &[start, end] in near.take_while(|range| range[0] < region.end) {
                if at < start {
                    left.push(PageRegion {
                        start: at,
                        end: start,
                        ..region
                    });
                }
                at = at.max(end);
            }
            if at < region.end {
                left.push(PageRegion {
                    start: at,
                    ..region
                });
            }
        }
        left
    }
}

fn push(ranges: &mut Vec<[u64; 2]>, range: [u64; 2]) {
    match ranges.last_mut() {
        Some(last) if last[1] == range[0] => last[1] = range[1],
        _ => ranges.push(range),
    }
}

/// Registers a range with a userfaultfd; an error says that it is not, or not with this one.
pub fn register(uffd: &OwnedFd, [start, end]: [u64; 2]) -> sys::Result<()> {
    uffd::register(uffd, RemoteAddr(start)..RemoteAddr(end))
}

/// Returns whether the area that begins at an address is registered for asynchronous write protection, with whomsoever.
pub fn is_registered(pagemap: &Pagemap, start: u64) -> bool {
    let query = Query {
        flags: ScanFlags::CHECK_WPASYNC,
        any_of: PageIs::PRESENT,
        tell: PageIs::PRESENT,
        ..Query::default()
    };
    let page = RemoteAddr(start)..RemoteAddr(start + PAGE_SIZE);
    // EPERM: it is not. Whatever else there may be: it is not known to be.
    scan(pagemap, page, &query, &mut Vec::new()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, end: u64, categories: PageIs) -> PageRegion {
        PageRegion {
            start,
            end,
            categories,
        }
    }

    #[test]
    fn what_is_written_between_two_calls_is_written() {
        let clean = PageIs::WPALLOWED;
        let written = PageIs::WPALLOWED | PageIs::WRITTEN;
        let mut told = Told::default();
        told.add(&[
            region(0x1000, 0x2000, written),
            region(0x2000, 0x9000, clean),
        ]);
        // Told again from the second on: one page was written in between, and a run goes on behind.
        told.add(&[
            region(0x2000, 0x4000, clean),
            region(0x4000, 0x5000, written),
            region(0x5000, 0xa000, clean),
        ]);
        let left: Vec<_> = told
            .settle()
            .into_iter()
            .filter(|region| !region.categories.contains(PageIs::WRITTEN))
            .map(|region| (region.start, region.end))
            .collect();
        assert_eq!(left, [(0x2000, 0x4000), (0x5000, 0x9000), (0x9000, 0xa000)]);
    }

    #[test]
    fn what_was_written_at_first_stays_so() {
        let written = PageIs::WPALLOWED | PageIs::WRITTEN;
        let mut told = Told::default();
        told.add(&[region(0x1000, 0x3000, written)]);
        told.add(&[region(0x1000, 0x3000, PageIs::WPALLOWED)]);
        let left = told.settle();
        assert!(
            left.iter().all(|region| region.categories == written),
            "{left:?}"
        );
    }
}
