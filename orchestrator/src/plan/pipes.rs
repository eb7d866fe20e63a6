//! Pipes: both ends are made at once, get their content, and then become all descriptions that the task has of them.

use super::descriptors::{SETFL, Users, hold, object, place, plan_dup, raise, set_flags};
use super::program::Object;
use super::task::Making;
use crate::objects::pipe;
use crate::snapshot::{FdEntry, FileId};

/// Adds a pipe and all descriptions of its two ends.
///
/// The kernel makes one description of each end. Further ones come of opening `/proc/PID/fd/N`, and that sets O_LARGEFILE,
/// which `pipe2` does not: so the flags tell which is which.
pub fn plan_pipe(m: &mut Making<'_>, pipe_id: u32, users: &Users<'_>) {
    let buffer = m.pipes.get(&pipe_id).copied();
    m.b.object(Object::Named(format!("pipe {pipe_id}")));
    let made = pipe::plan::plan_create(&mut m.b);
    let masters = made.map(|fd| {
        let master = raise(m, fd);
        m.b.close(fd);
        master
    });
    if let Some(buffer) = buffer {
        let max = m.host.pipe_max_size;
        let can_exceed = m.host.has_sys_resource();
        pipe::plan::plan_fill(&mut m.b, masters, buffer, (max, can_exceed), m.report);
    }
    let mut used = [false; 2];
    for &file in &users.pipes[&pipe_id] {
        let entries = users.of_file(file.id);
        m.b.object(object(entries.first().map_or(-1, |entry| entry.fd), file));
        let fd = match pipe::plan::original_end(file.flags) {
            Some(end) if !used[end] => {
                used[end] = true;
                masters[end]
            }
            _ => pipe::plan::plan_reopen(&mut m.b, masters, file.flags),
        };
        if file.flags & SETFL != 0 {
            set_flags(&mut m.b, fd, file.flags & SETFL);
        }
        place_pipe(m, fd, masters, file.id, entries);
    }
    for fd in masters {
        m.b.close(fd);
    }
}

fn place_pipe(m: &mut Making<'_>, fd: i32, masters: [i32; 2], id: FileId, entries: &[FdEntry]) {
    let Some(first) = entries.first() else {
        let held = raise(m, fd);
        hold(m, id, held);
        if !masters.contains(&fd) {
            m.b.close(fd);
        }
        return;
    };
    if !masters.contains(&fd) {
        return place(m, fd, id, entries);
    }
    for entry in entries {
        plan_dup(&mut m.b, fd, entry.fd, entry.cloexec);
    }
    m.own.placed.insert(id, first.fd);
    m.made.insert(id, (m.own.task.pid, first.fd));
}
