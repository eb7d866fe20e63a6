//! Pipes: both ends are made at once, get their content, and then become all descriptions that the task has of them.

use super::descriptors::{SETFL, Users, hold, object, place, plan_dup, raise, set_flags};
use super::program::Object;
use super::task::Making;
use crate::objects::pipe;
use crate::objects::regular::plan::open_flags;
use crate::snapshot::{FdEntry, Fifo, FileId};

/// Adds a pipe and all descriptions of its two ends.
///
/// The kernel makes one description of each end. Further ones come of opening `/proc/PID/fd/N`, and that sets O_LARGEFILE,
/// which `pipe2` does not: so the flags tell which is which.
pub fn plan_pipe(m: &mut Making<'_>, pipe_id: u32, users: &Users<'_>) {
    let buffer = m.pipes.get(&pipe_id).copied();
    m.b.object(Object::Named(format!("pipe {pipe_id}")));
    let made = pipe::plan::plan_create(&mut m.b);
    let stay = stays(made, pipe_id, users);
    let masters = match stay {
        true => made,
        false => made.map(|fd| {
            let master = raise(m, fd);
            m.b.close(fd);
            master
        }),
    };
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
        match stay {
            true => place(m, fd, file.id, entries),
            false => place_pipe(m, fd, masters, file.id, entries),
        }
    }
    if !stay {
        for fd in masters {
            m.b.close(fd);
        }
    }
}

/// Returns whether a pipe was made at the very numbers that it had, and is all that there is of it.
fn stays(made: [i32; 2], pipe_id: u32, users: &Users<'_>) -> bool {
    let mut ends = users.pipes[&pipe_id].iter().map(|file| {
        let first = users.of_file(file.id).first().map(|entry| entry.fd);
        (pipe::plan::original_end(file.flags), first)
    });
    let wanted = |end: usize| (Some(end), Some(made[end]));
    match [ends.next(), ends.next(), ends.next()] {
        [Some(one), Some(other), None] => {
            [one, other] == [0, 1].map(wanted) || [one, other] == [1, 0].map(wanted)
        }
        _ => false,
    }
}

/// Adds a named pipe with its content and all descriptions of it. It is opened for both directions first, so that no other
/// opening waits for its other end.
pub fn plan_fifo(m: &mut Making<'_>, fifo: &Fifo, users: &Users<'_>) {
    let path = String::from_utf8_lossy(&fifo.node.path).into_owned();
    m.b.object(Object::Named(format!("named pipe {path}")));
    let both = (libc::O_RDWR | libc::O_NONBLOCK) as u32;
    let fd = m.b.open_path(&fifo.node.path, both);
    let master = raise(m, fd);
    m.b.close(fd);
    let mut buffers = m.snapshot.fifos.iter();
    if let Some(buffer) = buffers.find(|buffer| buffer.pipe_id == fifo.pipe_id) {
        let limits = (m.host.pipe_max_size, m.host.has_sys_resource());
        pipe::plan::plan_fill(&mut m.b, [master, master], buffer, limits, m.report);
    }
    for &file in users.fifos.get(&fifo.pipe_id).into_iter().flatten() {
        let entries = users.of_file(file.id);
        m.b.object(object(entries.first().map_or(-1, |entry| entry.fd), file));
        let flags = open_flags(file.flags) & !(libc::O_NOFOLLOW | libc::O_DIRECT) as u32;
        let fd = m.b.open_path(&fifo.node.path, flags);
        if file.flags & libc::O_DIRECT as u32 != 0 {
            set_flags(&mut m.b, fd, file.flags & SETFL);
        }
        if entries.is_empty() {
            let held = raise(m, fd);
            m.b.close(fd);
            hold(m, file.id, held);
        } else {
            place(m, fd, file.id, entries);
        }
    }
    m.b.close(master);
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
