//! POSIX message queues: those that the tree has open, and all of an IPC namespace of its own. What waits in one is had by
//! taking all of it and putting it back, which nobody else may see.

use super::Error;
use super::collect::TaskFacts;
use crate::error::Refusal;
use crate::procfs::mqueue;
use crate::snapshot::{PosixMessage, PosixQueue, QueueNotice};
use crate::support::{Loss, Lost};
use crate::sys::{self, Pid, file, ipc, mqueue as kernel};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;

/// `SIGEV_SIGNAL`, `SIGEV_NONE` (`include/uapi/asm-generic/siginfo.h`).
const SIGEV_SIGNAL: u32 = 0;
const SIGEV_NONE: u32 = 1;
/// Most bytes of a queue if each of its messages were the largest that it takes: so much room is needed to take them.
const MOST: u64 = 1 << 30;

/// A queue that is to be kept.
#[derive(Debug)]
pub struct FoundQueue {
    /// Its id.
    pub id: u32,
    /// The name that it has or had.
    pub name: Vec<u8>,
    /// It has none any more.
    pub is_unlinked: bool,
    /// Device: one for each IPC namespace.
    pub dev: (u32, u32),
    /// Inode.
    pub ino: u64,
    /// What descriptors of it are called.
    pub link: Vec<u8>,
    /// It, open for both directions, without waiting.
    pub own: OwnedFd,
}

impl FoundQueue {
    /// Returns whether a file is this queue.
    pub fn is(&self, stat: &file::FileStat) -> bool {
        (stat.dev, stat.ino) == (self.dev, self.ino)
    }

    fn object(&self) -> String {
        format!(
            "POSIX message queue /{}",
            String::from_utf8_lossy(&self.name)
        )
    }

    fn refused(&self, task: i32, reason: impl Into<String>) -> Refusal {
        Refusal {
            task,
            object: self.object(),
            reason: reason.into(),
            remedy: String::new(),
        }
    }
}

/// Adds the queues of the calling thread's IPC namespace that no descriptor refers to, and returns the device of all there.
///
/// # Errors
/// They cannot be listed or opened.
pub fn add_all(queues: &mut Vec<FoundQueue>) -> Result<Option<(u32, u32)>, Error> {
    let folder = match ipc::message_queues() {
        Ok(folder) => folder,
        // A kernel without.
        Err(error) if error.errno as i32 == libc::ENODEV => return Ok(None),
        Err(error) => return Err(Error::Own(error)),
    };
    let dev = file::statx(&folder).map_err(Error::Own)?.dev;
    let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
    for entry in std::fs::read_dir(path).map_err(Error::Descriptors)? {
        let entry = entry.map_err(Error::Descriptors)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        options.custom_flags(libc::O_NONBLOCK);
        let own: OwnedFd = options
            .open(entry.path())
            .map_err(Error::Descriptors)?
            .into();
        let stat = file::statx(&own).map_err(Error::Own)?;
        if !queues.iter().any(|queue| queue.is(&stat)) {
            let name = entry.file_name().into_vec();
            queues.push(FoundQueue {
                id: queues.len() as u32 + 1,
                link: [b"/", &name[..]].concat(),
                name,
                is_unlinked: false,
                dev,
                ino: stat.ino,
                own,
            });
        }
    }
    Ok(Some(dev))
}

/// Returns the device of the queues of our own IPC namespace.
pub fn own_device() -> Result<Option<(u32, u32)>, Error> {
    match ipc::message_queues() {
        Ok(folder) => Ok(Some(file::statx(&folder).map_err(Error::Own)?.dev)),
        Err(error) if error.errno as i32 == libc::ENODEV => Ok(None),
        Err(error) => Err(Error::Own(error)),
    }
}

/// Refuses queues that cannot be kept: of another IPC namespace, that others have open too, that nobody could read and put back
/// as it was.
///
/// # Errors
/// One does not tell its state.
pub fn refuse(
    queues: &[FoundQueue],
    tasks: &[TaskFacts],
    (dev, is_own, is_portable): (Option<(u32, u32)>, bool, bool),
    refusals: &mut Vec<Refusal>,
) -> Result<(), Error> {
    let pids: BTreeSet<i32> = tasks.iter().map(|facts| facts.task.pid).collect();
    let root = tasks.first().map_or(0, |facts| facts.task.pid);
    for queue in queues {
        if is_portable {
            refusals.push(Refusal {
                remedy: "leave --portable out".into(),
                ..queue.refused(root, "the portable format has none")
            });
        }
        if dev != Some(queue.dev) {
            refusals.push(queue.refused(root, "it is of another IPC namespace than its process"));
            continue;
        }
        if let Some(reason) = obstacle(queue, &pids)? {
            refusals.push(queue.refused(root, reason));
        }
    }
    if !is_own && !queues.is_empty() {
        refuse_outside(queues, &pids, root, refusals);
    }
    Ok(())
}

fn obstacle(queue: &FoundQueue, pids: &BTreeSet<i32>) -> Result<Option<String>, Error> {
    let told = mqueue::read(&queue.own)?;
    let is = kernel::attributes(&queue.own).map_err(Error::Own)?;
    let is_told = told.notify_pid != 0;
    Ok(match told.notify {
        _ if is_told && !pids.contains(&told.notify_pid) => Some(format!(
            "process {}, which is outside of what is dumped, is told of its next message",
            told.notify_pid
        )),
        kind if is_told && !matches!(kind, SIGEV_SIGNAL | SIGEV_NONE) => {
            Some("a thread is made for its next message (SIGEV_THREAD)".into())
        }
        _ if is_told && is.messages > 0 => Some(
            "messages wait in it, and a process is told of the next that comes to an empty one: it would be told of what is put back"
                .into(),
        ),
        _ if is.messages.saturating_mul(is.message_size) > MOST => {
            Some("it takes more room to read than a gigabyte".into())
        }
        _ => None,
    })
}

/// Refuses queues of the host's IPC namespace that others have open: they would see that messages are gone for a moment, and
/// lose what a restore puts back.
fn refuse_outside(
    queues: &[FoundQueue],
    pids: &BTreeSet<i32>,
    root: i32,
    refusals: &mut Vec<Refusal>,
) {
    for queue in queues {
        let except = |pid: Pid| pids.contains(&pid.0) || pid == Pid::this();
        if let Some(pid) = mqueue::opener(&queue.link, (queue.dev, queue.ino), except) {
            let reason =
                format!("process {pid}, which is outside of what is dumped, has it open too");
            refusals.push(queue.refused(root, reason));
        }
    }
}

/// Reads the queues. They are as they were then, but for their times.
///
/// # Errors
/// One cannot be read.
pub fn read(queues: &[FoundQueue], losses: &mut Vec<Loss>) -> Result<Vec<PosixQueue>, Error> {
    queues.iter().map(|queue| read_one(queue, losses)).collect()
}

fn read_one(queue: &FoundQueue, losses: &mut Vec<Loss>) -> Result<PosixQueue, Error> {
    let failed = |source: sys::Error| Error::Queue {
        name: String::from_utf8_lossy(&queue.name).into_owned(),
        source,
    };
    let is = kernel::attributes(&queue.own).map_err(failed)?;
    let told = mqueue::read(&queue.own)?;
    let messages = kernel::messages(&queue.own).map_err(failed)?;
    let messages = messages.into_iter();
    let messages = messages.map(|(priority, bytes)| PosixMessage { priority, bytes });
    let notice = (told.notify_pid != 0).then_some(QueueNotice {
        pid: told.notify_pid,
        kind: told.notify,
        signal: told.signal,
    });
    if notice.is_some_and(|notice| notice.kind == SIGEV_SIGNAL) {
        let name = String::from_utf8_lossy(&queue.name).into_owned();
        losses.push(Loss::with(Lost::QueueNoticeValue, format!("/{name}")));
    }
    let stat = file::statx(&queue.own).map_err(failed)?;
    Ok(PosixQueue {
        id: queue.id,
        name: queue.name.clone(),
        is_unlinked: queue.is_unlinked,
        mode: stat.mode & 0o7777,
        uid: stat.uid,
        gid: stat.gid,
        max_messages: is.max_messages,
        message_size: is.message_size,
        messages: messages.collect(),
        notice,
        seen: Some((stat.ino, mqueue::nanoseconds(stat.ctime))),
    })
}
