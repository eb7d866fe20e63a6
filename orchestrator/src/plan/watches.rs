//! What each epoll watches: added by the task that makes the epoll, under the number that the watch was added with.

use super::descriptors::{is_holder, object, plan_dup, plan_pidfd, raise};
use super::pidfds::is_late;
use super::program::Object;
use super::task::Making;
use crate::objects::epoll;
use crate::snapshot::{FdEntry, FileId, FileKind};

/// When watches are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// When all descriptors are there.
    Early,
    /// When those of threads are there too: by the epolls that watch one.
    Late,
}

/// Adds what each epoll watches, once all descriptors are there.
pub fn plan_watches(m: &mut Making<'_>, when: When) {
    for file in &m.snapshot.files {
        let (FileKind::Epoll(epoll), Some(&fd), true) = (
            &file.kind,
            m.own.placed.get(&file.id),
            is_holder(m, file.id),
        ) else {
            continue;
        };
        let mut watched = epoll.targets.iter().filter_map(|target| {
            let by_number = m.own.task.fds.iter().find(|entry| entry.fd == target.fd);
            let file = match target.file {
                FileId(0) => by_number?.file,
                file => file,
            };
            m.files.get(&file)
        });
        if watched.any(|file| is_late(m, file)) != (when == When::Late) {
            continue;
        }
        if let Some(poll) = epoll.busy_poll {
            m.b.object(object(fd, file));
            epoll::plan::plan_busy_poll(&mut m.b, fd, poll);
        }
        for target in &epoll.targets {
            m.b.object(Object::Descriptor(
                fd,
                format!("epoll, watch of {}", target.fd),
            ));
            let now = m.own.task.fds.iter().find(|entry| entry.fd == target.fd);
            let is_there = now.is_some_and(|entry| target.file.0 == 0 || entry.file == target.file);
            if is_there {
                epoll::plan::plan_add(&mut m.b, fd, target);
            } else {
                plan_moved_watch(m, fd, target, (now.copied(), when));
            }
        }
    }
}

/// Adds a watch of a description under a number that it no longer has: for that moment it gets the number again.
fn plan_moved_watch(
    m: &mut Making<'_>,
    epoll: i32,
    target: &crate::snapshot::EpollTarget,
    (now, when): (Option<FdEntry>, When),
) {
    let Some((watched, is_temporary)) = watched(m, target.file, when) else {
        m.report.refuse(
            format!("descriptor {epoll} (epoll)"),
            format!(
                "it watches {}, which the task has closed, but another keeps open",
                target.fd
            ),
            "",
        );
        return;
    };
    let kept = now.map(|entry| {
        let kept = raise(m, entry.fd);
        m.b.close(entry.fd);
        (entry, kept)
    });
    plan_dup(&mut m.b, watched, target.fd, false);
    epoll::plan::plan_add(&mut m.b, epoll, target);
    m.b.close(target.fd);
    if let Some((entry, kept)) = kept {
        plan_dup(&mut m.b, kept, entry.fd, entry.cloexec);
        m.b.close(kept);
    }
    if is_temporary {
        m.b.close(watched);
    }
}

/// Returns a descriptor of what is watched, and whether it is a temporary one.
fn watched(m: &mut Making<'_>, file: FileId, when: When) -> Option<(i32, bool)> {
    if let Some(&fd) = m.own.placed.get(&file) {
        return Some((fd, false));
    }
    let &(pid, theirs) = m.made.get(&file)?;
    // By then temporaries are closed.
    if when == When::Late && theirs >= m.above {
        return None;
    }
    if pid == m.own.task.pid {
        return Some((theirs, false));
    }
    let pidfd = plan_pidfd(m, pid);
    let fd =
        m.b.open(libc::SYS_pidfd_getfd, &[pidfd as u64, theirs as u64]);
    m.b.close(pidfd);
    let watched = raise(m, fd);
    m.b.close(fd);
    Some((watched, true))
}
