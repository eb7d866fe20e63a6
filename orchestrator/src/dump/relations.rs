//! How the processes of a tree stand to each other: parents, sessions, groups, and what they share by clone flags.

use super::collect::TaskFacts;
use crate::error::Refusal;
use crate::plan::Report;
use crate::plan::family::Family;
use crate::plan::joint;
use crate::procfs;
use crate::snapshot::{OpenFile, Snapshot, Task, TaskIds, TerminalInfo};
use crate::sys::Pid;
use crate::sys::fd::{Kcmp, kcmp};
use crate::tracee::Frozen;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// What processes can share by flags of `clone`, and the words for it.
const SHARED: [(Kcmp, &str); 4] = [
    (Kcmp::Vm, "address space"),
    (Kcmp::Files, "descriptor table"),
    (Kcmp::Fs, "working directory, root and umask"),
    (Kcmp::SigHand, "signal handlers"),
];

/// Id of an IPC namespace that is the tree's own: those of the caller are below.
const OWN_IPC: u32 = 9;
/// First id of a process's own: those of the caller are 1.
const FIRST_ID: u32 = 2;

/// Returns the ids of what processes have: the same where they share it. They are numbered by the first that has it.
pub fn ids(living: &[Frozen]) -> Vec<TaskIds> {
    let [vm, files, fs, sighand] = SHARED.map(|(what, _)| firsts(living, what));
    let root = living[0].pid();
    let namespaces = super::process::namespace_ids();
    let ipc_ns = match super::ipc::is_own(root) {
        true => OWN_IPC,
        false => namespaces.ipc_ns,
    };
    let one = |index: usize| TaskIds {
        ipc_ns,
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
    terminals: &[TerminalInfo],
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

fn exists(pid: i32) -> bool {
    procfs::stat::read(Pid(pid)).is_ok()
}

/// Makes the root's parent nobody, and refuses sessions and groups that lie outside.
pub fn settle(
    tasks: &mut [TaskFacts],
    dead: &[Task],
    shell_job: bool,
    refusals: &mut Vec<Refusal>,
) {
    let Some((root_sid, root_pgid)) = tasks.first().map(|root| (root.task.sid, root.task.pgid))
    else {
        return;
    };
    if let Some(root) = tasks.first_mut() {
        root.task.ppid = 0;
        root.task.exit_signal = None;
    }
    let all = || tasks.iter().map(|facts| &facts.task).chain(dead);
    let pids: BTreeSet<i32> = all().map(|task| task.pid).collect();
    for task in all().skip(1) {
        let mut refuse = |object: String, reason: &str| {
            refusals.push(Refusal {
                task: task.pid,
                object,
                reason: reason.into(),
                remedy: String::new(),
            });
        };
        // What has lost its leader is founded again by a helper.
        let is_outside = !pids.contains(&task.sid) && exists(task.sid);
        if is_outside && !(shell_job && task.sid == root_sid) {
            let reason = "its leader is outside of what is dumped";
            refuse(format!("session {}", task.sid), reason);
        }
        let is_outside = !pids.contains(&task.pgid) && exists(task.pgid);
        if is_outside && !(shell_job && task.pgid == root_pgid) {
            let reason = "its leader is outside of what is dumped";
            refuse(format!("process group {}", task.pgid), reason);
        }
    }
}
