//! Pairs of Unix sockets: both ends are made at once, get their options and what waits in them, and are placed.

use crate::objects::{sockopt, unix};
use crate::plan::descriptors::{SETFL, Users, hold, object, place, raise, set_flags};
use crate::plan::program::Object;
use crate::plan::task::Making;
use crate::snapshot::{FileKind, OpenFile, UnixSocket};

/// Adds the pair that a socket is one end of.
pub fn plan_pair(m: &mut Making<'_>, socket: &UnixSocket, users: &Users<'_>) {
    let Some(ends) = ends(m, socket) else {
        let name = format!("Unix socket {}", socket.ino);
        let reason = format!("its other end {} is not in the images", socket.peer);
        return m.report.refuse(name, reason, "");
    };
    m.b.object(Object::Named(format!(
        "Unix sockets {} and {}",
        socket.ino, socket.peer
    )));
    let made = unix::plan::plan_pair(&mut m.b, socket.kind);
    let stay = ends.iter().zip(made).all(|((file, _), fd)| {
        let first = users.of_file(file.id).first();
        first.is_some_and(|entry| entry.fd == fd)
    });
    // Most are made at the very numbers that they had.
    let masters = match stay {
        true => made,
        false => made.map(|fd| {
            let master = raise(m, fd);
            m.b.close(fd);
            master
        }),
    };
    for ((_, end), fd) in ends.iter().zip(masters) {
        sockopt::plan::plan_buffers(&mut m.b, fd, &end.options);
    }
    for ((_, end), peer) in ends.iter().zip([masters[1], masters[0]]) {
        unix::plan::plan_queue(&mut m.b, end, peer);
    }
    for ((_, end), fd) in ends.iter().zip(masters) {
        sockopt::plan::plan_options(&mut m.b, fd, &end.options);
    }
    // One direction shut is told by both ends, and shut by either.
    unix::plan::plan_shutdown(&mut m.b, masters[0], ends[0].1.shutdown);
    for ((file, _), master) in ends.into_iter().zip(masters) {
        if file.flags & SETFL != 0 {
            set_flags(&mut m.b, master, file.flags & SETFL);
        }
        let entries = users.of_file(file.id);
        if entries.is_empty() {
            hold(m, file.id, master);
        } else {
            m.b.object(object(entries[0].fd, file));
            place(m, master, file.id, entries);
        }
    }
}

/// Returns both ends of a pair: this one first.
fn ends<'a>(m: &Making<'a>, socket: &UnixSocket) -> Option<[(&'a OpenFile, &'a UnixSocket); 2]> {
    let find = |ino: u32| match m.sockets.get(&ino).map(|file| (*file, &file.kind)) {
        Some((file, FileKind::Unix(socket))) => Some((file, socket)),
        _ => None,
    };
    let (one, other) = (find(socket.ino)?, find(socket.peer)?);
    let is_pair =
        other.1.peer == one.1.ino && other.1.kind == one.1.kind && one.1.ino != other.1.ino;
    is_pair.then_some([one, other])
}
