//! Descriptors of POSIX message queues: regular files of a file system of their own.

use super::fetch::Fetched;
use super::{FileTable, Refused};
use crate::dump::queues::FoundQueue;
use crate::snapshot::{FileKind, QueueFile};
use crate::sys::file;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// `MQUEUE_MAGIC` (`ipc/mqueue.c`).
const MQUEUE_MAGIC: i64 = 0x1980_0202;
/// Size that every queue tells (`FILENT_SIZE`, `ipc/mqueue.c`).
const SIZE: u64 = 80;

impl FileTable {
    /// Returns whether this is a queue.
    pub(super) fn is_queue(&self, seen: &Fetched) -> bool {
        seen.stat.kind() == libc::S_IFREG
            && seen.stat.size == SIZE
            && seen.info.flags & libc::O_PATH as u32 == 0
            && file::fstatfs(&seen.own).is_ok_and(|system| system.magic == MQUEUE_MAGIC)
    }

    /// Returns the queue, which is read when nothing can refuse the dump any more.
    ///
    /// # Errors
    /// It cannot be opened for both directions.
    pub(super) fn queue(&mut self, seen: &Fetched, pos: u64) -> Result<FileKind, Refused> {
        let refused = |reason: String| (reason, String::new());
        if pos != 0 {
            return Err(refused("its state was read as a file, in parts".into()));
        }
        let is_unlinked = seen.stat.nlink == 0;
        let link = &seen.link[..];
        let link = link.strip_suffix(super::ghosts::DELETED).unwrap_or(link);
        let name = link.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        // One that was opened by the path of a mount has it, others the bare name.
        let at_link = seen.at_link.as_ref();
        let is_path = at_link.is_some_and(|at| (at.dev, at.ino) == (seen.stat.dev, seen.stat.ino));
        if !is_path && link.len() != name.len() + 1 {
            return Err(refused("the path that it was opened by is gone".into()));
        }
        let known = self.queues.iter().find(|queue| queue.is(&seen.stat));
        let id = match known {
            Some(queue) => queue.id,
            None => {
                let mut options = OpenOptions::new();
                options.read(true).write(true);
                options.custom_flags(libc::O_NONBLOCK);
                let path = format!("/proc/self/fd/{}", seen.own.as_raw_fd());
                let own = options
                    .open(path)
                    .map_err(|error| refused(error.to_string()))?;
                let id = self.queues.len() as u32 + 1;
                self.queues.push(FoundQueue {
                    id,
                    name: name.to_vec(),
                    is_unlinked,
                    dev: seen.stat.dev,
                    ino: seen.stat.ino,
                    link: seen.link.clone(),
                    own: own.into(),
                });
                id
            }
        };
        Ok(FileKind::Queue(QueueFile {
            queue: id,
            path: match is_path {
                true => link.to_vec(),
                false => Vec::new(),
            },
        }))
    }
}
