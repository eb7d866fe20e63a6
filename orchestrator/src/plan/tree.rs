//! The programs of a whole tree: one member of the family after the other, each after its maker.
//!
//! All members meet four times: when all are born, when all are in their groups (helpers and the dead end then), when
//! everything that is shared has been made, and when it has been taken by everybody. A tree of one process meets nobody.

use std::collections::BTreeMap;

use super::arena::Arena;
use super::family::{Family, Kind};
use super::holes::Holes;
use super::host::TASK_SIZE;
use super::program::Builder;
use super::refusals::Report;
use super::sharing::Sharing;
use super::task::{self, Making, Meetings};
use super::{Clocks, Host, HostStep, Launch, Plan, Service, Settings, ThreadFinal};
use super::{registers, services, short_lived};
use crate::objects::signals::plan::is_stop;
use crate::snapshot::{Snapshot, Task, TaskState, Vma};

/// Plans the tree.
pub fn plan_tree(
    snapshot: &Snapshot,
    host: &Host,
    settings: &Settings,
    report: &mut Report,
) -> Option<Plan> {
    refuse_what_is_missing(snapshot, report);
    let family = Family::of(snapshot, report);
    report.task = snapshot.root().map_or(0, |root| root.pid);
    if !report.refusals.is_empty() {
        return None;
    }
    let mut holes = Holes::around(&all_areas(snapshot));
    let Some(base) = holes.take_arena() else {
        let reason = "it has no free gigabyte to restore from";
        report.refuse("address space", reason, "");
        return None;
    };
    let arena = Arena {
        base,
        blob_len: host.blob_len,
        contexts: family.contexts(),
    };
    let (services, above) = services::place(snapshot, host, report);
    let sharing = Sharing::of(snapshot, &family);
    let mut b = Builder::new(arena);
    let meetings = Meetings::of(&mut b, &family);
    let root = snapshot.root()?;
    let mut making = Making {
        snapshot,
        family: &family,
        sharing: &sharing,
        meetings,
        files: snapshot.files.iter().map(|file| (file.id, file)).collect(),
        pipes: snapshot
            .pipes
            .iter()
            .map(|pipe| (pipe.pipe_id, pipe))
            .collect(),
        host,
        settings,
        b,
        report,
        holes,
        above,
        made: BTreeMap::new(),
        masters: BTreeMap::new(),
        segments: BTreeMap::new(),
        births: BTreeMap::new(),
        own: task::Own::of(0, root, &services)?,
    };
    let mut finals = Vec::new();
    for (index, member) in family.members.iter().enumerate() {
        match member.kind {
            Kind::Living(place) => {
                let task = &snapshot.tasks[place];
                making.enter(task::Own::of(index, task, &services)?);
                task::plan_programs(&mut making);
                finals.extend(registers::plan_finals(place, task, host, making.report));
            }
            Kind::Zombie(place) => {
                let task = &snapshot.tasks[place];
                making.b.fds = Default::default();
                making.report.task = task.pid;
                short_lived::plan_dead(&mut making, index, task);
            }
            Kind::Helper => short_lived::plan_helper(&mut making, index),
        }
    }
    Some(finish(making, services, finals))
}

/// Returns the areas of all tasks, by address.
fn all_areas(snapshot: &Snapshot) -> Vec<Vma> {
    let spaces = snapshot.tasks.iter().filter_map(|task| task.mm.as_ref());
    let mut all: Vec<Vma> = spaces.flat_map(|mm| mm.vmas.iter().cloned()).collect();
    all.sort_by_key(|vma| vma.start);
    all
}

fn finish(m: Making<'_>, services: Vec<Service>, finals: Vec<ThreadFinal>) -> Plan {
    let (arena, snapshot) = (m.b.arena, m.snapshot);
    let launch = Launch {
        pid: snapshot.root().map_or(0, |root| root.pid),
        clocks: plan_clocks(snapshot, m.settings),
        services,
    };
    let stopped = snapshot.tasks.iter();
    let stopped = stopped.filter(|task| is_to_stop(task));
    let host_steps = stopped
        .map(|task| HostStep::Stop { pid: task.pid })
        .collect();
    let mut built = m.b.finish();
    let counts = built.programs.iter().map(|program| program.ops.len());
    let layout = arena.layout(built.data.len() as u64, counts);
    let end = arena.base + layout.len;
    if let Some(op) = built.programs.first_mut().and_then(|p| p.ops.get_mut(1)) {
        op.args[0] = end;
        op.args[1] = TASK_SIZE - end;
    }
    Plan {
        launch,
        arena,
        layout,
        programs: built.programs,
        data: built.data,
        objects: built.objects,
        finals,
        host_steps,
        not_kept: Vec::new(),
    }
}

/// Returns whether a task stood still, or was about to.
fn is_to_stop(task: &Task) -> bool {
    let of_threads = task.threads.iter().flat_map(|thread| &thread.pending);
    let mut pending = task.pending.iter().chain(of_threads);
    task.state == TaskState::Stopped || pending.any(is_stop)
}

fn plan_clocks(snapshot: &Snapshot, settings: &Settings) -> Option<Clocks> {
    let clocks = Clocks {
        monotonic_ns: snapshot.origin.monotonic_ns,
        boottime_ns: snapshot.origin.boottime_ns,
    };
    let is_known = clocks.monotonic_ns.is_some() || clocks.boottime_ns.is_some();
    (is_known && !settings.host_clocks).then_some(clocks)
}

fn refuse_what_is_missing(snapshot: &Snapshot, report: &mut Report) {
    let Some(root) = snapshot.root() else {
        return report.refuse("snapshot", "it has no task", "");
    };
    report.task = root.pid;
    if root.state == TaskState::Zombie {
        report.refuse("task", "it is dead; only its parent would see it", "");
    }
    let living = snapshot.tasks.iter();
    for task in living.filter(|task| task.state != TaskState::Zombie) {
        report.task = task.pid;
        if task.mm.is_none() || task.fs.is_none() {
            report.refuse("task", "its memory is not in the images", "");
        }
        if task.threads.first().map(|thread| thread.tid) != Some(task.pid) {
            report.refuse("threads", "the first is not the task's leader", "");
        }
    }
}
