//! The memory of a frozen tree, to page files.

use super::Error;
use super::collect::{Facts, TaskFacts};
use super::outlet::Outlet;
use super::tracking::Tracking;
use crate::image::{DumpStats, ImageWriter};
use crate::infect::{Infected, Parasite};
use crate::lazy::split;
use crate::memory::select::{Take, Wanted};
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
    /// The first page file: it was made before the tree stood still.
    pub first: Option<PageOutput>,
    /// Number of the next.
    pub next_id: u32,
}

/// Writes all memory to page files. Pages that a child has in common with its parent are stored once, and much memory goes to
/// two files, unless the set is to be `portable`; pages that the set before has are not stored: `unwritten` is what of each
/// process was not written since.
///
/// # Errors
/// Memory cannot be read, or a file not written.
pub fn drain_all(
    infected: &mut [Infected],
    facts: &mut Facts,
    drains: &mut Drains<'_>,
    unwritten: &[Vec<[u64; 2]>],
) -> Result<Drained, Error> {
    let begin = Instant::now();
    let mut drained = Drained::default();
    let mut tally = Tally::default();
    let own: Vec<Pid> = tasks(facts).iter().map(|task| Pid(task.pid)).collect();
    let parted = find(&own, facts, (drains, unwritten), Take::All)?;
    let all = tasks(facts);
    let ranges = all.iter().map(|task| match drains.lazy {
        true => split::ranges(task, &all),
        false => Vec::new(),
    });
    let ranges: Vec<Vec<[u64; 2]>> = ranges.collect();
    for (index, parted) in parted.into_iter().enumerate() {
        if has_space_of_another(&facts.tasks, index) {
            // Its pages are with the first of those who share them.
            drained.private.push(Vec::new());
            continue;
        }
        let parted = leave(parted, &ranges[index]);
        let task = &facts.tasks[index].task;
        let runs = drains.write(&mut infected[index], task, parted, &mut tally)?;
        drained.private.push(runs);
    }
    drains.shared(facts, &mut drained)?;
    drains.outlet.close()?;
    drains.count(&tally, begin);
    Ok(drained)
}

impl Drains<'_> {
    /// Begins the page files of a process whose pages are these.
    fn outputs(&mut self, task: &Task, own: &[Wanted]) -> Result<Vec<PageOutput>, Error> {
        let holder = || Holder::Task(task.pid as u32);
        let mut outputs = match self.first.take() {
            Some(pages) => vec![pages],
            None => vec![self.output(holder())?],
        };
        let is_file = outputs[0].fd().is_some();
        while is_file && !self.portable && outputs.len() < drain::lanes(own) {
            outputs.push(self.output(holder())?);
        }
        if let Some(mm) = &task.mm {
            for output in &mut outputs {
                output.set_lazy(|| super::outlet::lazy(&mm.vmas));
            }
        }
        Ok(outputs)
    }

    fn output(&mut self, holder: Holder) -> Result<PageOutput, Error> {
        let output = self.outlet.output(self.writer, holder, self.next_id)?;
        self.next_id += 1;
        Ok(output)
    }

    /// Writes the pages of a process, whose memory `host` has, and returns where all of them lie.
    pub(super) fn write(
        &mut self,
        host: &mut impl Parasite,
        task: &Task,
        Parted { own, common }: Parted,
        tally: &mut Tally,
    ) -> Result<Vec<PageRun>, Error> {
        let in_parent = common.iter().filter(|run| run.at == PageLocation::Parent);
        self.stats.pages_skipped_parent += in_parent.map(|run| run.pages).sum::<u64>();
        let mut outputs = self.outputs(task, &own)?;
        let common = frames::merged(common, Vec::new());
        outputs[0].set_known(&common);
        drain::drain(host, &own, &mut outputs, tally)?;
        let mut runs = Vec::new();
        for output in &mut outputs {
            output.finish()?;
            runs.extend(output.take_runs());
        }
        runs.sort_by_key(|run| run.start);
        Ok(frames::merged(runs, common))
    }

    /// Writes shared memory and deleted files.
    pub(super) fn shared(&mut self, facts: &mut Facts, drained: &mut Drained) -> Result<(), Error> {
        let mut tally = Tally::default();
        drained.ghosts = facts.files.write_ghosts(self.writer)?;
        drained.shared = self.drain_shared(facts, &mut tally)?;
        (
            self.stats.shared_pages_scanned,
            self.stats.shared_pages_written,
        ) = (tally.scanned, tally.written);
        Ok(())
    }

    pub(super) fn count(&mut self, tally: &Tally, begin: Instant) {
        let stats = &mut self.stats;
        stats.memdump_us = super::micros(begin);
        stats.memwrite_us = stats.memdump_us;
        (stats.pages_scanned, stats.pages_written, stats.page_pipes) =
            (tally.scanned, tally.written, tally.pipes);
    }
}

/// Returns what of each process was not written since the set before. Asked before a look at what there is: what comes to be
/// between the two counts as written.
pub(super) fn unwritten(
    facts: &Facts,
    tracking: &mut Tracking,
) -> Result<Vec<Vec<[u64; 2]>>, Error> {
    let mut all = Vec::new();
    for (index, facts_of) in facts.tasks.iter().enumerate() {
        let task = &facts_of.task;
        all.push(match &task.mm {
            Some(mm) if !has_space_of_another(&facts.tasks, index) => {
                tracking.unwritten(Pid(task.pid), &mm.vmas)?
            }
            _ => Vec::new(),
        });
    }
    Ok(all)
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
pub(super) fn has_space_of_another(tasks: &[TaskFacts], index: usize) -> bool {
    let vm = tasks[index].task.ids.vm;
    tasks[..index].iter().any(|facts| facts.task.ids.vm == vm)
}

/// A process by its place, and what it may have in common with its parent.
type Child = (usize, Vec<[u64; 2]>);

/// Finds what of each process is to be stored, what is as in its parent, where that may be said, and what is as in the set
/// before. Of each process the memory is looked at in the one that `views` names.
pub(super) fn find(
    views: &[Pid],
    facts: &mut Facts,
    (drains, unwritten): (&Drains<'_>, &[Vec<[u64; 2]>]),
    take: Take,
) -> Result<Vec<Parted>, Error> {
    // What a copy has not is no part of anybody else's.
    let may_share =
        !drains.portable && drains.outlet.takes_parents_pages() && take != Take::NotCopied;
    let mut children: BTreeMap<i32, Vec<Child>> = BTreeMap::new();
    let mut all: Vec<Parted> = Vec::new();
    for (index, &view) in views.iter().enumerate() {
        let is_first = !has_space_of_another(&facts.tasks, index);
        if is_first
            && may_share
            && let Some((parent, ranges)) = inherit::with_parent(&tasks(facts), index)
        {
            children.entry(parent).or_default().push((index, ranges));
        }
        let facts = &mut facts.tasks[index];
        let mut parted = Parted::default();
        if let Some(mm) = facts.task.mm.as_mut().filter(|_| is_first) {
            let found = match facts.pages.take() {
                Some(pages) => pages,
                None => scan::pages_of(view, &mm.vmas, take)?,
            };
            parted.own = select::select_of(&mut mm.vmas, &found, take);
        }
        all.push(parted);
    }
    for (parent, children) in children {
        let asked: Vec<frames::Child<'_>> = children
            .iter()
            .map(|(index, ranges)| frames::Child {
                pid: views[*index],
                wanted: &all[*index].own,
                ranges,
            })
            .collect();
        let place = facts
            .tasks
            .iter()
            .position(|facts| facts.task.pid == parent);
        let parent = place.map_or(Pid(parent), |place| views[place]);
        let parted = frames::part(parent, &asked)?;
        for ((index, _), parted) in children.iter().zip(parted) {
            all[*index] = parted;
        }
    }
    for (parted, (facts, unwritten)) in all.iter_mut().zip(facts.tasks.iter().zip(unwritten)) {
        let pid = Pid(facts.task.pid);
        if unwritten.is_empty() || !drains.outlet.has_parent(pid.0)? {
            continue;
        }
        let wanted = std::mem::take(&mut parted.own);
        let rest = drains.tracking.part(pid, wanted, unwritten);
        parted.own = rest.own;
        parted.common.extend(rest.parent);
    }
    Ok(all)
}

pub(super) fn tasks(facts: &Facts) -> Vec<&Task> {
    facts.tasks.iter().map(|facts| &facts.task).collect()
}

impl Drains<'_> {
    /// Writes shared anonymous memory and memfds, each once, to its page file.
    fn drain_shared(
        &mut self,
        facts: &Facts,
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
        for (id, pid, file) in all {
            let size = sys::file::statx(&file).map_err(Error::Own)?.size;
            let mut output = self.output(Holder::Segment(id))?;
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
}
