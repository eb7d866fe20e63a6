//! Locks on files, as each descriptor's fdinfo tells them.

use super::{Fetched, FileTable, Inode, Refused};
use crate::error::Refusal;
use crate::procfs::locks::{Lock, LockKind, LockMode};
use crate::snapshot::*;
use crate::sys::Pid;

impl FileTable {
    /// Returns the locks that a descriptor tells of, or why they are not kept.
    pub(super) fn locks_of(&self, pid: Pid, seen: &Fetched) -> Result<Vec<FileLock>, Refused> {
        let held = seen.info.locks.iter().filter(|lock| !lock.blocked);
        let kept = held.map(|lock| kept(lock, pid, seen));
        let kept: Vec<FileLock> = kept.collect::<Result<_, _>>()?;
        if !kept.is_empty() && !self.choices.file_locks {
            let reason = "it holds a file lock or lease, which others outside may wait for";
            return Err((reason.into(), "use --file-locks to keep it".into()));
        }
        Ok(kept)
    }

    /// Adds the locks of a descriptor, one of `entries`, that was told of without them.
    pub(super) fn add_late_locks(
        &mut self,
        pid: Pid,
        seen: Fetched,
        entries: &[FdEntry],
        refusals: &mut Vec<Refusal>,
    ) {
        let file_of = |fd: i32| {
            let place = entries.binary_search_by_key(&fd, |entry| entry.fd).ok()?;
            Some(entries[place].file)
        };
        let file = file_of(seen.fd.0);
        match self.locks_of(pid, &seen) {
            Ok(locks) => {
                let inode = (seen.stat.dev, seen.stat.ino);
                let is_new = !self.locks.iter().any(|lock| {
                    lock.kind != LockType::Posix && lock.pid == pid.0 && file_of(lock.fd) == file
                });
                self.add_locks(locks, inode, is_new);
            }
            Err((reason, remedy)) => {
                let name = String::from_utf8_lossy(&seen.link);
                refusals.push(Refusal {
                    task: pid.0,
                    object: format!("descriptor {} ({name})", seen.fd),
                    reason,
                    remedy,
                });
            }
        }
    }

    /// Adds locks, each once: one of a process is told by all of its descriptors on the file, one of an open file description by
    /// all descriptors on that.
    pub(super) fn add_locks(&mut self, locks: Vec<FileLock>, inode: Inode, is_new: bool) {
        for lock in locks {
            let is_first = match lock.kind {
                LockType::Posix => {
                    let key = (lock.pid, inode, lock.start, lock.len);
                    self.posix_locks.insert(key)
                }
                _ => is_new,
            };
            if is_first {
                self.locks.push(lock);
            }
        }
    }
}

fn kept(lock: &Lock, pid: Pid, seen: &Fetched) -> Result<FileLock, Refused> {
    let kind = match lock.kind {
        LockKind::Posix => LockType::Posix,
        LockKind::Ofd => LockType::Ofd,
        LockKind::Flock => LockType::Flock,
        LockKind::Lease { breaking: false } => LockType::Lease,
        LockKind::Lease { breaking: true } => {
            let reason = "its lease is being broken by somebody else";
            return Err((reason.into(), "try again when that has its way".into()));
        }
        LockKind::Other => {
            let reason = "it holds a lock of an unknown kind, which is not kept";
            return Err((reason.into(), String::new()));
        }
    };
    let len = match lock.end {
        Some(end) => end.saturating_sub(lock.start).saturating_add(1),
        None => 0,
    };
    Ok(FileLock {
        kind,
        is_write: lock.mode == LockMode::Write,
        pid: pid.0,
        fd: seen.fd.0,
        start: lock.start,
        len,
    })
}
