//! Descriptors: every open file description made once, at the first of its numbers, and shared to the others.
//!
//! Numbers are simulated ([`super::fds`]). A description is made at whatever number the kernel gives, which in an ordinary
//! program is the very one that it had, as they are made in ascending order; else it is moved. Temporaries that live longer
//! than one description (ends of pipes, memfds) stand above every number of the snapshot.

use std::collections::BTreeMap;

use super::fill::{self, Target};
use super::program::{Builder, Object};
use super::task::Making;
use super::watches::When;
use super::{inherited, pidfds, pipes, queues, sockets, terminals};
use crate::objects::{
    bpfmap, device, epoll, eventfd, fanotify, inet, inotify, locks, memfd, namespace, netlink,
    packet, pidfd, regular, signalfd, timerfd, tty, tun,
};
use crate::snapshot::{FdEntry, FileId, FileKind, InetSocket, OpenFile, Snapshot, TerminalInfo};

/// Adds all descriptions that are this task's to make, each at its numbers; those that only others have, at temporary ones.
pub fn plan_make(m: &mut Making<'_>) {
    let users = Users::of(m);
    plan_memfds(m);
    sockets::plan_turns(m, sockets::Phase::Make);
    for entry in &m.own.task.fds {
        if m.own.placed.contains_key(&entry.file) || !is_own(m, entry.file) {
            continue;
        }
        let Some(&file) = m.files.get(&entry.file) else {
            let reason = format!("its file {} is not in the images", entry.file.0);
            m.report
                .refuse(format!("descriptor {}", entry.fd), reason, "");
            continue;
        };
        match &file.kind {
            FileKind::Pipe(end) => {
                pipes::plan_pipe(m, end.pipe_id, &users);
                continue;
            }
            FileKind::Fifo(fifo) => {
                pipes::plan_fifo(m, fifo, &users);
                continue;
            }
            FileKind::Unix(_) if m.script.made.contains_key(&file.id) => {
                sockets::plan_place(m, file.id, &users);
                continue;
            }
            FileKind::Unix(socket) => {
                sockets::plan_pair(m, socket, &users);
                continue;
            }
            kind => {
                if let Some(gone) = pidfds::gone_of(kind) {
                    pidfds::plan_gone(m, gone, &users);
                    continue;
                }
                if pidfds::is_late(m, file) {
                    continue;
                }
            }
        }
        m.b.object(object(entry.fd, file));
        if let Some(fd) = make(m, entry.fd, file) {
            plan_flags(&mut m.b, fd, file);
            let entries = users.of_file(file.id);
            match &file.kind {
                FileKind::PidFd(_) | FileKind::BpfMap(_) => place_closing(m, fd, file.id, entries),
                FileKind::Queue(queue) if queue.path.is_empty() => {
                    place_closing(m, fd, file.id, entries);
                }
                _ => place(m, fd, file.id, entries),
            }
        }
    }
    plan_others(m, &users);
}

pub fn is_own(m: &Making<'_>, file: FileId) -> bool {
    let maker = m.sharing.files.get(&file);
    maker.is_none_or(|&maker| maker == m.own.member)
}

/// Returns whether the task is the first that has a description.
pub fn is_holder(m: &Making<'_>, file: FileId) -> bool {
    let holder = m.sharing.holders.get(&file);
    holder.is_none_or(|&holder| holder == m.own.member)
}

/// Adds descriptions that only other tasks have, as this one makes what they lead to.
fn plan_others(m: &mut Making<'_>, users: &Users<'_>) {
    for id in m.sharing.files_of(m.own.member) {
        if m.made.contains_key(&id) || !users.of_file(id).is_empty() {
            continue;
        }
        let Some(&file) = m.files.get(&id) else {
            continue;
        };
        match &file.kind {
            FileKind::Pipe(end) => {
                pipes::plan_pipe(m, end.pipe_id, users);
                continue;
            }
            FileKind::Fifo(fifo) => {
                pipes::plan_fifo(m, fifo, users);
                continue;
            }
            kind => {
                if let Some(gone) = pidfds::gone_of(kind) {
                    pidfds::plan_gone(m, gone, users);
                    continue;
                }
                if pidfds::is_late(m, file) {
                    let reason = "it waits in a socket, and is of a thread";
                    m.report.refuse(what(file), reason, "");
                    continue;
                }
            }
        }
        m.b.object(Object::Named(format!("{}, for another task", what(file))));
        if let Some(fd) = make(m, -1, file) {
            plan_flags(&mut m.b, fd, file);
            let held = raise(m, fd);
            m.b.close(fd);
            hold(m, id, held);
        }
    }
}

/// Keeps a temporary descriptor until all others have taken it.
pub fn hold(m: &mut Making<'_>, id: FileId, held: i32) {
    if m.sharing.in_flight.contains(&id) {
        m.own.late.push(held);
        m.own.placed.insert(id, held);
    } else {
        m.own.held.push(held);
    }
    m.made.insert(id, (m.own.task.pid, held));
}

/// Adds the end of descriptors of what only waits in a socket.
pub fn plan_late_cleanup(m: &mut Making<'_>) {
    for fd in std::mem::take(&mut m.own.late) {
        m.b.close(fd);
    }
}

/// Adds the taking of what others have made (`pidfd_getfd`, Linux 5.6).
pub fn plan_take(m: &mut Making<'_>, when: When) {
    let users = Users::of(m);
    let mut from: BTreeMap<i32, Vec<(FileId, i32)>> = BTreeMap::new();
    for &id in users.entries.keys() {
        let file = m.files.get(&id);
        if file.is_some_and(|file| pidfds::is_late(m, file)) != (when == When::Late) {
            continue;
        }
        if let (false, Some(&(pid, fd))) = (m.own.placed.contains_key(&id), m.made.get(&id)) {
            from.entry(pid).or_default().push((id, fd));
        }
    }
    for (pid, taken) in from {
        let pidfd = plan_pidfd(m, pid);
        for (id, theirs) in taken {
            let entries = users.of_file(id);
            if let (Some(&file), Some(entry)) = (m.files.get(&id), entries.first()) {
                m.b.object(object(entry.fd, file));
            }
            let fd =
                m.b.open(libc::SYS_pidfd_getfd, &[pidfd as u64, theirs as u64]);
            place_taken(m, fd, id, entries);
        }
        m.b.close(pidfd);
    }
}

/// Adds a descriptor of a process, out of the way.
pub fn plan_pidfd(m: &mut Making<'_>, pid: i32) -> i32 {
    m.b.object(Object::Named(format!("descriptors of process {pid}")));
    let fd = m.b.open(libc::SYS_pidfd_open, &[pid as u64]);
    let pidfd = raise(m, fd);
    m.b.close(fd);
    pidfd
}

/// As [`place`], for one that is closed on exec as it comes.
pub fn place_closing(m: &mut Making<'_>, made: i32, id: FileId, entries: &[FdEntry]) {
    place_taken(m, made, id, entries);
    if let Some(entry) = entries.first() {
        m.made.insert(id, (m.own.task.pid, entry.fd));
    }
}

/// As [`place_closing`], for one that another has made.
fn place_taken(m: &mut Making<'_>, made: i32, id: FileId, entries: &[FdEntry]) {
    let stays = entries.iter().find(|entry| entry.fd == made);
    if stays.is_some_and(|entry| !entry.cloexec) {
        let args = [made as u64, libc::F_SETFD as u64, 0];
        m.b.call_returns(libc::SYS_fcntl, &args, 0);
    }
    for entry in entries.iter().filter(|entry| entry.fd != made) {
        plan_dup(&mut m.b, made, entry.fd, entry.cloexec);
    }
    if stays.is_none() {
        m.b.close(made);
    }
    if let Some(entry) = entries.first() {
        m.own.placed.insert(id, entry.fd);
    }
}

/// Who refers to what.
#[derive(Debug, Default)]
pub struct Users<'a> {
    /// The task's descriptors of each open file description.
    pub entries: BTreeMap<FileId, Vec<FdEntry>>,
    /// Open file descriptions of each pipe, whoever has them.
    pub pipes: BTreeMap<u32, Vec<&'a OpenFile>>,
    /// Open file descriptions of each named pipe.
    pub fifos: BTreeMap<u32, Vec<&'a OpenFile>>,
}

impl<'a> Users<'a> {
    /// Returns them for the task at hand.
    pub fn of(m: &Making<'a>) -> Self {
        let mut users = Self::default();
        for entry in &m.own.task.fds {
            users.entries.entry(entry.file).or_default().push(*entry);
        }
        for id in m.sharing.files.keys() {
            let Some(&file) = m.files.get(id) else {
                continue;
            };
            match &file.kind {
                FileKind::Pipe(end) => users.pipes.entry(end.pipe_id).or_default().push(file),
                FileKind::Fifo(fifo) => users.fifos.entry(fifo.pipe_id).or_default().push(file),
                _ => {}
            }
        }
        users
    }

    /// Returns the task's descriptors of an open file description.
    pub fn of_file(&self, id: FileId) -> &[FdEntry] {
        self.entries.get(&id).map_or(&[], Vec::as_slice)
    }
}

/// Returns the words for a descriptor.
pub fn object(fd: i32, file: &OpenFile) -> Object {
    Object::Descriptor(fd, what(file))
}

fn what(file: &OpenFile) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match &file.kind {
        FileKind::Regular(file) => text(&file.path),
        FileKind::Device(device) => text(&device.node.path),
        FileKind::Pipe(end) => format!("pipe {}", end.pipe_id),
        FileKind::Fifo(fifo) => text(&fifo.node.path),
        FileKind::Unix(socket) => format!("Unix socket {}", socket.ino),
        FileKind::Inet(socket) => socket.words(),
        FileKind::Netlink(socket) => format!("netlink socket {}", socket.ino),
        FileKind::Packet(socket) => format!("packet socket {}", socket.ino),
        FileKind::EventFd(_) => "eventfd".into(),
        FileKind::Epoll(_) => "epoll".into(),
        FileKind::TimerFd(_) => "timerfd".into(),
        FileKind::SignalFd(_) => "signalfd".into(),
        FileKind::Inotify(_) => "inotify".into(),
        FileKind::Fanotify(_) => "fanotify".into(),
        FileKind::Memfd(memfd) => format!("memfd {}", memfd.inode_id),
        FileKind::Terminal(terminal) => text(&terminal.node.path),
        FileKind::Namespace(namespace) => format!("{} namespace", namespace.name),
        FileKind::BpfMap(map) => format!("BPF map {}", text(&map.name)),
        FileKind::Queue(queue) => format!("POSIX message queue {}", queue.queue),
        FileKind::Tun(tun) => match &tun.queue {
            Some(queue) => format!("TUN or TAP device {}", text(&queue.device)),
            None => text(&tun.node.path),
        },
        FileKind::PidFd(pidfd) => match pidfd.of {
            Some(pid) => format!("pidfd of {pid}"),
            None => "pidfd of a process that is gone".into(),
        },
        FileKind::External(file) => text(&file.key),
        FileKind::Inherited(inherited) => format!("inherited for {}", inherited.key),
        FileKind::Unsupported(name) => name.clone(),
    }
}

/// Adds the making of a description at the lowest free number, and returns that.
fn make(m: &mut Making<'_>, fd: i32, file: &OpenFile) -> Option<i32> {
    if let FileKind::Terminal(terminal) = &file.kind
        && let Some(made) = terminals::make(m, file, terminal)
    {
        return Some(made);
    }
    if let FileKind::Inherited(given) = &file.kind {
        return Some(inherited::plan_take(m, given));
    }
    if let Some(name) = missing_interface(m, file) {
        let name = String::from_utf8_lossy(&name);
        let reason = format!("there is no interface {name} here");
        let what = format!("descriptor {fd} ({})", what(file));
        m.report.refuse(what, reason, "");
        return None;
    }
    if let FileKind::Queue(queue) = &file.kind {
        return queues::plan_open(m, queue, file.flags);
    }
    let b = &mut m.b;
    let made = match &file.kind {
        FileKind::Regular(regular) => regular::plan::plan_open(b, regular, file.flags),
        FileKind::Device(device) => device::plan::plan_open(b, device, file.flags),
        FileKind::EventFd(eventfd) => eventfd::plan::plan_create(b, eventfd, file.flags),
        FileKind::Inet(socket) => {
            let has_twins = has_twins(m.snapshot, socket);
            inet::plan::plan_create(b, socket, &m.host.interfaces, has_twins)
        }
        FileKind::Netlink(socket) => netlink::plan::plan_create(b, socket),
        FileKind::Packet(socket) => packet::plan::plan_create(b, socket, &m.host.interfaces),
        FileKind::Epoll(_) => epoll::plan::plan_create(b),
        FileKind::TimerFd(timer) => timerfd::plan::plan_create(b, timer, file.flags),
        FileKind::SignalFd(signalfd) => signalfd::plan::plan_create(b, signalfd, file.flags),
        FileKind::Tun(tun) => tun::plan::plan_open(b, tun, file.flags),
        FileKind::PidFd(pidfd) => pidfd::plan::plan_open(b, pidfd.of?, file.flags),
        FileKind::Inotify(_) => inotify::plan::plan_create(b, file.flags),
        FileKind::Fanotify(fanotify) => fanotify::plan::plan_create(b, fanotify),
        FileKind::BpfMap(map) => bpfmap::plan::plan_create(b, map),
        FileKind::Namespace(namespace) => {
            if let Some(reason) = namespace::plan::obstacle(namespace, &m.own.task.ids) {
                let what = format!("descriptor {fd} ({} namespace)", namespace.name);
                m.report.refuse(what, reason, "");
                return None;
            }
            namespace::plan::plan_open(b, namespace, file.flags)
        }
        FileKind::Memfd(memfd) => {
            let Some(&(_, master)) = m.masters.get(&memfd.inode_id) else {
                let reason = format!("memfd {} is not in the images", memfd.inode_id);
                m.report.refuse(format!("descriptor {fd}"), reason, "");
                return None;
            };
            if memfd::plan::may_be_first(file.flags) && m.own.memfds_given.insert(memfd.inode_id) {
                memfd::plan::plan_first(b, memfd, master, file.flags)
            } else {
                memfd::plan::plan_open(b, memfd, master, file.flags)
            }
        }
        FileKind::Terminal(terminal) if terminal.node.path.is_empty() => {
            let what = format!("descriptor {fd} (terminal)");
            terminals::refuse_not_given(m, terminal.info_id, &what);
            return None;
        }
        FileKind::Terminal(terminal) => {
            let (host, settings) = (m.host, m.settings);
            match tty::plan::path(terminal, host.terminal.as_deref(), settings.shell_job) {
                Ok(path) => b.open_path(path, regular::plan::open_flags(file.flags) | NOCTTY),
                Err((reason, remedy)) => {
                    m.report
                        .refuse(format!("descriptor {fd} (terminal)"), reason, remedy);
                    return None;
                }
            }
        }
        FileKind::External(file) => {
            let key = String::from_utf8_lossy(&file.key).into_owned();
            let remedy = format!("give it with --inherit-fd fd[N]:{key}");
            let what = format!("descriptor {fd} ({key})");
            m.report
                .refuse(what, "it was somebody else's at the dump", &remedy);
            return None;
        }
        FileKind::Inherited(_) | FileKind::Queue(_) => unreachable!("it was taken above"),
        FileKind::Unsupported(name) => {
            let what = format!("descriptor {fd} ({name})");
            m.report.refuse(what, "this kind is not restored yet", "");
            return None;
        }
        FileKind::Pipe(_) | FileKind::Fifo(_) | FileKind::Unix(_) => {
            unreachable!("pipes and pairs of sockets are made all ends at once")
        }
    };
    Some(made)
}

/// Returns the name of an interface that a socket needs and that is not there.
fn missing_interface(m: &Making<'_>, file: &OpenFile) -> Option<Vec<u8>> {
    let known = &m.host.interfaces;
    let is_missing = |name: &&Vec<u8>| !name.is_empty() && !known.contains_key(*name);
    match &file.kind {
        FileKind::Inet(socket) => inet::plan::names(socket).find(is_missing).cloned(),
        FileKind::Packet(socket) => packet::plan::names(socket).find(is_missing).cloned(),
        FileKind::Tun(tun) => tun::plan::name(tun).filter(is_missing).cloned(),
        _ => None,
    }
}

const NOCTTY: u32 = libc::O_NOCTTY as u32;
/// What `F_SETFL` changes (`SETFL_MASK`, `fs/fcntl.c`), less O_ASYNC, which follows when the owner is known.
pub const SETFL: u32 =
    (libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME) as u32;

/// Adds status flags that a description of no path was not made with.
pub fn plan_flags(b: &mut Builder, fd: i32, file: &OpenFile) {
    let given = match &file.kind {
        // Its flags are those of whoever gave it.
        FileKind::Inherited(_) => SETFL,
        // Opened with all of its flags.
        FileKind::Regular(_)
        | FileKind::Device(_)
        | FileKind::Terminal(_)
        | FileKind::Memfd(_)
        | FileKind::Tun(_)
        | FileKind::Namespace(_)
        | FileKind::Queue(_) => SETFL,
        FileKind::EventFd(_)
        | FileKind::TimerFd(_)
        | FileKind::SignalFd(_)
        | FileKind::PidFd(_)
        | FileKind::Inotify(_) => libc::O_NONBLOCK as u32,
        _ => 0,
    };
    if file.flags & SETFL & !given != 0 {
        set_flags(b, fd, file.flags & SETFL);
    }
}

pub fn set_flags(b: &mut Builder, fd: i32, flags: u32) {
    let args = [fd as u64, libc::F_SETFL as u64, u64::from(flags)];
    b.call_returns(libc::SYS_fcntl, &args, 0);
}

/// Adds the moves that bring a description from the number it was made at to all of its own.
pub fn place(m: &mut Making<'_>, made: i32, id: FileId, entries: &[FdEntry]) {
    for entry in entries {
        if entry.fd != made {
            plan_dup(&mut m.b, made, entry.fd, entry.cloexec);
        } else if entry.cloexec {
            let args = [made as u64, libc::F_SETFD as u64, libc::FD_CLOEXEC as u64];
            m.b.call_returns(libc::SYS_fcntl, &args, 0);
        }
    }
    if entries.iter().all(|entry| entry.fd != made) {
        m.b.close(made);
    }
    if let Some(entry) = entries.first() {
        m.own.placed.insert(id, entry.fd);
        m.made.insert(id, (m.own.task.pid, entry.fd));
    }
}

/// As [`place`], for one that stays where it is too.
pub fn place_kept(m: &mut Making<'_>, made: i32, id: FileId, entries: &[FdEntry]) {
    for entry in entries {
        plan_dup(&mut m.b, made, entry.fd, entry.cloexec);
    }
    if let Some(entry) = entries.first() {
        m.own.placed.insert(id, entry.fd);
    }
}

pub fn plan_dup(b: &mut Builder, from: i32, to: i32, cloexec: bool) {
    assert!(
        !b.fds.is_used(to),
        "descriptor {to} is free before it is made"
    );
    let flags = if cloexec { libc::O_CLOEXEC as u64 } else { 0 };
    let args = [from as u64, to as u64, flags];
    b.call_returns(libc::SYS_dup3, &args, i64::from(to));
    b.fds.take(to);
}

/// Adds a duplicate out of the way of all numbers of the snapshot, and returns it.
pub fn raise(m: &mut Making<'_>, fd: i32) -> i32 {
    let to = m.b.fds.take_from(m.above);
    let args = [fd as u64, libc::F_DUPFD as u64, m.above as u64];
    m.b.call_returns(libc::SYS_fcntl, &args, i64::from(to));
    to
}

/// Adds the memfds' inodes with their content, each at a temporary number: descriptors and mappings are opened from there.
fn plan_memfds(m: &mut Making<'_>) {
    for inode in &m.snapshot.memfds {
        if m.sharing.memfds.get(&inode.id) != Some(&m.own.member) {
            continue;
        }
        let name = String::from_utf8_lossy(&inode.name).into_owned();
        m.b.object(Object::Named(format!("memfd {name}")));
        let fd = memfd::plan::plan_create(&mut m.b, inode);
        let master = raise(m, fd);
        m.b.close(fd);
        m.masters.insert(inode.id, (m.own.task.pid, master));
        let memory = m
            .snapshot
            .shared
            .iter()
            .find(|memory| memory.id == inode.shmid);
        if let Some(memory) = memory.filter(|memory| !memory.pages.is_empty()) {
            let (len, page) = (memfd::plan::mapped_len(inode), memfd::plan::page(inode));
            let Some(at) = m.holes.take_aligned(len, page) else {
                m.report.refuse(
                    format!("memfd {name}"),
                    "no free address space to fill it in",
                    "",
                );
                continue;
            };
            memfd::plan::plan_map(&mut m.b, inode, master, at);
            fill::plan_fill(m, &memory.pages, Target::At(at), "content of a memfd");
            memfd::plan::plan_unmap(&mut m.b, inode, at);
        }
        memfd::plan::plan_early_seals(&mut m.b, inode, master);
    }
}

/// Adds the end of the temporaries that memory was mapped from, and closes the page files.
pub fn plan_cleanup(m: &mut Making<'_>) {
    for inode in &m.snapshot.memfds {
        let master = m.masters.get(&inode.id);
        if let Some(&(_, master)) = master.filter(|(pid, _)| *pid == m.own.task.pid) {
            let name = String::from_utf8_lossy(&inode.name).into_owned();
            m.b.object(Object::Named(format!("memfd {name}")));
            memfd::plan::plan_late_seals(&mut m.b, inode, master);
            m.b.close(master);
        }
    }
    terminals::plan_finish(m);
    m.b.object(Object::Task("descriptors for other tasks"));
    for fd in std::mem::take(&mut m.own.held) {
        m.b.close(fd);
    }
    m.b.object(Object::Task("page files"));
    let services: Vec<i32> = std::mem::take(&mut m.own.services).into_values().collect();
    close_all(&mut m.b, &services);
}

/// Adds the locks that the task holds, or its open file descriptions.
pub fn plan_locks(m: &mut Making<'_>) {
    let own = m.snapshot.locks.iter();
    for lock in own.filter(|lock| lock.pid == m.own.task.pid) {
        locks::plan::plan_lock(&mut m.b, lock);
    }
}

/// Adds the close of descriptors whose numbers follow one another.
fn close_all(b: &mut Builder, fds: &[i32]) {
    let (Some(first), Some(last)) = (fds.iter().min(), fds.iter().max()) else {
        return;
    };
    fds.iter().for_each(|&fd| b.fds.release(fd));
    let args = [*first as u64, *last as u64, 0];
    b.call_returns(libc::SYS_close_range, &args, 0);
}

/// Returns whether other sockets of the network are made at the port of this one.
fn has_twins(snapshot: &Snapshot, socket: &InetSocket) -> bool {
    let mut files = snapshot.files.iter();
    files.any(
        |file| matches!(&file.kind, FileKind::Inet(other) if inet::plan::are_twins(socket, other)),
    )
}

/// Adds what sockets of the network get when all have their names.
pub fn plan_names_taken(m: &mut Making<'_>) {
    for file in &m.snapshot.files {
        let (Some(&fd), true) = (m.own.placed.get(&file.id), is_holder(m, file.id)) else {
            continue;
        };
        if let FileKind::Inet(socket) = &file.kind {
            m.b.object(object(fd, file));
            let has_twins = has_twins(m.snapshot, socket);
            inet::plan::plan_reuse(&mut m.b, fd, socket, has_twins);
        }
    }
}

/// Adds the terminal of a job that was in its foreground.
pub fn plan_terminal(m: &mut Making<'_>) {
    let is_own_group = m.own.task.pgid == m.own.task.pid;
    if !(m.settings.shell_job && m.settings.foreground && is_own_group) {
        return;
    }
    for file in &m.snapshot.files {
        let (FileKind::Terminal(terminal), Some(&fd)) = (&file.kind, m.own.placed.get(&file.id))
        else {
            continue;
        };
        let infos = &m.snapshot.terminals;
        let info = infos.iter().find(|info| info.id == terminal.info_id);
        let is_outer = |info: &&TerminalInfo| {
            !terminals::is_inside(m.snapshot, info.terminal()) && !info.is_hung_up()
        };
        let info = info.filter(is_outer);
        if let Some(info) = info.filter(|info| info.pgrp == m.own.task.pgid) {
            return tty::plan::plan_foreground(&mut m.b, fd, info, m.own.task.pgid);
        }
    }
}

/// `F_SETOWN_EX`, `F_SETSIG` (`include/uapi/asm-generic/fcntl.h`).
const F_SETOWN_EX: u64 = 15;
const F_SETSIG: u64 = 10;

/// Adds who gets the signals of descriptors, now that all threads are there to be named.
pub fn plan_owners(m: &mut Making<'_>) {
    for file in &m.snapshot.files {
        let (Some(&fd), true) = (m.own.placed.get(&file.id), is_holder(m, file.id)) else {
            continue;
        };
        let owner = file.owner;
        if owner.pid != 0 {
            m.b.object(object(fd, file));
            let [uid, euid, ..] = m.host.creds.uids;
            let is_other = (owner.uid, owner.euid) != (uid, euid);
            if is_other {
                switch_user(&mut m.b, owner.uid, owner.euid);
            }
            let bytes = [owner.kind.to_le_bytes(), owner.pid.to_le_bytes()].concat();
            let at = m.b.put(&bytes);
            // An owner that has ended is forgotten: its number may be anybody's by now.
            m.b.call_or(libc::SYS_fcntl, &[fd as u64, F_SETOWN_EX, at], libc::ESRCH);
            if is_other {
                switch_user(&mut m.b, uid, euid);
            }
        }
        if owner.signal != 0 {
            m.b.object(object(fd, file));
            let args = [fd as u64, F_SETSIG, u64::from(owner.signal)];
            m.b.call_returns(libc::SYS_fcntl, &args, 0);
        }
        if file.flags & libc::O_ASYNC as u32 != 0 {
            m.b.object(object(fd, file));
            set_flags(&mut m.b, fd, file.flags & (SETFL | libc::O_ASYNC as u32));
        }
    }
}

/// Adds a change of the real and effective user id that leaves the saved one, and with it the way back.
pub fn switch_user(b: &mut Builder, uid: u32, euid: u32) {
    let args = [u64::from(uid), u64::from(euid), u64::from(u32::MAX)];
    b.call_returns(libc::SYS_setresuid, &args, 0);
}
