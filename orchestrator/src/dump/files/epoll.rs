//! What an epoll watches: told by the number that a file was added with, found by comparing open file descriptions.

use super::FileTable;
use crate::error::Refusal;
use crate::procfs::fdinfo;
use crate::snapshot::*;
use crate::sys::{Pid, RemoteFd, fd as kernel};
use std::cmp::Ordering;
use std::os::fd::OwnedFd;

/// An epoll that was found, and the watches that the kernel tells of it.
#[derive(Debug)]
pub(super) struct FoundEpoll {
    /// A process that has it, and its number there.
    pub(super) named_by: (Pid, RemoteFd),
    pub(super) id: FileId,
    pub(super) targets: Vec<fdinfo::EpollTarget>,
}

impl FileTable {
    /// Returns an epoll, whose watches are found later.
    pub(super) fn epoll(
        &mut self,
        info: fdinfo::Kind,
        own: &OwnedFd,
        named_by: (Pid, RemoteFd),
    ) -> FileKind {
        let targets = match info {
            fdinfo::Kind::Epoll(targets) => targets,
            _ => Vec::new(),
        };
        self.epolls.push(FoundEpoll {
            named_by,
            id: self.next_id(),
            targets,
        });
        let busy_poll = kernel::busy_poll(own);
        FileKind::Epoll(Epoll {
            busy_poll: busy_poll.map(|(usecs, budget, is_preferred)| BusyPoll {
                usecs,
                budget,
                is_preferred,
            }),
            ..Epoll::default()
        })
    }

    /// Finds the open file description behind each watch: the descriptor it was added by may be closed, reused, or another
    /// process's.
    pub(super) fn resolve_epolls(&mut self, refusals: &mut Vec<Refusal>) {
        for epoll in std::mem::take(&mut self.epolls) {
            let watches = self.watches(&epoll, refusals);
            if let Some(file) = self.files.iter_mut().find(|file| file.id == epoll.id)
                && let FileKind::Epoll(now) = &mut file.kind
            {
                now.targets = watches;
            }
        }
    }

    fn watches(&self, epoll: &FoundEpoll, refusals: &mut Vec<Refusal>) -> Vec<EpollTarget> {
        let (pid, fd) = epoll.named_by;
        let mut watches: Vec<EpollTarget> = Vec::new();
        for target in &epoll.targets {
            let earlier = watches.iter().filter(|watch| watch.fd == target.tfd);
            let nth = earlier.count() as u32;
            let is_it = |&(holder, entry): &(Pid, FdEntry)| {
                let watch = (fd, target.tfd, nth);
                let number = RemoteFd(entry.fd);
                kernel::kcmp_epoll_tfd(holder.leader(), number, pid.leader(), watch)
                    .is_ok_and(|order| order == Ordering::Equal)
            };
            match self.candidates(pid, target.tfd).find(is_it) {
                Some((_, entry)) => watches.push(EpollTarget {
                    fd: target.tfd,
                    file: entry.file,
                    events: target.events,
                    data: target.data,
                    dev: target.sdev,
                    inode: target.ino,
                    pos: target.pos.max(0) as u64,
                }),
                None => refusals.push(Refusal {
                    task: pid.0,
                    object: format!("descriptor {fd} (epoll)"),
                    reason: format!(
                        "it watches a file added as descriptor {}, which no descriptor refers to any more",
                        target.tfd
                    ),
                    remedy: String::new(),
                }),
            }
        }
        watches
    }

    /// Returns all descriptors, those first that are most likely what was added as this one.
    fn candidates(&self, pid: Pid, tfd: i32) -> impl Iterator<Item = (Pid, FdEntry)> {
        let rank = move |(holder, entry): &(Pid, FdEntry)| match (*holder == pid, entry.fd == tfd) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        (0..4).flat_map(move |wanted| {
            let all = self.entries.iter().copied();
            all.filter(move |entry| rank(entry) == wanted)
        })
    }
}
