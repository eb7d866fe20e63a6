//! Pages that a task has in common with its parent, found by their bytes: a set that was written without that says them twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun};

/// Bytes compared at a time.
const CHUNK: u64 = 1 << 20;

/// Returns a task's runs with pages that are its parent's, in these ranges, left to that. All lists ascend.
pub(super) fn left_to_parent(
    files: &BTreeMap<u32, File>,
    runs: &[PageRun],
    parent: &[PageRun],
    ranges: &[[u64; 2]],
) -> io::Result<Vec<PageRun>> {
    let mut comparing = Comparing {
        files,
        all: Vec::new(),
        bytes: [Vec::new(), Vec::new()],
    };
    for run in runs {
        comparing.add_run(run, parent, ranges)?;
    }
    Ok(comparing.all)
}

struct Comparing<'a> {
    files: &'a BTreeMap<u32, File>,
    all: Vec<PageRun>,
    bytes: [Vec<u8>; 2],
}

impl Comparing<'_> {
    fn add_run(
        &mut self,
        run: &PageRun,
        parent: &[PageRun],
        ranges: &[[u64; 2]],
    ) -> io::Result<()> {
        let end = end_of(run);
        let mut at = run.start;
        let first = ranges.partition_point(|range| range[1] <= at);
        for range in ranges[first..].iter().take_while(|range| range[0] < end) {
            let near = parent.partition_point(|other| end_of(other) <= at.max(range[0]));
            let stop = range[1].min(end);
            for other in parent[near..].iter().take_while(|other| other.start < stop) {
                let low = at.max(range[0]).max(other.start);
                self.push(run, at, low, run.at);
                at = end_of(other).min(stop);
                self.compare(run, other, low, at)?;
            }
        }
        self.push(run, at, end, run.at);
        Ok(())
    }

    fn compare(&mut self, run: &PageRun, other: &PageRun, start: u64, end: u64) -> io::Result<()> {
        let mut at = start;
        while at < end {
            let until = end.min(at + CHUNK);
            let is_read = self.read(0, run, at, until)? && self.read(1, other, at, until)?;
            for page in (at..until).step_by(PAGE_SIZE as usize) {
                let place = (page - at) as usize..(page - at + PAGE_SIZE) as usize;
                let is_same = is_read && self.bytes[0][place.clone()] == self.bytes[1][place];
                let location = if is_same {
                    PageLocation::ParentTask
                } else {
                    run.at
                };
                self.push(run, page, page + PAGE_SIZE, location);
            }
            at = until;
        }
        Ok(())
    }

    /// Reads pages of a run; returns false where it has no bytes.
    fn read(&mut self, side: usize, run: &PageRun, start: u64, end: u64) -> io::Result<bool> {
        let PageLocation::Here { pages_id, offset } = run.at else {
            return Ok(false);
        };
        let Some(file) = self.files.get(&pages_id) else {
            return Ok(false);
        };
        self.bytes[side].resize((end - start) as usize, 0);
        file.read_exact_at(&mut self.bytes[side], offset + (start - run.start))?;
        Ok(true)
    }

    /// Adds a part of a run, which lies there or in the parent.
    fn push(&mut self, run: &PageRun, start: u64, end: u64, at: PageLocation) {
        if start >= end {
            return;
        }
        let at = match at {
            PageLocation::Here { pages_id, offset } => PageLocation::Here {
                pages_id,
                offset: offset + (start - run.start),
            },
            elsewhere => elsewhere,
        };
        let pages = (end - start) / PAGE_SIZE;
        if let Some(last) = self.all.last_mut().filter(|last| end_of(last) == start) {
            let len = last.pages * PAGE_SIZE;
            let follows = match (last.at, at) {
                (
                    PageLocation::Here {
                        pages_id: one,
                        offset: before,
                    },
                    PageLocation::Here {
                        pages_id: other,
                        offset,
                    },
                ) => one == other && before + len == offset,
                (before, after) => before == after,
            };
            if follows {
                last.pages += pages;
                return;
            }
        }
        self.all.push(PageRun { start, pages, at });
    }
}

fn end_of(run: &PageRun) -> u64 {
    run.start + run.pages * PAGE_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(start: u64, pages: u64, offset: u64) -> PageRun {
        let at = PageLocation::Here {
            pages_id: 1,
            offset,
        };
        PageRun { start, pages, at }
    }

    #[test]
    fn only_equal_pages_at_the_same_address_are_left() {
        let file = tempfile::tempfile().expect("a file");
        // The parent's: a b c d; the child's: a x c d.
        let bytes = b"abcdaxcd".map(|byte| [byte; PAGE_SIZE as usize]);
        file.write_all_at(bytes.as_flattened(), 0).expect("written");
        let files = BTreeMap::from([(1, file)]);
        let (parent, child) = ([here(0x1000, 4, 0)], [here(0x1000, 4, 0x4000)]);
        let common = |start, pages| PageRun {
            start,
            pages,
            at: PageLocation::ParentTask,
        };
        let left = |ranges| left_to_parent(&files, &child, &parent, ranges).expect("compared");
        assert_eq!(
            left(&[[0x1000, 0x4000]]),
            [
                common(0x1000, 1),
                here(0x2000, 1, 0x5000),
                common(0x3000, 1),
                here(0x4000, 1, 0x7000)
            ]
        );
        assert_eq!(left(&[]), child);
        assert_eq!(left(&[[0x8000, 0x9000]]), child);
    }
}
