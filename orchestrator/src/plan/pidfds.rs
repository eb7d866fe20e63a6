//! pidfds, and files of `/proc` that are of processes. Those of processes are made with the other descriptors; those of threads
//! when there are threads; those of a process that is gone by making one that ends in the same way, all of them before it is
//! waited for.

use super::birth::{plan_clone, plan_clone_any, plan_tie_to};
use super::descriptors::{
    Users, hold, is_own, object, place, place_closing, plan_flags, plan_take, raise,
};
use super::program::Object;
use super::short_lived::plan_end_as;
use super::task::{Making, plan_barrier, plan_meeting};
use super::watches::{When, plan_watches};
use crate::objects::regular::proc::whose;
use crate::objects::{pidfd, regular};
use crate::snapshot::{FileKind, OpenFile, PidFd, ProcOwner, Snapshot};
use std::collections::BTreeMap;

/// A process that is gone, as what is left of it calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gone {
    /// By the inode that its pidfds had.
    Inode(u32),
    /// By the number that its files in `/proc` have in their names.
    Number(i32),
}

/// Two meet: who opens the files of a process, and that. It lives until then: not all files of one that has ended can be opened.
const BOTH: u64 = 2;

/// Processes that end while what they leave is made, and how each ends, in the order of their contexts.
pub fn departed(snapshot: &Snapshot) -> BTreeMap<Gone, u32> {
    let mut all = BTreeMap::new();
    for file in &snapshot.files {
        let Some(gone) = gone(file) else {
            continue;
        };
        let status = all.entry(gone).or_default();
        if let FileKind::PidFd(pidfd) = &file.kind {
            *status = pidfd.exit_status.unwrap_or(*status);
        }
    }
    all
}

/// Returns the gone process that a description is left of.
pub fn gone(file: &OpenFile) -> Option<Gone> {
    gone_of(&file.kind)
}

/// As [`gone`], by the kind.
pub fn gone_of(kind: &FileKind) -> Option<Gone> {
    match kind {
        FileKind::PidFd(pidfd) if pidfd.of.is_none() => Some(Gone::Inode(pidfd.ino)),
        FileKind::Regular(file) => match file.of {
            Some(ProcOwner::Gone(pid)) => Some(Gone::Number(pid)),
            _ => None,
        },
        _ => None,
    }
}

/// Adds all that a process that is gone has left.
pub fn plan_gone(m: &mut Making<'_>, which: Gone, users: &Users<'_>) {
    let Some(place_of) = m.departed.keys().position(|&known| known == which) else {
        return;
    };
    let name = name(which);
    m.b.object(Object::Named(name.clone()));
    let context = m.family.contexts() + place_of as u32;
    let born = match which {
        Gone::Inode(_) => Some(plan_clone_any(&mut m.b, context)),
        Gone::Number(pid) => {
            let word = m.b.put_words(&[0]);
            m.endings.insert(which, (m.own.task.pid, word));
            plan_clone(&mut m.b, 0, 0, pid, context);
            None
        }
    };
    let all: Vec<&OpenFile> = m.files.values().copied().collect();
    for file in all.into_iter().filter(|file| gone(file) == Some(which)) {
        let entries = users.of_file(file.id);
        m.b.object(object(entries.first().map_or(-1, |entry| entry.fd), file));
        let fd = match (&file.kind, born) {
            (FileKind::Regular(regular), _) => {
                let fd = regular::plan::plan_open(&mut m.b, regular, file.flags);
                plan_flags(&mut m.b, fd, file);
                fd
            }
            (_, Some(born)) => pidfd::plan::plan_open_born(&mut m.b, born, file.flags),
            (_, None) => continue,
        };
        match (entries.is_empty(), born) {
            (true, _) => {
                let held = raise(m, fd);
                m.b.close(fd);
                hold(m, file.id, held);
            }
            (false, Some(_)) => place_closing(m, fd, file.id, entries),
            (false, None) => place(m, fd, file.id, entries),
        }
    }
    m.b.object(Object::Named(name));
    match (which, born) {
        (Gone::Number(pid), _) => {
            if let Some(&(_, word)) = m.endings.get(&which) {
                plan_barrier(m, word, BOTH);
            }
            pidfd::plan::plan_gone_number(&mut m.b, pid);
        }
        (Gone::Inode(_), Some(born)) => pidfd::plan::plan_gone(&mut m.b, born),
        (Gone::Inode(_), None) => unreachable!("it was made above"),
    }
}

fn name(which: Gone) -> String {
    match which {
        Gone::Inode(_) => "a process that is gone".into(),
        Gone::Number(pid) => format!("process {pid}, which is gone"),
    }
}

/// Adds the programs of the processes that end, in the order of their contexts.
pub fn plan_departed(m: &mut Making<'_>) {
    let all: Vec<(Gone, u32)> = m
        .departed
        .iter()
        .map(|(&gone, &status)| (gone, status))
        .collect();
    for (which, status) in all {
        m.b.object(Object::Named(name(which)));
        if let Some(&(parent, word)) = m.endings.get(&which) {
            plan_tie_to(&mut m.b, parent);
            m.b.object(Object::Named(name(which)));
            plan_barrier(m, word, BOTH);
        }
        plan_end_as(&mut m.b, 0, status);
    }
}

/// Returns whether a description can be made only when there are threads.
pub fn is_late(m: &Making<'_>, file: &OpenFile) -> bool {
    match file.kind {
        FileKind::PidFd(PidFd { of: Some(of), .. }) => {
            !m.snapshot.tasks.iter().any(|task| task.pid == of)
        }
        FileKind::Regular(ref file) => {
            let tid = whose(&file.path).and_then(|whose| whose.tid);
            let mut threads = m.snapshot.tasks.iter().flat_map(|task| &task.threads);
            tid.is_some_and(|tid| threads.any(|thread| thread.tid == tid))
        }
        _ => false,
    }
}

/// Adds the pidfds of threads and their files, and what watches them.
pub fn plan_late(m: &mut Making<'_>) {
    let files = m.files.values().copied();
    let files: Vec<&OpenFile> = files.filter(|file| is_late(m, file)).collect();
    if files.is_empty() {
        return;
    }
    let users = Users::of(m);
    let [cloned, made, taken] = m.meetings.late;
    plan_meeting(m, "all threads are made", cloned);
    for file in files {
        let entries = users.of_file(file.id);
        let (true, Some(entry)) = (is_own(m, file.id), entries.first()) else {
            continue;
        };
        m.b.object(object(entry.fd, file));
        match &file.kind {
            FileKind::PidFd(PidFd { of: Some(of), .. }) => {
                let fd = pidfd::plan::plan_open(&mut m.b, *of, file.flags);
                place_closing(m, fd, file.id, entries);
            }
            FileKind::Regular(regular) => {
                let fd = regular::plan::plan_open(&mut m.b, regular, file.flags);
                place(m, fd, file.id, entries);
            }
            _ => {}
        }
    }
    plan_meeting(m, "descriptors of threads are made", made);
    plan_take(m, When::Late);
    plan_watches(m, When::Late);
    plan_meeting(m, "descriptors of threads are taken", taken);
}
