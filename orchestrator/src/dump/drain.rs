//! The memory of a frozen tree, to page files.

use super::Error;
use super::collect::{Facts, TaskFacts};
use super::outlet::Outlet;
use super::tracking::Tracking;
use crate::image::{DumpStats, ImageWriter};
use crate::infect::Infected;
use crate::lazy::split;
use crate::memory::select::Wanted;
use crate::memory::{
    self, Tally, drain,
    frames::{self, Parted},
    output::PageOutput,
    scan, select,
};
use crate::plan::inherit;
use crate::snapshot::{Ghost, PAGE_SIZE, PageLocation, PageRun, SharedMemory, Task};
use crate::sys::{self, Pid};
use crate::wire::protocol::Holder;
use std::collections::BTreeMap;
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

/// Where memory goes, and what need not go there.
#[derive(Debug)]
pub struct Drains<'a> {
    /// Makes the page files.
    pub writer: &'a mut ImageWriter,
    /// Where pages go.
    pub outlet: &'a Outlet,
    /// Knows what the set before has.
    pub tracking: &'a mut Tracking,
    /// What is counted.
    pub stats: &'a mut DumpStats,
    /// Nothing is left out that the peer could not find.
    pub portable: bool,
    /// Pages that can come later are left where they are.
    pub lazy: bool,
}

/// Writes all memory to page files. The first of the root was made before the tree stood still. Pages that a child has in
/// common with its parent are stored once, and much memory goes to two files, unless the set is to be `portable`; pages that
/// the set before has are not stored.
///
/// # Errors
/// Memory cannot be read, or a file not written.
pub fn drain_all(
    infected: &mut [Infected],
    facts: &mut Facts,
    root_pages: PageOutput,
    drains: Drains<'_>,
) -> Result<Drained, Error> {
    let Drains {
        writer,
        outlet,
        tracking,
        stats,
        portable,
        lazy,
    } = drains;
    let begin = Instant::now();
    let mut drained = Drained::default();
    let mut tally = Tally::default();
    let mut next_id = 1;
    let mut root_pages = Some(root_pages);
    let is_shared = !portable && outlet.takes_parents_pages();
    let parted = find(infected, facts, (tracking, outlet), is_shared)?;
    let all = tasks(facts);
    let ranges = all.iter().map(|task| match lazy {
        true => split::ranges(task, &all),
        false => Vec::new(),
    });
    let ranges: Vec<Vec<[u64; 2]>> = ranges.collect();
    for (index, parted) in parted.into_iter().enumerate() {
        let Parted { own, common } = leave(parted, &ranges[index]);
        if has_space_of_another(&facts.tasks, index) {
            // Its pages are with the first of those who share them.
            drained.private.push(Vec::new());
            continue;
        }
        let task = &facts.tasks[index].task;
        let holder = || Holder::Task(task.pid as u32);
        let mut outputs = match root_pages.take() {
            Some(pages) => vec![pages],
            None => vec![outlet.output(writer, holder(), next_id)?],
        };
        next_id += 1;
        let is_file = outputs[0].fd().is_some();
        while is_file && !portable && outputs.len() < drain::lanes(&own) {
            outputs.push(outlet.output(writer, holder(), next_id)?);
            next_id += 1;
        }
        let in_parent = common.iter().filter(|run| run.at == PageLocation::Parent);
        stats.pages_skipped_parent += in_parent.map(|run| run.pages).sum::<u64>();
        if let Some(mm) = &task.mm {
            for output in &mut outputs {
                output.set_lazy(|| super::outlet::lazy(&mm.vmas));
            }
        }
        let common = frames::merged(common, Vec::new());
        outputs[0].set_known(&common);
        drain::drain(&mut infected[index], &own, &mut outputs, &mut tally)?;
        let mut runs = Vec::new();
        for output in &mut outputs {
            output.finish()?;
            runs.extend(output.take_runs());
        }
        runs.sort_by_key(|run| run.start);
        drained.private.push(frames::merged(runs, common));
    }
    let mut shared_tally = Tally::default();
    drained.ghosts = facts.files.write_ghosts(writer)?;
    drained.shared = drain_shared(facts, (outlet, writer), next_id, &mut shared_tally)?;
    outlet.close()?;
    stats.memdump_us = super::micros(begin);
    stats.memwrite_us = stats.memdump_us;
    (stats.pages_scanned, stats.pages_written, stats.page_pipes) =
        (tally.scanned, tally.written, tally.pipes);
    (stats.shared_pages_scanned, stats.shared_pages_written) =
        (shared_tally.scanned, shared_tally.written);
    Ok(drained)
}

/// Has pages of these ranges, which ascend, left where they are instead of stored.
fn leave(parted: Parted, ranges: &[[u64; 2]]) -> Parted {
    let mut left = Parted {
        own: Vec::new(),
        common: parted.common,
    };
    for wanted in parted.own {
        let mut at = wanted.start;
        let first = ranges.partition_point(|range| range[1] <= at);
        let mut own = |start, end| {
            if start < end {
                left.own.push(Wanted {
                    start,
                    end,
                    ..wanted
                });
            }
        };
        for range in ranges[first..]
            .iter()
            .take_while(|range| range[0] < wanted.end)
        {
            own(at, range[0]);
            let (start, end) = (at.max(range[0]), range[1].min(wanted.end));
            left.common.push(PageRun {
                start,
                pages: (end - start) / PAGE_SIZE,
                at: PageLocation::Source,
            });
            at = end;
        }
        own(at, wanted.end);
    }
    left
}

/// Returns whether a process shares its address space with one before it.
fn has_space_of_another(tasks: &[TaskFacts], index: usize) -> bool {
    let vm = tasks[index].task.ids.vm;
    tasks[..index].iter().any(|facts| facts.task.ids.vm == vm)
}

/// A process by its place, and what it may have in common with its parent.
type Child = (usize, Vec<[u64; 2]>);

/// Finds what of each process is to be stored, what is as in its parent, where that may be said, and what is as in the set
/// before.
fn find(
    infected: &[Infected],
    facts: &mut Facts,
    (tracking, outlet): (&mut Tracking, &Outlet),
    may_share: bool,
) -> Result<Vec<Parted>, Error> {
    let mut children: BTreeMap<i32, Vec<Child>> = BTreeMap::new();
    let mut all: Vec<Parted> = Vec::new();
    let mut unwritten = Vec::new();
    for (index, infected) in infected.iter().enumerate() {
        let pid = infected.frozen().pid();
        let is_first = !has_space_of_another(&facts.tasks, index);
        if is_first
            && may_share
            && let Some((parent, ranges)) = inherit::with_parent(&tasks(facts), index)
        {
            children.entry(parent).or_default().push((index, ranges));
        }
        let facts = &mut facts.tasks[index];
        let mut parted = Parted::default();
        let mut its_unwritten = Vec::new();
        if let Some(mm) = facts.task.mm.as_mut().filter(|_| is_first) {
            // Before a look at what there is: what comes to be between the two counts as written.
            its_unwritten = tracking.unwritten(pid, &mm.vmas)?;
            let found = match facts.pages.take() {
                Some(pages) => pages,
                None => scan::pages(pid, &mm.vmas)?,
            };
            parted.own = select::select(&mut mm.vmas, &found);
        }
        all.push(parted);
        unwritten.push(its_unwritten);
    }
    for (parent, children) in children {
        let asked: Vec<frames::Child<'_>> = children
            .iter()
            .map(|(index, ranges)| frames::Child {
                pid: infected[*index].frozen().pid(),
                wanted: &all[*index].own,
                ranges,
            })
            .collect();
        let parted = frames::part(Pid(parent), &asked)?;
        for ((index, _), parted) in children.iter().zip(parted) {
            all[*index] = parted;
        }
    }
    for (parted, (infected, unwritten)) in all.iter_mut().zip(infected.iter().zip(unwritten)) {
        let pid = infected.frozen().pid();
        if unwritten.is_empty() || !outlet.has_parent(pid.0)? {
            continue;
        }
        let wanted = std::mem::take(&mut parted.own);
        let rest = tracking.part(pid, wanted, &unwritten);
        parted.own = rest.own;
        parted.common.extend(rest.parent);
    }
    Ok(all)
}

fn tasks(facts: &Facts) -> Vec<&Task> {
    facts.tasks.iter().map(|facts| &facts.task).collect()
}

/// Writes shared anonymous memory and memfds, each once, to its page file.
fn drain_shared(
    facts: &Facts,
    (outlet, writer): (&Outlet, &mut ImageWriter),
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
        let holder = Holder::Segment(id);
        let mut output = outlet.output(writer, holder, pages_id)?;
        memory::shared::copy(pid, &file, size, &mut output, tally)?;
        output.finish()?;
        shared.push(SharedMemory {
            id,
            size,
            pages: output.take_runs(),
        });
    }
    Ok(shared)
}
