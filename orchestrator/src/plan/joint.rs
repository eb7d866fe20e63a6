//! What processes have in common by flags of `clone`: address space, descriptor table, working directory with root and umask,
//! signal handlers.
//!
//! The kernel's rule: only a birth makes processes share; nothing joins two tables later. So who shares is made by one that
//! it shares with, which has to be its parent or a brother, and what is shared is restored by the first of them alone. A shared
//! descriptor table makes numbers of temporaries uncertain: its processes take turns at what needs them, in each phase of
//! their programs, and each leaves the table as it was.

use std::collections::BTreeMap;

use super::family::{Family, Kind};
use super::fds::FdTable;
use super::program::Object;
use super::refusals::Report;
use super::task::{Making, plan_barrier};
use crate::snapshot::{FdEntry, FileKind, OpenFile, Snapshot, Task, TaskIds, TaskState};

/// The address space, by its place in [`ids`].
pub const SPACE: usize = 0;
/// The descriptor table.
pub const TABLE: usize = 1;
/// Working directory, root and umask.
pub const FS: usize = 2;
/// Signal handlers.
pub const HANDLERS: usize = 3;

/// Words and flags, in the same order.
const ALL: [(&str, i32); 4] = [
    ("address space", libc::CLONE_VM),
    ("descriptor table", libc::CLONE_FILES),
    ("working directory, root and umask", libc::CLONE_FS),
    ("signal handlers", libc::CLONE_SIGHAND),
];

fn ids(ids: &TaskIds) -> [u32; 4] {
    [ids.vm, ids.files, ids.fs, ids.sighand]
}

/// Returns what two tasks share.
fn shared(one: &Task, other: &Task) -> [bool; 4] {
    let lives = one.state != TaskState::Zombie && other.state != TaskState::Zombie;
    let (one, other) = (ids(&one.ids), ids(&other.ids));
    std::array::from_fn(|kind| lives && one[kind] != 0 && one[kind] == other[kind])
}

/// Returns the pid of the task that has to make task number `index` for what they share, if any, or why nobody can.
pub fn maker(snapshot: &Snapshot, index: usize) -> Result<Option<i32>, (&'static str, String)> {
    let task = &snapshot.tasks[index];
    let mut wanted = [None; 4];
    for other in &snapshot.tasks[..index] {
        for (kind, _) in shared(task, other)
            .iter()
            .enumerate()
            .filter(|(_, is)| **is)
        {
            wanted[kind] = wanted[kind].or(Some(other.pid));
        }
    }
    let Some((kind, other)) = wanted
        .iter()
        .enumerate()
        .find_map(|(k, o)| Some((k, (*o)?)))
    else {
        return Ok(None);
    };
    if wanted[HANDLERS].is_some() && wanted[SPACE].is_none() {
        let reason = "it shares them with a process of another address space, which cannot be";
        return Err((ALL[HANDLERS].0, reason.into()));
    }
    let shares_all = |other: &&Task| {
        let shared = shared(task, other);
        (0..ALL.len()).all(|kind| wanted[kind].is_none() || shared[kind])
    };
    let parent = snapshot.tasks.iter().filter(|other| other.pid == task.ppid);
    let brothers = snapshot.tasks[..index].iter();
    let brothers = brothers.filter(|other| other.ppid == task.ppid);
    match parent.chain(brothers).find(shares_all) {
        Some(maker) => Ok(Some(maker.pid)),
        None => Err((
            ALL[kind].0,
            format!(
                "it shares it with process {other}, and neither its parent nor a brother shares all that it does, which is not restored yet"
            ),
        )),
    }
}

/// Why a table with sockets in it is refused.
pub const SOCKETS: &str =
    "several processes share it, and there are Unix sockets in it, which is not kept yet";

/// Returns whether one of these descriptors is a Unix socket.
pub fn has_socket(fds: &[FdEntry], files: &[OpenFile]) -> bool {
    let mut sockets = files
        .iter()
        .filter(|file| matches!(file.kind, FileKind::Unix(_)));
    sockets.any(|file| fds.iter().any(|entry| entry.file == file.id))
}

/// Who of a family shares what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joint {
    /// Of each living member, the first of those that it shares each with; itself, if it is that.
    firsts: BTreeMap<usize, [usize; 4]>,
}

impl Joint {
    /// Returns it for the family of a snapshot.
    pub fn of(snapshot: &Snapshot, family: &Family) -> Self {
        let mut known: [BTreeMap<u32, usize>; 4] = Default::default();
        let mut joint = Self::default();
        for (member, of) in family.members.iter().enumerate() {
            let Kind::Living(task) = of.kind else {
                continue;
            };
            let ids = ids(&snapshot.tasks[task].ids);
            let firsts = std::array::from_fn(|kind| match ids[kind] {
                0 => member,
                id => *known[kind].entry(id).or_insert(member),
            });
            joint.firsts.insert(member, firsts);
        }
        joint
    }

    /// Returns the first of the members that share this with a member.
    pub fn first(&self, member: usize, kind: usize) -> usize {
        self.firsts
            .get(&member)
            .map_or(member, |firsts| firsts[kind])
    }

    /// Returns whether a member has this from another.
    pub fn follows(&self, member: usize, kind: usize) -> bool {
        self.first(member, kind) != member
    }

    /// Returns the flags by which a member is made by another, to share what they do.
    pub fn flags(&self, maker: usize, child: usize) -> u64 {
        let kinds = ALL.iter().enumerate();
        let shared = kinds.filter(|&(kind, _)| {
            self.follows(child, kind) && self.first(maker, kind) == self.first(child, kind)
        });
        shared.fold(0, |flags, (_, (_, flag))| flags | *flag as u64)
    }

    /// Returns whether anything is shared for which all have to be done with paths and descriptors at one point.
    pub fn is_any(&self) -> bool {
        let mut members = self.firsts.keys();
        members.any(|&member| self.follows(member, FS) || self.follows(member, TABLE))
    }

    /// Refuses sockets in a table that several share: their makers meet one another, and would wait for turns.
    pub fn refuse_sockets(&self, snapshot: &Snapshot, family: &Family, report: &mut Report) {
        for (member, of) in family.members.iter().enumerate() {
            let Kind::Living(task) = of.kind else {
                continue;
            };
            let fds = &snapshot.tasks[task].fds;
            if self.follows(member, TABLE) && has_socket(fds, &snapshot.files) {
                report.task = of.pid;
                report.refuse("descriptor table", SOCKETS, "");
            }
        }
    }

    /// Returns the next member after this that has the same descriptor table.
    fn next(&self, member: usize) -> Option<usize> {
        let table = self.first(member, TABLE);
        let mut later = self.firsts.range(member + 1..);
        later
            .find(|(_, firsts)| firsts[TABLE] == table)
            .map(|(&next, _)| next)
    }
}

/// Turns at shared descriptor tables.
#[derive(Debug, Default)]
pub struct Turns {
    /// Where two members meet to hand over: by phase and the one who takes over.
    words: BTreeMap<(usize, usize), u64>,
    /// The table as its first member leaves it in each phase.
    tables: BTreeMap<(usize, usize), FdTable>,
}

/// Adds the wait for the task's turn in a phase, if it has its descriptor table from another.
pub fn plan_turn(m: &mut Making<'_>, phase: usize) {
    let member = m.own.member;
    let first = m.joint.first(member, TABLE);
    if first != member {
        plan_handing(m, phase, member);
        m.b.fds = m.turns.tables[&(phase, first)].clone();
    }
}

/// Adds the end of it.
pub fn plan_turn_over(m: &mut Making<'_>, phase: usize) {
    let member = m.own.member;
    if !m.joint.follows(member, TABLE) {
        let table = m.b.fds.clone();
        m.turns.tables.insert((phase, member), table);
    }
    if let Some(next) = m.joint.next(member) {
        plan_handing(m, phase, next);
    }
}

fn plan_handing(m: &mut Making<'_>, phase: usize, to: usize) {
    let word = match m.turns.words.get(&(phase, to)) {
        Some(&word) => word,
        None => m.b.put_words(&[0]),
    };
    m.turns.words.insert((phase, to), word);
    m.b.object(Object::Task("turn at the shared descriptors"));
    plan_barrier(m, word, 2);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Report;

    fn task(pid: i32, ppid: i32, ids: [u32; 4]) -> Task {
        let [vm, files, fs, sighand] = ids;
        Task {
            pid,
            ppid,
            pgid: 10,
            sid: 10,
            ids: TaskIds {
                vm,
                files,
                fs,
                sighand,
                ..TaskIds::default()
            },
            threads: vec![Default::default()],
            ..Task::default()
        }
    }

    fn joint(tasks: Vec<Task>) -> (Snapshot, Family, Joint) {
        let snapshot = Snapshot {
            tasks,
            ..Snapshot::default()
        };
        let family = Family::of(&snapshot, &mut Report::default());
        let joint = Joint::of(&snapshot, &family);
        (snapshot, family, joint)
    }

    #[test]
    fn a_child_is_born_with_what_it_shares() {
        let (_, _, joint) = joint(vec![task(10, 0, [2; 4]), task(11, 10, [2, 3, 2, 2])]);
        let flags = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_SIGHAND;
        assert_eq!(joint.flags(0, 1), flags as u64);
        assert!(joint.follows(1, SPACE) && !joint.follows(1, TABLE) && !joint.follows(0, SPACE));
    }

    #[test]
    fn brothers_that_share_make_one_another() {
        let (_, family, joint) = joint(vec![
            task(10, 0, [2; 4]),
            task(11, 10, [3; 4]),
            task(12, 10, [4, 3, 4, 4]),
        ]);
        let brother = &family.members[2];
        assert_eq!((brother.maker, brother.parent), (Some(1), Some(0)));
        assert_eq!(joint.flags(1, 2), libc::CLONE_FILES as u64);
        assert_eq!(joint.next(1), Some(2));
    }

    #[test]
    fn what_nobody_near_shares_is_refused() {
        let (snapshot, ..) = joint(vec![
            task(10, 0, [2; 4]),
            task(11, 10, [3; 4]),
            task(12, 11, [4, 2, 4, 4]),
        ]);
        assert_eq!(maker(&snapshot, 1), Ok(None));
        let (object, reason) = maker(&snapshot, 2).expect_err("the parent does not share it");
        assert_eq!(object, "descriptor table");
        assert!(reason.contains("process 10"), "{reason}");
    }
}
