//! How the processes of a tree stand to each other: parents, sessions, groups, and what they share by clone flags.

use super::Error;
use super::collect::TaskFacts;
use crate::error::Refusal;
use crate::plan::Report;
use crate::plan::family::Family;
use crate::plan::joint;
use crate::procfs;
use crate::snapshot::{OpenFile, Origin, Snapshot, Task, TaskIds, TerminalInfo};
use crate::sys::Pid;
use crate::sys::fd::{Kcmp, kcmp};
use crate::tracee::Frozen;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// What processes can share by flags of `clone`, and the words for it.
const SHARED: [(Kcmp, &str); 4] = [
    (Kcmp::Vm, "address space"),
    (Kcmp::Files, "descriptor table"),
    (Kcmp::Fs, "working directory, root and umask"),
    (Kcmp::SigHand, "signal handlers"),
];

/// First id of a process's own: those of the caller are 1.
const FIRST_ID: u32 = 2;

/// Returns the ids of what processes have: the same where they share it. They are numbered by the first that has it.
pub fn ids(living: &[Frozen], namespaces: TaskIds) -> Vec<TaskIds> {
    let [vm, files, fs, sighand] = SHARED.map(|(what, _)| firsts(living, what));
    let one = |index: usize| TaskIds {
        vm: vm[index],
        files: files[index],
        fs: fs[index],
        sighand: sighand[index],
        ..namespaces
    };
    (0..living.len()).map(one).collect()
}

fn firsts(living: &[Frozen], what: Kcmp) -> Vec<u32> {
    // In the kernel's order, which is total and stays while they stand still. One that is killed meanwhile has no place in it,
    // and makes the dump fail later.
    let mut order: Vec<usize> = Vec::with_capacity(living.len());
    let mut ids = Vec::with_capacity(living.len());
    for (index, task) in living.iter().enumerate() {
        let compare = |&other: &usize| {
            let other = living[other].pid().leader();
            kcmp(other, task.pid().leader(), what)
        };
        let place = order.partition_point(|other| compare(other) == Ok(Ordering::Less));
        let next = order.get(place).copied();
        let first = next.filter(|other| compare(other) == Ok(Ordering::Equal));
        if first.is_none() {
            order.insert(place, index);
        }
        ids.push(first.unwrap_or(index) as u32 + FIRST_ID);
    }
    ids
}

/// Refuses what the root shares with its parent, which is outside.
pub fn refuse_shared_outside(root: &Frozen, refusals: &mut Vec<Refusal>) {
    let Ok(stat) = procfs::stat::read(root.pid()) else {
        return;
    };
    let (root, parent) = (root.pid().leader(), Pid(stat.ppid).leader());
    for (what, words) in SHARED {
        if stat.ppid != 0 && kcmp(root, parent, what) == Ok(Ordering::Equal) {
            refusals.push(Refusal {
                task: root.0,
                object: words.into(),
                reason: format!(
                    "it shares it with its parent {parent}, which is outside of what is dumped"
                ),
                remedy: format!("dump process {parent}"),
            });
        }
    }
}

/// Refuses descriptor tables that several share, where there are sockets in them.
pub fn refuse_shared_sockets(tasks: &[TaskFacts], files: &[OpenFile], refusals: &mut Vec<Refusal>) {
    let mut known = BTreeSet::new();
    for task in tasks.iter().map(|facts| &facts.task) {
        if !known.insert(task.ids.files) && joint::has_socket(&task.fds, files) {
            refusals.push(Refusal {
                task: task.pid,
                object: "descriptor table".into(),
                reason: joint::SOCKETS.into(),
                remedy: String::new(),
            });
        }
    }
}

/// Refuses what a restore could not make: by the rules of the restore itself, so that it is told while the target lives.
pub fn refuse_unborn(
    tasks: &[TaskFacts],
    dead: &[Task],
    (terminals, has_own_session): (&[TerminalInfo], bool),
    refusals: &mut Vec<Refusal>,
) {
    if tasks.len() + dead.len() < 2 {
        return;
    }
    // What births go by; memory is no part of it, and large.
    let light = |task: &Task| Task {
        pid: task.pid,
        ppid: task.ppid,
        pgid: task.pgid,
        sid: task.sid,
        state: task.state,
        ids: task.ids,
        exit_signal: task.exit_signal,
        threads: vec![Default::default()],
        ..Task::default()
    };
    let all = tasks.iter().map(|facts| &facts.task).chain(dead);
    let snapshot = Snapshot {
        tasks: all.map(light).collect(),
        terminals: terminals.to_vec(),
        origin: Origin {
            has_own_session,
            ..Origin::default()
        },
        ..Snapshot::default()
    };
    let mut report = Report::default();
    Family::of(&snapshot, &mut report);
    for refusal in report.refusals {
        let refusal = Refusal {
            task: refusal.task,
            object: refusal.object,
            reason: refusal.reason,
            remedy: refusal.remedy,
        };
        if !refusals.contains(&refusal) {
            refusals.push(refusal);
        }
    }
}

/// Returns whether a process has this number, dead or alive.
pub fn exists(pid: i32) -> bool {
    procfs::stat::read(Pid(pid)).is_ok()
}

/// Makes the root's parent nobody, and refuses sessions and groups that lie outside. Returns whether the session of the root,
/// whose leader has gone, is the tree's own.
pub fn settle(
    tasks: &mut [TaskFacts],
    dead: &[Task],
    shell_job: bool,
    refusals: &mut Vec<Refusal>,
) -> Result<bool, Error> {
    let Some((root_sid, root_pgid)) = tasks.first().map(|root| (root.task.sid, root.task.pgid))
    else {
        return Ok(false);
    };
    if let Some(root) = tasks.first_mut() {
        root.task.ppid = 0;
        root.task.exit_signal = None;
    }
    let all = || tasks.iter().map(|facts| &facts.task).chain(dead);
    let pids: BTreeSet<i32> = all().map(|task| task.pid).collect();
    let numbers = |task: &Task| [("session", task.sid), ("process group", task.pgid)];
    let outside: BTreeSet<i32> = all()
        .flat_map(numbers)
        .map(|(_, number)| number)
        .filter(|number| !pids.contains(number))
        .collect();
    // Who is of them; a leader that has gone is founded again by a helper, for which its number has to be nobody's.
    let mut theirs = BTreeMap::new();
    for &number in &outside {
        if let Some(who) = holder(number, &pids)? {
            theirs.insert(number, who);
        }
    }
    for task in all() {
        for (object, number) in numbers(task) {
            let is_callers = shell_job && [root_sid, root_pgid].contains(&number);
            if let Some(reason) = theirs.get(&number).filter(|_| !is_callers) {
                refusals.push(Refusal {
                    task: task.pid,
                    object: format!("{object} {number}"),
                    reason: reason.clone(),
                    remedy: match number == root_sid {
                        true => "start it with setsid, or use --shell-job".into(),
                        false => String::new(),
                    },
                });
            }
        }
    }
    Ok(outside.contains(&root_sid) && !theirs.contains_key(&root_sid))
}

/// Refuses threads with directories of their own where the peer is to restore them, which it does not, or where others have the
/// descriptors of their process too.
pub fn refuse_own_directories(tasks: &[TaskFacts], is_portable: bool, refusals: &mut Vec<Refusal>) {
    let shared = |ids: &TaskIds| {
        let all = tasks
            .iter()
            .filter(|other| other.task.ids.files == ids.files);
        all.count() > 1
    };
    for task in tasks.iter().map(|facts| &facts.task) {
        let (reason, remedy) = match shared(&task.ids) {
            true => ("others share the descriptors of its process", ""),
            false if is_portable => ("CRIU does not restore it", "dump without --portable"),
            false => continue,
        };
        let own = task.threads.iter().filter(|thread| thread.fs.is_some());
        refusals.extend(own.map(|thread| Refusal {
            task: task.pid,
            object: format!("working directory of thread {}", thread.tid),
            reason: format!("it has a directory, root and umask of its own, and {reason}"),
            remedy: remedy.into(),
        }));
    }
}

/// Refuses the root's own session without its leader in a set that the peer is to restore: it never ends that.
pub fn refuse_portable(root: &Task) -> Refusal {
    Refusal {
        task: root.pid,
        object: format!("session {}", root.sid),
        reason: "its leader has gone, and CRIU restores no such session".into(),
        remedy: "dump without --portable; or use --shell-job here and at the restore, which is into the caller's session".into(),
    }
}

/// Returns why the number of a session or group is taken by somebody who is not dumped; `None` where it is not.
fn holder(number: i32, pids: &BTreeSet<i32>) -> Result<Option<String>, Error> {
    if exists(number) {
        return Ok(Some("its leader is outside of what is dumped".into()));
    }
    for pid in procfs::tasks::processes()? {
        // One that ends meanwhile is of no session any more.
        if let (false, Ok(stat)) = (pids.contains(&pid.0), procfs::stat::read(pid))
            && [stat.session, stat.pgrp].contains(&number)
        {
            let reason = format!("process {pid}, which is outside of what is dumped, is of it too");
            return Ok(Some(reason));
        }
    }
    Ok(None)
}
