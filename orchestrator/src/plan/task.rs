//! The order of a task's program, as a table of contents.
//!
//! Why this order: an operation that takes a right away from the task, or lets time run for it, comes after all that need
//! the right or take time. Descriptors come before memory, as mappings are made from them; memory before `mm`, whose
//! addresses the kernel checks against mappings; all that is shared by threads before the threads; what threads inherit
//! wrongly from the root after they are made. Then all meet, the clocks of timers start, each gives up its privileges,
//! all meet again, and what a change of credentials resets is set.

use std::collections::{BTreeMap, BTreeSet};

use super::arena::Arena;
use super::fill;
use super::holes::Holes;
use super::host::TASK_SIZE;
use super::program::{Builder, Object};
use super::refusals::Report;
use super::{Clocks, Host, HostStep, Launch, Plan, Service, Settings};
use super::{descriptors, memory, mm, process, registers, threads, vdso};
use crate::snapshot::{FileId, Fs, Mm, OpenFile, PipeBuffer, Snapshot, Task, TaskState};

/// A task whose program is being made, and what was decided so far.
#[derive(Debug)]
pub struct Making<'a> {
    /// All of the snapshot.
    pub snapshot: &'a Snapshot,
    /// Its open file descriptions by id: a task may have tens of thousands.
    pub files: BTreeMap<FileId, &'a OpenFile>,
    /// Content of pipes by their ids.
    pub pipes: BTreeMap<u32, &'a PipeBuffer>,
    /// The task.
    pub task: &'a Task,
    /// Its address space.
    pub mm: &'a Mm,
    /// Its working directory, root and umask.
    pub fs: &'a Fs,
    /// The machine.
    pub host: &'a Host,
    /// The user's choice.
    pub settings: &'a Settings,
    /// Where the operations go.
    pub b: Builder,
    /// Where refusals go.
    pub report: &'a mut Report,
    /// Free address space.
    pub holes: Holes,
    /// Descriptors of the page files, by ID.
    pub services: BTreeMap<u32, i32>,
    /// First number above all descriptors of the snapshot and all services: temporaries live from here on.
    pub above: i32,
    /// Descriptor that refers to an open file description, for those that are made.
    pub placed: BTreeMap<FileId, i32>,
    /// Temporary descriptor of each memfd's inode.
    pub memfds: BTreeMap<u32, i32>,
    /// Memfds whose first description has been made.
    pub memfds_given: BTreeSet<u32>,
}

/// Plans the tree: today its root task with all its threads.
pub fn plan_tree(
    snapshot: &Snapshot,
    host: &Host,
    settings: &Settings,
    report: &mut Report,
) -> Option<Plan> {
    let Some(task) = snapshot.root() else {
        report.refuse("snapshot", "it has no task", "");
        return None;
    };
    report.task = task.pid;
    refuse_what_is_missing(snapshot, report);
    let (Some(mm), Some(fs)) = (&task.mm, &task.fs) else {
        report.refuse("task", "it is dead, or its memory is not in the images", "");
        return None;
    };
    let mut holes = Holes::around(&mm.vmas);
    let Some(base) = holes.take_arena() else {
        report.refuse(
            "address space",
            "it has no free gigabyte to restore from",
            "",
        );
        return None;
    };
    let arena = Arena {
        base,
        blob_len: host.blob_len,
        contexts: task.threads.len() as u32,
    };
    let (services, above) = place_services(snapshot, task, host, report);
    let mut making = Making {
        snapshot,
        files: snapshot.files.iter().map(|file| (file.id, file)).collect(),
        pipes: snapshot
            .pipes
            .iter()
            .map(|pipe| (pipe.pipe_id, pipe))
            .collect(),
        task,
        mm,
        fs,
        host,
        settings,
        b: Builder::new(arena),
        report,
        holes,
        services: services.iter().map(|s| (s.pages_id, s.fd)).collect(),
        above,
        placed: BTreeMap::new(),
        memfds: BTreeMap::new(),
        memfds_given: BTreeSet::new(),
    };
    plan_programs(&mut making);
    let finals = registers::plan_finals(task, host, making.report);
    Some(finish(making, services, finals))
}

/// Makes the programs of all threads of the task. The order is this file's subject.
fn plan_programs(m: &mut Making<'_>) {
    let meetings = [m.b.put_words(&[0]), m.b.put_words(&[0])];
    clear_address_space(m);
    process::plan_session(m);
    process::plan_room(m);
    process::plan_early(m);
    descriptors::plan_all(m);
    let vdso = vdso::plan_vdso(m);
    memory::plan_memory(m, &vdso);
    descriptors::plan_cleanup(m);
    mm::plan_mm(m);
    process::plan_attributes(m);
    process::plan_fs(m);
    threads::plan_clones(m);
    for (index, thread) in m.task.threads.iter().enumerate() {
        let is_leader = index == 0;
        threads::plan_own(m, thread);
        threads::plan_meeting(m, meetings[0]);
        if is_leader {
            process::plan_signals_and_timers(m);
            descriptors::plan_owners(m);
            descriptors::plan_terminal(m);
            process::plan_limits(m);
        }
        threads::plan_pending(m, thread);
        threads::plan_privileges(m, thread);
        threads::plan_meeting(m, meetings[1]);
        if is_leader {
            process::plan_dumpable(m);
            process::plan_clocks_start(m);
        }
        threads::plan_last(m, thread);
        m.b.finish_program(thread.tid);
    }
}

/// Unmaps all that the launch left around the arena. The vsyscall page is no mapping, and stays.
fn clear_address_space(m: &mut Making<'_>) {
    let base = m.b.arena.base;
    m.b.object(Object::Task("address space of the launch"));
    m.b.call_returns(libc::SYS_munmap, &[0, base], 0);
    // Where the arena ends is known when all is planned: see `finish`.
    m.b.call_returns(libc::SYS_munmap, &[base, 0], 0);
}

fn finish(m: Making<'_>, services: Vec<Service>, finals: Vec<super::ThreadFinal>) -> Plan {
    let arena = m.b.arena;
    let launch = Launch {
        pid: m.task.pid,
        clocks: plan_clocks(m.snapshot, m.settings),
        services,
    };
    let host_steps = match m.task.state {
        TaskState::Stopped => vec![HostStep::Stop { pid: m.task.pid }],
        _ => Vec::new(),
    };
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

fn plan_clocks(snapshot: &Snapshot, settings: &Settings) -> Option<Clocks> {
    let clocks = Clocks {
        monotonic_ns: snapshot.origin.monotonic_ns,
        boottime_ns: snapshot.origin.boottime_ns,
    };
    let is_known = clocks.monotonic_ns.is_some() || clocks.boottime_ns.is_some();
    (is_known && !settings.host_clocks).then_some(clocks)
}

/// Least number of a service descriptor: above what most programs have, and within the table of 256 that bash leaves to
/// its children, so that the restored one need not be larger.
const SERVICES_FROM: i32 = 200;
/// `RLIMIT_NOFILE`.
const RLIMIT_NOFILE: usize = 7;
/// Most temporaries at one time: both ends of a pipe, memfds, and one at work.
const TEMPORARIES: i32 = 8;

/// Chooses the numbers of the page files' descriptors, and the first number for temporaries.
fn place_services(
    snapshot: &Snapshot,
    task: &Task,
    host: &Host,
    report: &mut Report,
) -> (Vec<Service>, i32) {
    let highest = task.fds.iter().map(|entry| entry.fd).max().unwrap_or(-1);
    let limit = host.rlimits[RLIMIT_NOFILE].hard.min(i32::MAX as u64) as i32;
    let ids = fill::page_files(snapshot);
    let needed = ids.len() as i32 + snapshot.memfds.len() as i32 + TEMPORARIES;
    let first = (highest + 1).max(SERVICES_FROM.min(limit.saturating_sub(needed)));
    if first.saturating_add(needed) > limit {
        report.refuse(
            format!("descriptor {highest}"),
            format!(
                "with {needed} more to restore it, it is above this process's limit of {limit}"
            ),
            "raise RLIMIT_NOFILE (ulimit -Hn) and try again",
        );
    }
    let services: Vec<Service> = ids
        .into_iter()
        .zip(first..)
        .map(|(pages_id, fd)| Service { fd, pages_id })
        .collect();
    let above = first.saturating_add(services.len() as i32);
    (services, above)
}

fn refuse_what_is_missing(snapshot: &Snapshot, report: &mut Report) {
    for task in snapshot.tasks.iter().skip(1) {
        report.refuse(
            format!("child {}", task.pid),
            "process trees are not restored yet",
            "",
        );
    }
    for task in snapshot.tasks.iter().take(1) {
        if task.state == TaskState::Zombie {
            report.refuse("task", "it is dead; only its parent would see it", "");
        }
        if task.threads.first().map(|thread| thread.tid) != Some(task.pid) {
            report.refuse("threads", "the first is not the task's leader", "");
        }
    }
}
