//! pidfds. Those of processes are made with the other descriptors; those of threads when there are threads; those of a
//! process that is gone by making one that ends in the same way, all of them before it is waited for.

use super::birth::plan_clone_any;
use super::descriptors::{Users, hold, is_own, object, place_closing, plan_take, raise};
use super::program::Object;
use super::short_lived::plan_end_as;
use super::task::{Making, plan_meeting};
use super::watches::{When, plan_watches};
use crate::objects::pidfd;
use crate::snapshot::{FileKind, OpenFile, PidFd, Snapshot};
use std::collections::BTreeMap;

/// Processes that end while pidfds of them are made: how each ends, by the inode that its pidfds had.
pub fn departed(snapshot: &Snapshot) -> BTreeMap<u32, u32> {
    let pidfds = snapshot.files.iter().filter_map(gone);
    let mut all = BTreeMap::new();
    for pidfd in pidfds {
        let status = all.entry(pidfd.ino).or_default();
        *status = pidfd.exit_status.unwrap_or(*status);
    }
    all
}

fn gone(file: &OpenFile) -> Option<PidFd> {
    match file.kind {
        FileKind::PidFd(pidfd) if pidfd.of.is_none() => Some(pidfd),
        _ => None,
    }
}

/// Adds all pidfds of a process that is gone.
pub fn plan_gone(m: &mut Making<'_>, ino: u32, users: &Users<'_>) {
    let Some(place_of) = m.departed.keys().position(|&known| known == ino) else {
        return;
    };
    m.b.object(Object::Named("a process that is gone".into()));
    let context = m.family.contexts() + place_of as u32;
    let born = plan_clone_any(&mut m.b, context);
    let all: Vec<&OpenFile> = m.files.values().copied().collect();
    let of_it = |file: &&OpenFile| gone(file).is_some_and(|pidfd| pidfd.ino == ino);
    for file in all.into_iter().filter(of_it) {
        let entries = users.of_file(file.id);
        m.b.object(object(entries.first().map_or(-1, |entry| entry.fd), file));
        let fd = pidfd::plan::plan_open_born(&mut m.b, born, file.flags);
        if entries.is_empty() {
            let held = raise(m, fd);
            m.b.close(fd);
            hold(m, file.id, held);
        } else {
            place_closing(m, fd, file.id, entries);
        }
    }
    m.b.object(Object::Named("a process that is gone".into()));
    pidfd::plan::plan_gone(&mut m.b, born);
}

/// Adds the programs of the processes that end, in the order of their contexts.
pub fn plan_departed(m: &mut Making<'_>) {
    let all: Vec<u32> = m.departed.values().copied().collect();
    for status in all {
        m.b.object(Object::Named("a process that is gone".into()));
        plan_end_as(&mut m.b, 0, status);
    }
}

/// Returns whether a description can be made only when there are threads.
pub fn is_late(m: &Making<'_>, file: &OpenFile) -> bool {
    match file.kind {
        FileKind::PidFd(PidFd { of: Some(of), .. }) => {
            !m.snapshot.tasks.iter().any(|task| task.pid == of)
        }
        _ => false,
    }
}

/// Adds the pidfds of threads, and what watches them.
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
        let (true, Some(entry), FileKind::PidFd(PidFd { of: Some(of), .. })) = (
            is_own(m, file.id),
            users.of_file(file.id).first(),
            &file.kind,
        ) else {
            continue;
        };
        m.b.object(object(entry.fd, file));
        let fd = pidfd::plan::plan_open(&mut m.b, *of, file.flags);
        place_closing(m, fd, file.id, users.of_file(file.id));
    }
    plan_meeting(m, "descriptors of threads are made", made);
    plan_take(m, When::Late);
    plan_watches(m, When::Late);
    plan_meeting(m, "descriptors of threads are taken", taken);
}
