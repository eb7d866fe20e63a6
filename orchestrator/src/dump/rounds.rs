//! The pre-dump: a round that writes memory alone, while the tree runs on.
//!
//! The tree stands still to be listed, each process to be looked at where its tracker wants that, and no longer: pages are read
//! from the running processes. What they write meanwhile is for the next round, as is what could not be read. Which of a child's
//! pages are its parent's at the time is not stored, and not taken for stored by the next round.

use super::outlet::{Destination, Outlet};
use super::tracking::Tracking;
use super::{Error, Failure, Settings, micros, process, put_back, relations, untouched};
use crate::error::Refusals;
use crate::image::{DumpStats, ImageWriter, PreDumpMode};
use crate::memory::dirty::live::LiveMemory;
use crate::memory::frames;
use crate::memory::output::PageOutput;
use crate::memory::{Tally, scan, select};
use crate::plan::inherit;
use crate::procfs::{self, smaps};
use crate::snapshot::{FileId, Mm, PageRun, Snapshot, Task, Vma, VmaKind};
use crate::stages::Stage;
use crate::sys::Pid;
use crate::sys::signal::SignalsBlocked;
use crate::tracee::{self, Frozen, Tree};
use crate::wire::protocol::Holder;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

/// One process of a round.
#[derive(Debug)]
struct Member {
    pid: Pid,
    ppid: i32,
    vmas: Vec<Vma>,
    memory: LiveMemory,
    unwritten: Option<Vec<[u64; 2]>>,
}

/// Writes the memory of a process tree, as far as it changed since the set before, into the folder `dir`.
///
/// # Errors
/// With the word what became of the target.
pub fn pre_dump(settings: &Settings, mode: PreDumpMode, dir: &Path) -> Result<DumpStats, Failure> {
    let quiet = SignalsBlocked::new().map_err(|error| untouched(Error::Own(error)))?;
    let dumped = pre_dump_tree(settings, mode, dir);
    drop(quiet);
    dumped.map_err(|failure| failure.checked(settings.pid))
}

fn pre_dump_tree(settings: &Settings, mode: PreDumpMode, dir: &Path) -> Result<DumpStats, Failure> {
    settings
        .stages
        .reached(Stage::PreDump, Some(settings.pid))
        .map_err(untouched)?;
    let opened = Outlet::open(
        Destination::Folder(dir),
        (settings.page_server.as_ref(), None),
        true,
    );
    let (mut writer, outlet) = opened.map_err(untouched)?;
    let early = process::refuse_early(settings.pid, true);
    let early = early.map_err(|error| untouched(super::missing(error, settings.pid)))?;
    Refusals(early).into_result().map_err(untouched)?;
    let tracking = Tracking::prepare(settings.pid, &settings.rounds, dir);
    let mut tracking = tracking.map_err(untouched)?;
    writer.set_parent(tracking.link()).map_err(untouched)?;
    let first = outlet.output(&mut writer, Holder::Task(settings.pid.0 as u32), 1);
    let first = first.map_err(untouched)?;
    let seize = Instant::now();
    let tree = tracee::freeze_tree(
        settings.pid,
        settings.timeout,
        settings.freeze_cgroup.as_deref(),
    )
    .map_err(untouched)?;
    let mut stats = DumpStats {
        freezing_us: micros(seize),
        ..DumpStats::default()
    };
    let frozen_at = Instant::now();
    let mut members = look_at(tree, &mut tracking).map_err(put_back)?;
    stats.frozen_us = micros(frozen_at);
    let begin = Instant::now();
    let snapshot = write_all(
        &mut members,
        &mut tracking,
        settings.portable,
        (&mut writer, &outlet, first),
        &mut stats,
    );
    let mut snapshot = snapshot.map_err(put_back)?;
    stats.memdump_us = micros(begin);
    stats.memwrite_us = stats.memdump_us;
    snapshot.origin.run_id = Some(tracking.run_id.clone());
    outlet.close().map_err(put_back)?;
    writer
        .finish_memory(&snapshot, &stats, mode)
        .map_err(put_back)?;
    tracking.finish();
    if settings.rounds.dedup && !outlet.is_elsewhere() {
        super::take_out_superseded(dir);
    }
    tracing::info!("pre-dumped, {} us frozen", stats.frozen_us);
    Ok(stats)
}

/// Does what needs the tree to stand still, and lets it go.
fn look_at(mut tree: Tree, tracking: &mut Tracking) -> Result<Vec<Member>, Error> {
    let ids = relations::ids(&tree.living, super::process::namespace_ids());
    let mut spaces = BTreeSet::new();
    let mut members = Vec::new();
    for (frozen, ids) in tree.living.iter_mut().zip(ids) {
        let pid = frozen.pid();
        if !spaces.insert(ids.vm) {
            let refusal = crate::error::Refusal {
                task: pid.0,
                object: "address space".into(),
                reason: "another process shares it, whose memory is not dumped in rounds yet"
                    .into(),
                remedy: "dump it at once".into(),
            };
            return Err(Refusals(vec![refusal]).into());
        }
        let areas = smaps::read_maps(pid)?;
        tracking.take_up(frozen, &areas)?;
        let vmas = private_areas(&areas);
        let unwritten = match tracking.sees_running(pid) {
            true => None,
            false => Some(tracking.unwritten(pid, &vmas)?),
        };
        members.push(Member {
            pid,
            ppid: procfs::stat::read(pid)?.ppid,
            vmas,
            memory: LiveMemory::open(pid)?,
            unwritten,
        });
    }
    tree.living.into_iter().for_each(Frozen::release);
    Ok(members)
}

/// Returns the areas whose pages a round may store. `maps` says less than `smaps`, and needs no walk over all pages: what the
/// dump will not keep is stored in vain, and what is not known here is left to the dump.
fn private_areas(areas: &smaps::Areas) -> Vec<Vma> {
    let kind_of = |area: &smaps::Vma| match areas.path(area).as_ref() {
        _ if area.shared => None,
        b"[heap]" => Some(VmaKind::Heap),
        b"[stack]" => Some(VmaKind::Stack),
        b"" => Some(VmaKind::Anonymous),
        name if name.starts_with(b"[anon:") => Some(VmaKind::Anonymous),
        name if name.starts_with(b"/anon_hugepage") || name.starts_with(b"/[aio]") => None,
        name if name.starts_with(b"/") => Some(VmaKind::FilePrivate(FileId(0))),
        _ => None,
    };
    let vma = |area: &smaps::Vma| {
        Some(Vma {
            offset: area.offset,
            ..Vma::new(
                [area.start, area.end],
                area.prot,
                libc::MAP_PRIVATE as u32,
                kind_of(area)?,
            )
        })
    };
    areas.vmas.iter().filter_map(vma).collect()
}

fn write_all(
    members: &mut [Member],
    tracking: &mut Tracking,
    portable: bool,
    (writer, outlet, first): (&mut ImageWriter, &Outlet, PageOutput),
    stats: &mut DumpStats,
) -> Result<Snapshot, Error> {
    let mut snapshot = Snapshot::default();
    let mut tally = Tally::default();
    let mut first = Some(first);
    for index in 0..members.len() {
        let common = match portable || !outlet.takes_parents_pages() {
            true => None,
            false => common_with_parent(members, index),
        };
        let id = index as u32 + 1;
        let member = &mut members[index];
        let mut output = match first.take() {
            Some(first) => first,
            None => outlet.output(writer, Holder::Task(member.pid.0 as u32), id)?,
        };
        output.set_lazy(|| super::outlet::lazy(&member.vmas));
        let mut round = Round {
            tracking,
            outlet,
            output: &mut output,
            tally: &mut tally,
            stats,
        };
        // One that ended meanwhile has nothing left to store.
        let pages = match round.write(member, common) {
            Err(error) if is_gone(member.pid) => {
                tracing::debug!("process {} ended: {error}", member.pid);
                Vec::new()
            }
            written => written?,
        };
        snapshot.tasks.push(Task {
            pid: member.pid.0,
            ppid: member.ppid,
            mm: Some(Mm {
                vmas: std::mem::take(&mut member.vmas),
                pages,
                ..Mm::default()
            }),
            ..Task::default()
        });
    }
    (stats.pages_scanned, stats.pages_written) = (tally.scanned, tally.written);
    Ok(snapshot)
}

fn is_gone(pid: Pid) -> bool {
    procfs::stat::read(pid).map_or(true, |stat| stat.is_ending())
}

/// Returns the parent of a process, if it may share pages with it, and the ranges that both have.
fn common_with_parent(members: &[Member], index: usize) -> Option<(Pid, Vec<[u64; 2]>)> {
    let child = &members[index];
    let parent = members[..index]
        .iter()
        .find(|other| other.pid.0 == child.ppid)?;
    let common = inherit::common(&parent.vmas, &child.vmas);
    let ranges: Vec<[u64; 2]> = common.iter().map(|one| [one.start, one.end]).collect();
    (!ranges.is_empty()).then_some((parent.pid, ranges))
}

/// The writing of one process.
struct Round<'a> {
    tracking: &'a mut Tracking,
    outlet: &'a Outlet,
    output: &'a mut PageOutput,
    tally: &'a mut Tally,
    stats: &'a mut DumpStats,
}

impl Round<'_> {
    fn write(
        &mut self,
        member: &mut Member,
        common: Option<(Pid, Vec<[u64; 2]>)>,
    ) -> Result<Vec<PageRun>, Error> {
        let pid = member.pid;
        let unwritten = match member.unwritten.take() {
            Some(unwritten) => unwritten,
            None => self.tracking.unwritten(pid, &member.vmas)?,
        };
        let found = scan::pages(pid, &member.vmas)?;
        let mut wanted = select::select(&mut member.vmas, &found);
        let mut elsewhere = Vec::new();
        if let Some((parent, ranges)) = common {
            let child = frames::Child {
                pid,
                wanted: &wanted,
                ranges: &ranges,
            };
            if let Some(parted) = frames::part(parent, &[child])?.pop() {
                (wanted, elsewhere) = (parted.own, parted.common);
            }
        }
        let unwritten = match unwritten.is_empty() || !self.outlet.has_parent(pid.0)? {
            true => Vec::new(),
            false => unwritten,
        };
        let parted = self.tracking.part(pid, wanted, &unwritten);
        let skipped: u64 = parted.parent.iter().map(|run| run.pages).sum();
        self.stats.pages_skipped_parent += skipped;
        elsewhere.extend(parted.parent);
        let elsewhere = frames::merged(elsewhere, Vec::new());
        self.output.set_known(&elsewhere);
        for run in &parted.own {
            member.memory.copy(run, self.output, self.tally)?;
        }
        self.output.finish()?;
        Ok(frames::merged(self.output.take_runs(), elsewhere))
    }
}
