//! Filling: page runs of an image set become vectored reads of a page file, straight to where the pages belong.

use std::collections::BTreeSet;
use std::ops::Range;

use super::program::Object;
use super::readers::plan_shared_reads;
use super::task::Making;
use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun, Snapshot};
use arch::abi::program::special;

/// Most vectors of one read (`UIO_MAXIOV`, `include/uapi/linux/uio.h`).
const MAX_VECTORS: usize = 1024;
/// Most bytes of one read: several share the reads of a large memory.
const MAX_BYTES: u64 = 4 << 20;

/// What the addresses of runs count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// They are addresses.
    Memory,
    /// They are offsets into something mapped here.
    At(u64),
}

/// Returns the IDs of all page files that a snapshot needs.
pub fn page_files(snapshot: &Snapshot) -> BTreeSet<u32> {
    let of_tasks = snapshot.tasks.iter().filter_map(|task| task.mm.as_ref());
    let of_tasks = of_tasks.flat_map(|mm| mm.pages.iter().chain(&mm.mapped));
    let of_shared = snapshot.shared.iter().flat_map(|memory| &memory.pages);
    of_tasks
        .chain(of_shared)
        .filter_map(|run| match run.at {
            PageLocation::Here { pages_id, .. } => Some(pages_id),
            PageLocation::Parent | PageLocation::ParentTask | PageLocation::Source => None,
        })
        .collect()
}

/// Returns whether any of `runs`, which ascend, has a page in `start..end` that is to be read.
pub fn touches(runs: &[PageRun], start: u64, end: u64) -> bool {
    let first = runs.partition_point(|run| run_end(run) <= start);
    let near = runs[first..].iter().take_while(|run| run.start < end);
    let mut read = near.filter(|run| run.at != PageLocation::ParentTask);
    read.next().is_some()
}

/// Returns the parts of `runs` that lie outside of `holes`.
pub fn outside(runs: &[PageRun], holes: &[Range<u64>]) -> Vec<PageRun> {
    let mut left = runs.to_vec();
    for hole in holes {
        left = left
            .into_iter()
            .flat_map(|run| {
                let below = part(&run, run.start, hole.start.min(run_end(&run)));
                let above = part(&run, hole.end.max(run.start), run_end(&run));
                below.into_iter().chain(above)
            })
            .collect();
    }
    left
}

fn run_end(run: &PageRun) -> u64 {
    run.start + run.pages * PAGE_SIZE
}

/// Returns the part of a run between two addresses, the first not below the run.
fn part(run: &PageRun, start: u64, end: u64) -> Option<PageRun> {
    if start >= end {
        return None;
    }
    let at = match run.at {
        PageLocation::Here { pages_id, offset } => PageLocation::Here {
            pages_id,
            offset: offset + (start - run.start),
        },
        elsewhere => elsewhere,
    };
    Some(PageRun {
        start,
        pages: (end - start) / PAGE_SIZE,
        at,
    })
}

/// A read in the making: neighbouring bytes of one page file, and where they go.
#[derive(Debug)]
pub struct Read {
    pages_id: u32,
    offset: u64,
    len: u64,
    vectors: Vec<[u64; 2]>,
}

impl Read {
    /// Returns the number of its page file.
    pub fn pages_id(&self) -> u32 {
        self.pages_id
    }

    /// Returns where in the file it begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns the number of its vectors.
    pub fn vectors(&self) -> u64 {
        self.vectors.len() as u64
    }

    /// Returns its vectors as words.
    pub fn words(&self) -> Vec<u64> {
        self.vectors.iter().flatten().copied().collect()
    }

    /// Adds `len` bytes for `addr`, unless they lie elsewhere in the file or are too much for one read.
    fn push(&mut self, pages_id: u32, offset: u64, addr: u64, len: u64) -> bool {
        let is_next = self.pages_id == pages_id && self.offset + self.len == offset;
        if !is_next || self.len + len > MAX_BYTES {
            return false;
        }
        let is_full = self.vectors.len() == MAX_VECTORS;
        match self.vectors.last_mut() {
            Some([start, so_far]) if *start + *so_far == addr => *so_far += len,
            _ if is_full => return false,
            _ => self.vectors.push([addr, len]),
        }
        self.len += len;
        true
    }
}

/// Adds the reads that bring `runs` to where they belong.
pub fn plan_fill(m: &mut Making<'_>, runs: &[PageRun], target: Target, what: &'static str) {
    let base = match target {
        Target::Memory => 0,
        Target::At(base) => base,
    };
    let mut reads: Vec<Read> = Vec::new();
    for run in runs.iter().filter(|run| run.at != PageLocation::ParentTask) {
        let PageLocation::Here { pages_id, offset } = run.at else {
            let (reason, remedy) = match run.at {
                PageLocation::Source => (
                    "it was left where the task was dumped",
                    "restore with --lazy-pages, with a lazy-pages daemon that asks the source",
                ),
                _ => (
                    "it lies in a parent image set, and where was not resolved",
                    "",
                ),
            };
            m.report.refuse(what, reason, remedy);
            return;
        };
        let mut done = 0;
        while done < run.pages * PAGE_SIZE {
            let len = (run.pages * PAGE_SIZE - done).min(MAX_BYTES);
            let addr = base + run.start + done;
            let at = offset + done;
            let has_grown = reads
                .last_mut()
                .is_some_and(|read| read.push(pages_id, at, addr, len));
            if !has_grown {
                reads.push(Read {
                    pages_id,
                    offset: at,
                    len,
                    vectors: vec![[addr, len]],
                });
            }
            done += len;
        }
    }
    if plan_shared_reads(m, &reads, what) {
        return;
    }
    for read in reads {
        plan_read(m, &read, what);
    }
}

fn plan_read(m: &mut Making<'_>, read: &Read, what: &'static str) {
    let (Some([start, _]), Some([last, len])) = (read.vectors.first(), read.vectors.last()) else {
        return;
    };
    let file = m.snapshot.pages_name(read.pages_id);
    m.b.object(Object::Named(format!(
        "{what} {start:x}-{:x} from {file} at {:#x}",
        last + len,
        read.offset
    )));
    let vectors = m.b.put_words(&read.words());
    let fd = m.own.services.get(&read.pages_id).copied().unwrap_or(-1);
    let count = read.vectors.len() as u64;
    m.b.special(
        special::READ_FULL,
        &[fd as u64, vectors, count, read.offset],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, pages: u64, offset: u64) -> PageRun {
        PageRun {
            start,
            pages,
            at: PageLocation::Here {
                pages_id: 1,
                offset,
            },
        }
    }

    fn without(runs: &[PageRun], hole: Range<u64>) -> Vec<PageRun> {
        outside(runs, std::slice::from_ref(&hole))
    }

    #[test]
    fn holes_are_cut_out_of_runs() {
        let runs = [run(0x1000, 4, 0)];
        let cut = without(&runs, 0x2000..0x3000);
        assert_eq!(cut, [run(0x1000, 1, 0), run(0x3000, 2, 0x2000)]);
        assert_eq!(without(&runs, 0..0x9000), []);
        assert_eq!(without(&runs, 0x8000..0x9000), runs);
        assert_eq!(without(&runs, 0..0x1000), runs);
    }

    #[test]
    fn touching_is_by_page() {
        let runs = [run(0x1000, 1, 0), run(0x4000, 2, 0x1000)];
        assert!(touches(&runs, 0x1000, 0x2000));
        assert!(!touches(&runs, 0x2000, 0x4000));
        assert!(touches(&runs, 0x5000, 0x8000));
        assert!(!touches(&runs, 0x6000, 0x8000));
    }

    #[test]
    fn a_read_takes_what_lies_next_in_the_file() {
        let mut read = Read {
            pages_id: 1,
            offset: 0,
            len: 0x1000,
            vectors: vec![[0x1000, 0x1000]],
        };
        assert!(read.push(1, 0x1000, 0x2000, 0x1000));
        assert_eq!(read.vectors, [[0x1000, 0x2000]]);
        assert!(read.push(1, 0x2000, 0x9000, 0x1000));
        assert_eq!(read.vectors.len(), 2);
        assert!(!read.push(1, 0x9000, 0xa000, 0x1000));
        assert!(!read.push(2, 0x3000, 0xa000, 0x1000));
        assert!(!read.push(1, 0x3000, 0xa000, MAX_BYTES));
    }
}
