//! How the processes of a tree stand to each other: parents, sessions, groups, and what they share by clone flags.

use super::collect::TaskFacts;
use crate::error::Refusal;
use crate::procfs;
use crate::snapshot::Task;
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

/// Refuses what processes share that are no threads of one another.
pub fn refuse_shared(living: &[&Frozen], refusals: &mut Vec<Refusal>) {
    for (what, words) in SHARED {
        // In the kernel's order, which is total and stays while they stand still. One that is killed meanwhile has no place in it,
        // and makes the dump fail later.
        let mut order: Vec<&Frozen> = Vec::with_capacity(living.len());
        for &task in living {
            let compare = |other: &Frozen| kcmp(other.pid().leader(), task.pid().leader(), what);
            let place = order.partition_point(|other| compare(other) == Ok(Ordering::Less));
            let next = order.get(place).copied();
            if let Some(other) = next.filter(|other| compare(other) == Ok(Ordering::Equal)) {
                refusals.push(Refusal {
                    task: task.pid().0,
                    object: words.into(),
                    reason: format!(
                        "it shares it with process {} (by a flag of clone, or vfork), which is not kept yet",
                        other.pid()
                    ),
                    remedy: String::new(),
                });
            }
            order.insert(place, task);
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
