//! By which signal a process that stood still is stopped again: its parent is told (`WSTOPSIG`).

use crate::snapshot::{Snapshot, Task, TaskState};

/// Returns the signal that stopped a task, where that stops it again. SIGSTOP always does. The others do unless they have a
/// handler, or nobody is there to continue the process: no parent of one of its group is of another group of the same session
/// (`is_current_pgrp_orphaned`, `kernel/exit.c`).
pub fn signal(snapshot: &Snapshot, task: &Task) -> i32 {
    let recorded = task.stop_signal.unwrap_or(0) as i32;
    let is_of_terminals = matches!(recorded, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU);
    let has_default = usize::try_from(recorded - 1)
        .ok()
        .and_then(|index| task.sigactions.get(index))
        .is_some_and(|action| action.handler == 0);
    match is_of_terminals && has_default && !is_orphaned(snapshot, task) {
        true => recorded,
        false => libc::SIGSTOP,
    }
}

/// Returns whether no living process of the tree could continue the group of a task.
fn is_orphaned(snapshot: &Snapshot, task: &Task) -> bool {
    let living = || {
        let all = snapshot.tasks.iter();
        all.filter(|task| task.state != TaskState::Zombie)
    };
    let mut group = living().filter(|member| (member.pgid, member.sid) == (task.pgid, task.sid));
    !group.any(|member| {
        let parent = living().find(|parent| parent.pid == member.ppid);
        parent.is_some_and(|parent| parent.sid == member.sid && parent.pgid != member.pgid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::SigAction;

    fn task(pid: i32, ppid: i32, pgid: i32, stop_signal: i32) -> Task {
        Task {
            pid,
            ppid,
            pgid,
            sid: 1,
            state: TaskState::Stopped,
            stop_signal: Some(stop_signal as u32),
            sigactions: vec![SigAction::default(); 64],
            ..Task::default()
        }
    }

    #[test]
    fn the_stop_of_a_job_is_that_of_its_terminal() {
        let stop = |pgid, stop_signal| {
            let tasks = vec![task(1, 0, 1, 0), task(2, 1, pgid, stop_signal)];
            let snapshot = Snapshot {
                tasks,
                ..Snapshot::default()
            };
            signal(&snapshot, &snapshot.tasks[1])
        };
        assert_eq!(stop(2, libc::SIGTSTP), libc::SIGTSTP);
        assert_eq!(stop(2, libc::SIGTTOU), libc::SIGTTOU);
        assert_eq!(stop(2, libc::SIGSTOP), libc::SIGSTOP);
        assert_eq!(stop(2, libc::SIGUSR1), libc::SIGSTOP);
        // Nobody outside of its group.
        assert_eq!(stop(1, libc::SIGTSTP), libc::SIGSTOP);
    }
}
