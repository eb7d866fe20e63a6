//! The programs of a whole tree: one member of the family after the other, each after its maker.
//!
//! All members meet four times: when all are born, when all are in their groups (helpers and the dead end then), when
//! everything that is shared has been made, and when it has been taken by everybody. A tree of one process meets nobody.

use std::collections::BTreeMap;

use super::arena::Arena;
use super::family::{Family, Kind};
use super::holes::Holes;
use super::host::TASK_SIZE;
use super::joint::{Joint, SPACE, Turns};
use super::program::Builder;
use super::readers::Readers;
use super::refusals::Report;
use super::sharing::Sharing;
use super::sockets::{Script, SocketFiles};
use super::task::{self, Making, Meetings};
use super::{Clocks, Host, HostStep, Launch, Plan, Service, Settings, ThreadFinal};
use super::{pidfds, registers, services, short_lived};
use crate::objects::signals::plan::is_stop;
use crate::snapshot::{FileKind, OpenFile, Snapshot, Task, TaskState, Vma};

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
    let departed = pidfds::departed(snapshot);
    let others = family.contexts() + departed.len() as u32;
    let readers = Readers::of(snapshot, &family, host, others);
    let arena = Arena {
        base,
        blob_len: host.blob_len,
        contexts: others + readers.contexts(),
    };
    let mut script = Script::of(snapshot, &family, host, report);
    let (services, first) = services::place(snapshot, host, script.numbers, report);
    let above = first.saturating_add(script.numbers);
    let joint = Joint::of(snapshot, &family);
    joint.refuse_sockets(snapshot, &family, report);
    let sharing = Sharing::of(snapshot, &family, &joint, &script);
    let mut b = Builder::new(arena);
    script.place(first, &mut b);
    let meetings = Meetings::of(&mut b, snapshot, &family, joint.is_any());
    let root = snapshot.root()?;
    let mut making = Making {
        snapshot,
        family: &family,
        sharing: &sharing,
        script: &script,
        joint: &joint,
        turns: Turns::default(),
        meetings,
        files: snapshot.files.iter().map(|file| (file.id, file)).collect(),
        sockets: sockets(snapshot),
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
        made: script.where_made(&family),
        masters: BTreeMap::new(),
        departed,
        endings: BTreeMap::new(),
        segments: BTreeMap::new(),
        ptys: BTreeMap::new(),
        readers,
        births: BTreeMap::new(),
        lazy: Vec::new(),
        queues: Vec::new(),
        own: task::Own::of(0, root, &services)?,
    };
    let mut finals = Vec::new();
    for (index, member) in family.members.iter().enumerate() {
        match member.kind {
            Kind::Living(place) => {
                let task = &snapshot.tasks[place];
                making.enter(task::Own::of(index, task, &services)?);
                task::plan_programs(&mut making);
                let all = registers::plan_finals(place, task, host, making.report);
                let has_own = !joint.follows(index, SPACE);
                finals.extend(all.into_iter().map(|last| ThreadFinal {
                    unmaps: has_own && last.is_leader(),
                    ..last
                }));
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
    pidfds::plan_departed(&mut making);
    let mut plan = finish(making, services, finals);
    plan.socket_files = script.files;
    Some(plan)
}

/// Returns the Unix sockets, by inode.
fn sockets(snapshot: &Snapshot) -> BTreeMap<u32, &OpenFile> {
    let sockets = snapshot.files.iter().filter_map(|file| match &file.kind {
        FileKind::Unix(socket) => Some((socket.ino, file)),
        _ => None,
    });
    sockets.collect()
}

/// Returns the areas of all tasks, by address.
fn all_areas(snapshot: &Snapshot) -> Vec<Vma> {
    let spaces = snapshot.tasks.iter().filter_map(|task| task.mm.as_ref());
    let mut all: Vec<Vma> = spaces.flat_map(|mm| mm.vmas.iter().cloned()).collect();
    all.sort_by_key(|vma| vma.start);
    all
}

fn finish(mut m: Making<'_>, services: Vec<Service>, finals: Vec<ThreadFinal>) -> Plan {
    let (arena, snapshot) = (m.b.arena, m.snapshot);
    let launch = Launch {
        pid: snapshot.root().map_or(0, |root| root.pid),
        session: m.family.founded(),
        clocks: plan_clocks(snapshot, m.settings),
        has_own_ipc: snapshot.ipc.is_some(),
        has_own_network: snapshot.network.is_some(),
        services,
    };
    let stopped = snapshot.tasks.iter();
    let stopped = stopped.filter(|task| is_to_stop(task));
    let host_steps = stopped
        .map(|task| HostStep::Stop {
            pid: task.pid,
            signal: super::stops::signal(snapshot, task),
        })
        .collect();
    m.readers.finish(&mut m.b);
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
        confinement: m.meetings.traced,
        objects: built.objects,
        finals,
        host_steps,
        not_kept: Vec::new(),
        socket_files: SocketFiles::default(),
        lazy: m.lazy,
        queues: m.queues,
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
