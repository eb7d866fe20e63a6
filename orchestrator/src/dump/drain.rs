//! The memory of a frozen tree, to page files.

use super::Error;
use super::collect::Facts;
use crate::image::{DumpStats, ImageWriter};
use crate::infect::Infected;
use crate::memory::{self, Tally, drain, output::PageOutput, scan, select};
use crate::snapshot::{PageRun, SharedMemory};
use crate::sys;
use std::os::fd::AsRawFd;
use std::time::Instant;

/// Memory that was written to page files.
#[derive(Debug, Default)]
pub struct Drained {
    /// Of each living process, in their order.
    pub private: Vec<Vec<PageRun>>,
    /// Shared memory.
    pub shared: Vec<SharedMemory>,
}

/// Writes all memory to page files. That of the root was made before the tree stood still.
///
/// # Errors
/// Memory cannot be read, or a file not written.
pub fn drain_all(
    infected: &mut [Infected],
    facts: &mut Facts,
    root_pages: PageOutput,
    writer: &mut ImageWriter,
    stats: &mut DumpStats,
) -> Result<Drained, Error> {
    let begin = Instant::now();
    let mut drained = Drained::default();
    let mut tally = Tally::default();
    let mut next_id = 1;
    let mut root_pages = Some(root_pages);
    for (infected, facts) in infected.iter_mut().zip(&mut facts.tasks) {
        let mut pages = match root_pages.take() {
            Some(pages) => pages,
            None => PageOutput::new(writer.pages_file(next_id)?, next_id),
        };
        next_id += 1;
        if let Some(mm) = &mut facts.task.mm {
            let found = scan::pages(infected.frozen().pid(), &mm.vmas)?;
            let wanted = select::select(&mut mm.vmas, &found);
            drain::drain(infected, &wanted, &mut pages, &mut tally)?;
        }
        drained.private.push(pages.take_runs());
    }
    let mut shared_tally = Tally::default();
    drained.shared = drain_shared(facts, writer, next_id, &mut shared_tally)?;
    stats.memdump_us = super::micros(begin);
    stats.memwrite_us = stats.memdump_us;
    (stats.pages_scanned, stats.pages_written, stats.page_pipes) =
        (tally.scanned, tally.written, tally.pipes);
    (stats.shared_pages_scanned, stats.shared_pages_written) =
        (shared_tally.scanned, shared_tally.written);
    Ok(drained)
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
