//! What a dump cannot keep and the program can live without: found here, told in one line.

use super::Error;
use super::collect::TaskFacts;
use super::files::FileTable;
use crate::procfs;
use crate::snapshot::{FileKind, IpcNamespace, OpenFile, ShmSegment};
use crate::support::{Loss, Lost};
use crate::sys::{self, Pid, fd::Kcmp};
use crate::tracee::Frozen;
use std::cmp::Ordering;

/// Finds what can be told from outside and of a process that runs.
///
/// # Errors
/// `/proc` cannot be read.
pub fn collect_early(pid: Pid) -> Result<Vec<Loss>, Error> {
    let mut losses = Vec::new();
    cgroups(pid, &mut losses)?;
    labels(pid, &mut losses);
    if has_undo_list(pid) {
        losses.push(Loss::of(Lost::SemaphoreUndo));
    }
    if let Some(id) = audit_session(pid) {
        losses.push(Loss::with(Lost::AuditSession, id));
    }
    Ok(losses)
}

/// Finds what the descriptors tell.
pub fn of_files(tasks: &[TaskFacts], files: &FileTable) -> Vec<Loss> {
    let mut losses = files.losses.clone();
    for file in &files.files {
        silenced_watches(file, tasks, &mut losses);
    }
    losses
}

/// A restored process is made by the first thread of its parent.
pub fn of_children(frozen: &Frozen) -> Result<Vec<Loss>, Error> {
    let mut losses = Vec::new();
    for thread in frozen.threads().iter().skip(1) {
        for child in procfs::tasks::read_children(frozen.pid(), thread.tid)? {
            let what = format!("{} by thread {}", child.0, thread.tid.0);
            losses.push(Loss::with(Lost::ParentThread, what));
        }
    }
    Ok(losses)
}

/// Nobody can set when something was last done to a segment, or by whom.
pub fn of_segments(segments: &[ShmSegment], own: Option<&IpcNamespace>) -> Vec<Loss> {
    let mut ids: Vec<String> = segments.iter().map(|s| s.perm.id.to_string()).collect();
    if let Some(own) = own {
        let sets = own.semaphores.iter().map(|set| set.perm.id);
        ids.extend(sets.map(|id| format!("semaphores {id}")));
        let queues = own.queues.iter().map(|queue| queue.perm.id);
        ids.extend(queues.map(|id| format!("queue {id}")));
    }
    let all = ids.join(", ");
    let has_any = !ids.is_empty();
    has_any
        .then(|| Loss::with(Lost::IpcTimes, format!("of {all}")))
        .into_iter()
        .collect()
}

/// Returns the line that names them all; `None` where nothing is lost.
pub fn words(losses: &[Loss]) -> Option<String> {
    let words: Vec<String> = losses.iter().map(ToString::to_string).collect();
    (!words.is_empty()).then(|| format!("not kept: {}", words.join("; ")))
}

/// A restored process is in the cgroups of whoever restores it.
fn cgroups(pid: Pid, losses: &mut Vec<Loss>) -> Result<(), Error> {
    let theirs = procfs::attributes::read_cgroup(pid)?;
    let ours = procfs::attributes::read_cgroup(Pid::this())?;
    for group in theirs.iter().filter(|group| !ours.contains(group)) {
        let path = String::from_utf8_lossy(&group.path);
        let controllers = String::from_utf8_lossy(&group.controllers);
        losses.push(Loss::with(Lost::Cgroup, format!("{controllers}:{path}")));
    }
    Ok(())
}

/// The label of a process under a security module, and those that what it makes will get.
fn labels(pid: Pid, losses: &mut Vec<Loss>) {
    let read = |pid: Pid, name: &str| procfs::attributes::read_label(pid, name);
    let Some(current) = read(pid, "current") else {
        return;
    };
    if read(Pid::this(), "current").as_ref() != Some(&current) {
        let label = String::from_utf8_lossy(&current).into_owned();
        losses.push(Loss::with(Lost::SecurityLabel, label));
    }
    for name in ["exec", "fscreate", "keycreate", "sockcreate"] {
        if let Some(label) = read(pid, name) {
            let label = format!("{name} {}", String::from_utf8_lossy(&label));
            losses.push(Loss::with(Lost::SecurityLabel, label));
        }
    }
}

/// Returns whether the process may have adjustments of System V semaphores to undo at its end. Threads share a list from
/// their start, even an empty one, so that it means something only where there are semaphores.
fn has_undo_list(pid: Pid) -> bool {
    let is_none =
        sys::fd::kcmp(Pid::this().leader(), pid.leader(), Kcmp::SysvSem) == Ok(Ordering::Equal);
    !is_none && (super::ipc::is_own(pid) || procfs::attributes::has_semaphores())
}

fn audit_session(pid: Pid) -> Option<u32> {
    let theirs = procfs::attributes::read_sessionid(pid).ok()?;
    let ours = procfs::attributes::read_sessionid(Pid::this()).ok();
    (theirs != u32::MAX && Some(theirs) != ours).then_some(theirs)
}

/// A watch of EPOLLONESHOT that has told its event has no event left, not even those that cannot be left out when a watch is
/// added (`do_epoll_ctl`, `fs/eventpoll.c`).
fn silenced_watches(file: &OpenFile, tasks: &[TaskFacts], losses: &mut Vec<Loss>) {
    const KEPT: u32 =
        (libc::EPOLLONESHOT | libc::EPOLLET | libc::EPOLLWAKEUP | libc::EPOLLEXCLUSIVE) as u32;
    let FileKind::Epoll(epoll) = &file.kind else {
        return;
    };
    let is_silent = |events: u32| events & libc::EPOLLONESHOT as u32 != 0 && events & !KEPT == 0;
    let mut fds = tasks.iter().flat_map(|facts| &facts.task.fds);
    let fd = fds.find(|entry| entry.file == file.id);
    for target in epoll
        .targets
        .iter()
        .filter(|target| is_silent(target.events))
    {
        let epoll = fd.map_or(-1, |entry| entry.fd);
        losses.push(Loss::with(
            Lost::SilencedWatch,
            format!("of descriptor {} by descriptor {epoll}", target.fd),
        ));
    }
}
