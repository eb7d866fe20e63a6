//! Who makes whom: the processes of a restored tree in the order in which their programs are planned.
//!
//! The kernel's rules: a process is born into the session and group of whoever makes it, may begin a session of its own, and
//! may join or found groups of its session only. So a child is made by its parent once that has its session, or before that
//! begins one of its own (it may have, and left its children where they were), and joins its group when all are born. An orphan may be of a session that its new parent is not of: the leader of that makes it, as a child of
//! the leader's parent (`CLONE_PARENT`). A group or session whose leader has gone has its number still: a helper takes it for a
//! moment, founds it, and ends when all have joined. Where that is the root's own session, the helper is the root's maker.

use std::collections::{BTreeMap, BTreeSet};

use super::early;
use super::joint::{self, Joint};
use super::refusals::Report;
use crate::snapshot::{Snapshot, Task, TaskState};

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Task number n of the snapshot, which lives.
    Living(usize),
    /// Task number n of the snapshot, which has ended and is not yet waited for.
    Zombie(usize),
    /// None of the snapshot: it holds the number of a group, and ends.
    Helper,
}

/// A process that a restore makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub kind: Kind,
    /// Its pid.
    pub pid: i32,
    /// Its session.
    pub sid: i32,
    /// Its group.
    pub pgid: i32,
    /// The member that makes it; `None` for the root.
    pub maker: Option<usize>,
    /// Its parent: who makes it, or the parent of that.
    pub parent: Option<usize>,
    /// Signal that its end sends its parent; 0 = none.
    pub exit_signal: u64,
    /// Contexts of its threads: the first, and how many.
    pub contexts: (u32, u32),
    /// Whether it begins with a copy of its maker's memory, to keep what both had in common.
    pub inherits: bool,
    /// Whether it is made before its maker begins its own session, of which it is not.
    pub before_session: bool,
}

impl Member {
    /// Returns whether it is none of the snapshot.
    pub fn is_helper(&self) -> bool {
        self.kind == Kind::Helper
    }
}

/// All members; each comes after its maker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Family {
    /// The root is the first.
    pub members: Vec<Member>,
    /// Session and group that the root has from outside, if it does not lead them.
    outer: (Option<i32>, Option<i32>),
    /// Session that the root is made in, and that was founded for it, as its leader has gone.
    founded: Option<i32>,
    /// Who shares what.
    spaces: Joint,
}

impl Family {
    /// Returns the family of a snapshot, or what stands in its way.
    pub fn of(snapshot: &Snapshot, report: &mut Report) -> Self {
        let mut family = Self::default();
        let mut places: BTreeMap<i32, usize> = BTreeMap::new();
        let early = early::before_sessions(snapshot);
        let mut waiting = Self::wishes(snapshot, &early, report);
        while let Some(next) = waiting.iter().position(|wish| {
            wish.maker == 0 || places.contains_key(&wish.maker) && places.contains_key(&wish.parent)
        }) {
            let wish = waiting.remove(next);
            let mut member = wish.member;
            member.before_session = early.contains(&member.pid) && wish.maker == wish.parent;
            member.maker = places.get(&wish.maker).copied();
            member.parent = places.get(&wish.parent).copied();
            family.push(member, &mut places);
        }
        for wish in waiting {
            report.task = wish.member.pid;
            report.refuse("task", "nobody of the tree can be its parent", "");
        }
        let leads = |number: i32| places.contains_key(&number);
        if let Some(root) = family.members.first() {
            match snapshot.origin.has_own_session && !leads(root.sid) {
                true => family.founded = Some(root.sid),
                false => {
                    family.outer = (
                        (!leads(root.sid)).then_some(root.sid),
                        (!leads(root.pgid)).then_some(root.pgid),
                    );
                }
            }
        }
        family.add_helpers(&mut places);
        family.add_foregrounds(snapshot, &mut places);
        family.refuse_misplaced(report);
        family.refuse_signals(report);
        let joint = Joint::of(snapshot, &family);
        for member in 1..family.members.len() {
            family.members[member].inherits = !family.members[member].before_session
                && (joint.follows(member, joint::SPACE)
                    || family.has_common_memory(member, snapshot));
        }
        family.spaces = joint;
        family
    }

    /// Returns all tasks with who is to make them, and the helpers that sessions need whose leaders have gone. The root comes
    /// first, and is made by 0.
    fn wishes(snapshot: &Snapshot, early: &BTreeSet<i32>, report: &mut Report) -> Vec<Wish> {
        let tasks: BTreeMap<i32, &Task> = snapshot.tasks.iter().map(|t| (t.pid, t)).collect();
        let mut wishes = Vec::new();
        let mut leaders: BTreeMap<i32, i32> = BTreeMap::new();
        for (index, task) in snapshot.tasks.iter().enumerate() {
            let parent = tasks.get(&task.ppid);
            let is_born_to = parent.is_none_or(|parent| task.sid == parent.sid);
            let joint = joint::maker(snapshot, index).unwrap_or_else(|(object, reason)| {
                report.task = task.pid;
                report.refuse(object, reason, "");
                None
            });
            let maker = match tasks.get(&task.sid) {
                _ if joint.is_some() => joint.unwrap_or(task.ppid),
                _ if is_born_to || task.sid == task.pid => task.ppid,
                _ if early.contains(&task.pid) => task.ppid,
                Some(leader) if leader.ppid == task.ppid => leader.pid,
                None if snapshot.root().is_some_and(|root| root.sid == task.sid) => task.ppid,
                None if *leaders.entry(task.sid).or_insert(task.ppid) == task.ppid => task.sid,
                _ => {
                    report.task = task.pid;
                    let reason = format!(
                        "it is {}, and neither its parent {} nor a brother is of it, which is not restored yet",
                        task.sid, task.ppid
                    );
                    report.refuse("session", reason, "");
                    task.ppid
                }
            };
            wishes.push(Wish {
                maker,
                parent: task.ppid,
                member: member(index, task),
            });
        }
        wishes.extend(leaders.into_iter().map(|(sid, parent)| Wish {
            maker: parent,
            parent,
            member: helper(sid, sid),
        }));
        wishes
    }

    fn push(&mut self, mut member: Member, places: &mut BTreeMap<i32, usize>) {
        let last = self.members.last();
        let next = last.map_or(0, |last| last.contexts.0 + last.contexts.1);
        member.contexts.0 = next;
        places.insert(member.pid, self.members.len());
        self.members.push(member);
    }

    /// Adds a helper for each group whose leader has gone, a child of the first process in it.
    fn add_helpers(&mut self, places: &mut BTreeMap<i32, usize>) {
        let mut founded: BTreeSet<i32> = BTreeSet::new();
        for index in 0..self.members.len() {
            let Member {
                kind,
                pgid,
                sid,
                maker,
                ..
            } = self.members[index];
            let is_outside = [self.outer.1, self.founded].contains(&Some(pgid));
            let is_there = places.contains_key(&pgid) || is_outside;
            // The dead make nobody.
            let maker = match kind {
                Kind::Living(_) => Some(index),
                _ => maker,
            };
            if is_there || maker.is_none() || !founded.insert(pgid) {
                continue;
            }
            let helper = Member {
                maker,
                parent: maker,
                inherits: true,
                ..helper(pgid, sid)
            };
            self.push(helper, places);
        }
    }

    /// Adds a helper for each group that is in the foreground of a terminal though nobody is in it any more, a child of the
    /// leader of the session.
    fn add_foregrounds(&mut self, snapshot: &Snapshot, places: &mut BTreeMap<i32, usize>) {
        for info in &snapshot.terminals {
            let leader = places.get(&info.sid).copied();
            let is_there = self.members.iter().any(|member| member.pgid == info.pgrp);
            let Some(leader) = leader.filter(|_| info.pgrp != 0 && !is_there) else {
                continue;
            };
            if !matches!(self.members[leader].kind, Kind::Living(_)) {
                continue;
            }
            let helper = Member {
                maker: Some(leader),
                parent: Some(leader),
                inherits: true,
                ..helper(info.pgrp, info.sid)
            };
            self.push(helper, places);
        }
    }

    /// Refuses sessions that a member cannot be born into.
    fn refuse_misplaced(&self, report: &mut Report) {
        for member in self.members.iter().skip(1) {
            let Some(maker) = member.maker.map(|maker| &self.members[maker]) else {
                continue;
            };
            report.task = member.pid;
            if member.sid != member.pid && member.sid != maker.sid && !member.before_session {
                let reason = format!(
                    "it is {}, and {}, which would make it, is of session {}",
                    member.sid, maker.pid, maker.sid
                );
                report.refuse("session", reason, "");
            }
            let is_led = self.founder(member).is_some() || self.founded == Some(member.pgid);
            if member.pgid != member.pid && !is_led && !self.is_outer(member) {
                let reason = format!("nobody of the tree is of group {}", member.pgid);
                report.refuse("process group", reason, "");
            }
        }
    }

    /// Refuses signals of ends that a member cannot be born with: a brother's is that of who makes it (`copy_process`).
    fn refuse_signals(&self, report: &mut Report) {
        for member in self.members.iter().skip(1) {
            let maker = member.maker.filter(|_| member.maker != member.parent);
            if let Some(maker) = maker.map(|maker| &self.members[maker])
                && maker.exit_signal != member.exit_signal
            {
                report.task = member.pid;
                let reason = format!(
                    "it is {}, and that of process {}, which would make it, is {}, which is not restored yet",
                    member.exit_signal, maker.pid, maker.exit_signal
                );
                report.refuse("signal of its end", reason, "");
            }
        }
    }

    /// Returns the member that leads the group of another.
    fn founder(&self, member: &Member) -> Option<&Member> {
        let mut all = self.members.iter();
        all.find(|leader| leader.pid == member.pgid && leader.sid == member.sid)
    }

    /// Returns whether a member is of the group that the root has from outside.
    pub fn is_outer(&self, member: &Member) -> bool {
        self.outer.1 == Some(member.pgid)
    }

    /// Returns the session that is founded before the root is made. Its founder, and by that its group, is there until all is done.
    pub fn founded(&self) -> Option<i32> {
        self.founded
    }

    /// Returns whether a session is that of whoever restores.
    pub fn is_callers(&self, session: i32) -> bool {
        self.outer.0 == Some(session)
    }

    /// Returns whether a process may have pages of its parent: the same program, with areas at the same addresses.
    fn has_common_memory(&self, member: usize, snapshot: &Snapshot) -> bool {
        let member = &self.members[member];
        if snapshot.is_lazy() || snapshot.is_mapped() {
            // What a maker has not got yet cannot be inherited; and what is mapped is shared by that.
            return false;
        }
        if member.maker != member.parent {
            return member.inherits;
        }
        let maker = member.maker.map(|maker| self.members[maker].kind);
        match (member.kind, maker) {
            (Kind::Living(child), Some(Kind::Living(parent))) => {
                let (child, parent) = (&snapshot.tasks[child].mm, &snapshot.tasks[parent].mm);
                match (child, parent) {
                    (Some(child), Some(parent)) => {
                        child.exe == parent.exe
                            && !super::inherit::common(&parent.vmas, &child.vmas).is_empty()
                    }
                    _ => false,
                }
            }
            (Kind::Helper, _) => member.inherits,
            _ => false,
        }
    }

    /// Returns the task whose memory a member is born with, if any: that of the first living one of those who made it.
    pub fn memory_of(&self, member: usize) -> Option<usize> {
        let mut maker = self.members[member].maker;
        while let Some(place) = maker {
            match self.members[place].kind {
                Kind::Living(task) => {
                    match self.members[self.spaces.first(place, joint::SPACE)].kind {
                        Kind::Living(first) => return Some(first),
                        _ => return Some(task),
                    }
                }
                _ => maker = self.members[place].maker,
            }
        }
        None
    }

    /// Returns the children that a member makes once it has its session: those that inherit its memory, or the others.
    pub fn children(&self, member: usize, inherits: bool) -> Vec<usize> {
        let is_it = |child: &Member| child.inherits == inherits && !child.before_session;
        self.made_by(member, is_it)
    }

    /// Returns the children that a member makes before it begins its session.
    pub fn children_before_session(&self, member: usize) -> Vec<usize> {
        self.made_by(member, |child| child.before_session)
    }

    fn made_by(&self, member: usize, is_it: impl Fn(&Member) -> bool) -> Vec<usize> {
        let all = self.members.iter().enumerate();
        all.filter(|(_, child)| child.maker == Some(member) && is_it(child))
            .map(|(index, _)| index)
            .collect()
    }

    /// Returns how many members live when all is done.
    pub fn living(&self) -> usize {
        let all = self.members.iter();
        all.filter(|member| matches!(member.kind, Kind::Living(_)))
            .count()
    }

    /// Returns the number of contexts.
    pub fn contexts(&self) -> u32 {
        self.members
            .last()
            .map_or(0, |last| last.contexts.0 + last.contexts.1)
    }
}

/// A member that is not placed yet: pids of its maker and its parent.
struct Wish {
    maker: i32,
    parent: i32,
    member: Member,
}

fn helper(pid: i32, sid: i32) -> Member {
    Member {
        kind: Kind::Helper,
        pid,
        sid,
        pgid: pid,
        maker: None,
        parent: None,
        exit_signal: libc::SIGCHLD as u64,
        contexts: (0, 1),
        inherits: false,
        before_session: false,
    }
}

fn member(index: usize, task: &Task) -> Member {
    let (kind, threads) = match task.state {
        TaskState::Zombie => (Kind::Zombie(index), 1),
        _ => (Kind::Living(index), task.threads.len() as u32),
    };
    Member {
        kind,
        pid: task.pid,
        sid: task.sid,
        pgid: task.pgid,
        maker: None,
        parent: None,
        exit_signal: u64::from(task.exit_signal.unwrap_or(libc::SIGCHLD as u32)),
        contexts: (0, threads),
        inherits: false,
        before_session: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(pid: i32, ppid: i32, pgid: i32, sid: i32) -> Task {
        Task {
            pid,
            ppid,
            pgid,
            sid,
            threads: vec![Default::default()],
            ..Task::default()
        }
    }

    fn family(tasks: Vec<Task>) -> (Family, Report) {
        let snapshot = Snapshot {
            tasks,
            ..Snapshot::default()
        };
        let mut report = Report::default();
        (Family::of(&snapshot, &mut report), report)
    }

    #[test]
    fn a_group_without_its_leader_gets_a_helper() {
        let (family, report) = family(vec![
            task(10, 0, 10, 10),
            task(12, 10, 11, 10),
            task(13, 10, 11, 10),
        ]);
        assert!(report.refusals.is_empty());
        let helpers: Vec<_> = family.members.iter().skip(3).collect();
        assert_eq!(helpers.len(), 1);
        assert_eq!((helpers[0].pid, helpers[0].maker), (11, Some(1)));
        assert_eq!(helpers[0].contexts, (3, 1));
    }

    #[test]
    fn groups_from_outside_are_left_alone() {
        let (family, report) = family(vec![task(10, 0, 5, 4), task(11, 10, 5, 4)]);
        assert!(report.refusals.is_empty());
        assert_eq!(family.members.len(), 2);
        assert!(family.is_outer(&family.members[1]));
    }

    #[test]
    fn a_session_founded_for_the_root_needs_no_helper() {
        let mut report = Report::default();
        let mut snapshot = Snapshot {
            tasks: vec![
                task(10, 0, 4, 4),
                task(11, 10, 11, 4),
                task(12, 11, 4, 4),
                task(13, 10, 5, 4),
            ],
            ..Snapshot::default()
        };
        snapshot.origin.has_own_session = true;
        let family = Family::of(&snapshot, &mut report);
        assert!(report.refusals.is_empty(), "{:?}", report.refusals);
        assert_eq!(family.founded(), Some(4));
        assert!(!family.is_outer(&family.members[2]), "it joins the group");
        let helpers: Vec<i32> = family.members[4..].iter().map(|m| m.pid).collect();
        assert_eq!(helpers, [5], "for the other group alone");
    }

    #[test]
    fn an_orphan_is_made_by_the_leader_of_its_session() {
        let (family, report) = family(vec![
            task(10, 0, 10, 10),
            task(12, 10, 12, 11),
            task(11, 10, 11, 11),
        ]);
        assert!(report.refusals.is_empty());
        let orphan = &family.members[2];
        assert_eq!(
            (orphan.pid, orphan.maker, orphan.parent),
            (12, Some(1), Some(0))
        );
    }

    #[test]
    fn a_session_without_its_leader_gets_a_helper() {
        let (family, report) = family(vec![task(10, 0, 10, 10), task(12, 10, 11, 11)]);
        assert!(report.refusals.is_empty());
        let pids: Vec<i32> = family.members.iter().map(|member| member.pid).collect();
        assert_eq!(pids, [10, 11, 12]);
        let orphan = &family.members[2];
        assert_eq!((orphan.maker, orphan.parent), (Some(1), Some(0)));
    }

    #[test]
    fn a_session_that_nobody_near_is_of_is_refused() {
        let (_, report) = family(vec![
            task(10, 0, 10, 10),
            task(11, 10, 11, 11),
            task(12, 11, 12, 12),
            task(13, 10, 13, 12),
        ]);
        assert_eq!(report.refusals.len(), 1 + 1);
        assert_eq!(report.refusals[0].task, 13);
    }
}
