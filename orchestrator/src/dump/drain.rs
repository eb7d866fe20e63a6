//! The memory of a frozen tree, to page files.

use super::Error;
use super::collect::{Facts, TaskFacts};
use crate::image::{DumpStats, ImageWriter};
use crate::infect::Infected;
use crate::memory::{
    self, Tally, drain,
    frames::{self, Frames},
    output::PageOutput,
    scan, select,
};
use crate::plan::inherit;
use crate::snapshot::{Ghost, PageRun, SharedMemory};
use crate::sys::{self, Pid};
use std::os::fd::AsRawFd;
use std::time::Instant;

/// Memory that was written to page files.
#[derive(Debug, Default)]
pub struct Drained {
    /// Of each living process, in their order.
    pub private: Vec<Vec<PageRun>>,
    /// Shared memory.
    pub shared: Vec<SharedMemory>,
    /// Deleted files.
    pub ghosts: Vec<Ghost>,
}

/// Writes all memory to page files. That of the root was made before the tree stood still. Pages that a child has in common
/// with its parent are stored once, unless the set is to be `portable`.
///
/// # Errors
/// Memory cannot be read, or a file not written.
pub fn drain_all(
    infected: &mut [Infected],
    facts: &mut Facts,
    (root_pages, portable): (PageOutput, bool),
    writer: &mut ImageWriter,
    stats: &mut DumpStats,
) -> Result<Drained, Error> {
    let begin = Instant::now();
    let mut drained = Drained::default();
    let mut tally = Tally::default();
    let mut next_id = 1;
    let mut root_pages = Some(root_pages);
    for index in 0..facts.tasks.len() {
        let infected = &mut infected[index];
        let common = match portable {
            true => None,
            false => common_with_parent(&facts.tasks, index),
        };
        let facts = &mut facts.tasks[index];
        let mut pages = match root_pages.take() {
            Some(pages) => pages,
            None => PageOutput::new(writer.pages_file(next_id)?, next_id),
        };
        next_id += 1;
        if let Some(mm) = &mut facts.task.mm {
            let found = scan::pages(infected.frozen().pid(), &mm.vmas)?;
            let mut wanted = select::select(&mut mm.vmas, &found);
            let mut inherited = Vec::new();
            if let Some((parent, ranges)) = common {
                let mut frames = Frames::open(parent, infected.frozen().pid())?;
                let parted = frames.part(&wanted, &ranges)?;
                (wanted, inherited) = (parted.own, parted.common);
            }
            drain::drain(infected, &wanted, &mut pages, &mut tally)?;
            drained
                .private
                .push(frames::merged(pages.take_runs(), inherited));
        } else {
            drained.private.push(Vec::new());
        }
    }
    let mut shared_tally = Tally::default();
    drained.ghosts = facts.files.write_ghosts(writer)?;
    drained.shared = drain_shared(facts, writer, next_id, &mut shared_tally)?;
    stats.memdump_us = super::micros(begin);
    stats.memwrite_us = stats.memdump_us;
    (stats.pages_scanned, stats.pages_written, stats.page_pipes) =
        (tally.scanned, tally.written, tally.pipes);
    (stats.shared_pages_scanned, stats.shared_pages_written) =
        (shared_tally.scanned, shared_tally.written);
    Ok(drained)
}

/// Returns the parent of a process, if it is of the same program and may share pages with it, and the ranges that both have.
fn common_with_parent(tasks: &[TaskFacts], index: usize) -> Option<(Pid, Vec<[u64; 2]>)> {
    let child = &tasks[index].task;
    let parent = &tasks
        .iter()
        .find(|facts| facts.task.pid == child.ppid)?
        .task;
    // One of another session is not made by its parent.
    if child.sid != child.pid && child.sid != parent.sid {
        return None;
    }
    let (mm, parents) = (child.mm.as_ref()?, parent.mm.as_ref()?);
    let common = inherit::common(&parents.vmas, &mm.vmas);
    let ranges: Vec<[u64; 2]> = common.iter().map(|one| [one.start, one.end]).collect();
    (mm.exe == parents.exe && !ranges.is_empty()).then_some((Pid(parent.pid), ranges))
}

/// Writes shared anonymous memory and memfds, each once, to its page file.
fn drain_shared(
    facts: &Facts,
    writer: &mut ImageWriter,
    first_id: u32,
    tally: &mut Tally,
) -> Result<Vec<SharedMemory>, Error> {
    let mut all = Vec::new();
    let opened = |pid: i32, path: &str| {
        std::fs::File::open(path).map_err(|source| memory::Error::Read {
            pid,
            start: 0,
            pages: 0,
            source,
        })
    };
    for segment in &facts.segments {
        let ([start, end], pid) = (segment.range, segment.holder.0);
        let file = opened(pid, &format!("/proc/{pid}/map_files/{start:x}-{end:x}"))?;
        all.push((segment.id, pid, file));
    }
    let root = facts.tasks.first().map_or(0, |facts| facts.task.pid);
    for memfd in &facts.files.memfds {
        if let Some(own) = facts.files.memfd_content(memfd.shmid) {
            // A descriptor for writing alone cannot be read; its file can.
            let file = opened(root, &format!("/proc/self/fd/{}", own.as_raw_fd()))?;
            all.push((memfd.shmid, root, file));
        }
    }
    let mut shared = Vec::new();
    for (pages_id, (id, pid, file)) in (first_id..).zip(all) {
        let size = sys::file::statx(&file).map_err(Error::Own)?.size;
        let mut output = PageOutput::new(writer.pages_file(pages_id)?, pages_id);
        memory::shared::copy(pid, &file, size, &mut output, tally)?;
        shared.push(SharedMemory {
            id,
            size,
            pages: output.take_runs(),
        });
    }
    Ok(shared)
}
