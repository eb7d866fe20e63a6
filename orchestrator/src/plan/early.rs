//! Children that were born before their parent began a session of its own, and are of the one that it was in before.

use crate::snapshot::{Snapshot, Task, TaskState};
use std::collections::{BTreeMap, BTreeSet};

/// Most generations in which each has begun a session of its own.
const MAX_GENERATIONS: usize = 64;

/// Returns the pids of those whose parent makes them before it begins its session.
pub fn before_sessions(snapshot: &Snapshot) -> BTreeSet<i32> {
    let tasks: BTreeMap<i32, &Task> = snapshot.tasks.iter().map(|t| (t.pid, t)).collect();
    let mut early = BTreeSet::new();
    for task in &snapshot.tasks {
        early.extend(chain(task, &tasks).unwrap_or_default());
    }
    early
}

/// Returns a task and those of its ancestors that all have to be made so for it to be born into its session; none where that
/// is not the way.
fn chain(task: &Task, tasks: &BTreeMap<i32, &Task>) -> Option<Vec<i32>> {
    let parent = tasks.get(&task.ppid)?;
    if task.sid == task.pid || task.sid == parent.sid {
        return None;
    }
    let mut chain = Vec::new();
    let (mut child, mut parent) = (task, *parent);
    for _ in 0..MAX_GENERATIONS {
        // Only the living make children before they begin a session.
        if parent.sid != parent.pid || parent.state == TaskState::Zombie {
            return None;
        }
        chain.push(child.pid);
        let grandparent = *tasks.get(&parent.ppid)?;
        if grandparent.sid == task.sid {
            return Some(chain);
        }
        (child, parent) = (parent, grandparent);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn early(ids: &[(i32, i32, i32)]) -> Vec<i32> {
        let task = |&(pid, ppid, sid)| Task {
            pid,
            ppid,
            sid,
            ..Task::default()
        };
        let tasks = ids.iter().map(task).collect();
        let snapshot = Snapshot {
            tasks,
            ..Snapshot::default()
        };
        before_sessions(&snapshot).into_iter().collect()
    }

    #[test]
    fn a_child_left_in_the_session_before_is_made_first() {
        assert_eq!(early(&[(1, 0, 1), (2, 1, 2), (3, 2, 1), (4, 2, 2)]), [3]);
        // Its parent was itself born before a session began.
        let both = [(1, 0, 1), (2, 1, 2), (3, 2, 3), (4, 3, 1)];
        assert_eq!(early(&both), [3, 4]);
        // No ancestor is of that session.
        assert_eq!(early(&[(1, 0, 1), (2, 1, 2), (3, 2, 9)]), []);
        // The parent is of a session that it does not lead.
        assert_eq!(early(&[(1, 0, 1), (2, 1, 2), (3, 2, 2), (4, 3, 1)]), []);
    }
}
