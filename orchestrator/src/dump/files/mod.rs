//! Descriptors and the open file descriptions behind them, each description once.
//!
//! Descriptors of the frozen process are fetched by `pidfd_getfd`: nothing is opened in the target, and what is asked of
//! the copy is asked of the same open file description. Duplicates are told by kcmp, and only among descriptors of one inode.

mod epoll;
mod ghosts;
mod locks;
mod memfd;
mod pipes;
mod sockets;
mod terminal;

use super::descriptor::{Class, Seen, classify};
use crate::build_id::build_id;
use crate::error::Refusal;
use crate::procfs::{self, fdinfo};
use crate::snapshot::*;
use crate::support::{Loss, Lost};
use crate::sys::{self, Pid, RemoteFd, fd as kernel, file};
use epoll::FoundEpoll;
use ghosts::FoundGhost;
use pipes::FoundPipe;
use sockets::FoundSocket;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::OwnedFd;

/// `HUGETLBFS_MAGIC` of `linux/magic.h`.
const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;

/// Returns a path as the kernel takes it; one with a zero inside cannot exist and becomes empty.
pub fn terminated(path: &[u8]) -> CString {
    CString::new(path).unwrap_or_default()
}

/// All open file descriptions of a dump.
#[derive(Debug, Default)]
pub struct FileTable {
    /// By ascending id.
    pub files: Vec<OpenFile>,
    /// memfd inodes.
    pub memfds: Vec<MemfdInode>,
    /// Terminals.
    pub terminals: Vec<TerminalInfo>,
    /// What of descriptors is not kept.
    pub losses: Vec<Loss>,
    /// Pipes; their bytes are read once nothing can refuse the dump any more.
    pipes: Vec<FoundPipe>,
    fifos: Vec<FoundPipe>,
    sockets: Vec<FoundSocket>,
    /// Locks on files.
    pub locks: Vec<FileLock>,
    /// Those of processes that were told: process, file, first byte, number of bytes.
    posix_locks: BTreeSet<(i32, Inode, u64, u64)>,
    epolls: Vec<FoundEpoll>,
    ghosts: Vec<FoundGhost>,
    choices: Choices,
    /// Mounts, once they were needed.
    mounts: Option<Vec<procfs::mountinfo::Mount>>,
    /// Descriptions for mappings, by path, inode of those that have none, and whether they can be written.
    mapped: BTreeMap<(Vec<u8>, Option<Inode>, bool), FileId>,
    memfd_files: Vec<(FileId, u64, OwnedFd)>,
    /// Descriptions by the inode that they are of, to compare the next ones with.
    known: BTreeMap<Inode, Vec<Known>>,
    /// Those that a descriptor refers to.
    described: BTreeSet<FileId>,
    /// All descriptors of all tasks.
    entries: Vec<(Pid, FdEntry)>,
}

/// What the user allows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choices {
    /// Most bytes of a deleted file that is kept.
    pub ghost_limit: u64,
    /// Locks on files are kept.
    pub file_locks: bool,
    /// A job of a shell: its terminal lies outside.
    pub shell_job: bool,
}

/// A device and an inode of it.
type Inode = ((u32, u32), u64);

/// A description that was seen, by a descriptor of it.
#[derive(Debug)]
struct Known {
    pid: Pid,
    fd: RemoteFd,
    id: FileId,
}

/// A descriptor that was fetched.
struct Fetched {
    fd: RemoteFd,
    own: OwnedFd,
    stat: file::FileStat,
    info: fdinfo::FdInfo,
    link: Vec<u8>,
}

/// Why an object is refused, and what would let it pass.
type Refused = (String, String);

impl FileTable {
    /// Returns an empty table.
    pub fn new(choices: Choices) -> Self {
        Self {
            choices,
            ..Self::default()
        }
    }

    fn next_id(&self) -> FileId {
        FileId(self.files.len() as u32 + 1)
    }

    fn add(&mut self, flags: u32, owner: Owner, kind: FileKind) -> FileId {
        let id = self.next_id();
        self.files.push(OpenFile {
            id,
            flags,
            owner,
            kind,
        });
        id
    }

    /// Adds the build ids of mapped files: nothing of the target is needed for that, so it does not wait for it.
    pub fn add_build_ids(&mut self) {
        for ((path, inode, _), id) in &self.mapped {
            if inode.is_none()
                && let Some(file) = self.files.iter_mut().find(|file| file.id == *id)
                && let FileKind::Regular(regular) = &mut file.kind
            {
                regular.build_id = build_id(path).unwrap_or_default();
            }
        }
    }

    /// Returns the description for mappings of this path, if there is one.
    pub fn mapped(&self, path: &[u8], writable: bool) -> Option<FileId> {
        let key = (path.to_vec(), None, writable);
        self.mapped.get(&key).copied()
    }

    /// Adds a description for mappings of this path.
    pub fn add_mapped(&mut self, path: &[u8], stat: &file::FileStat, writable: bool) -> FileId {
        let regular = regular_of(path, stat, 0);
        self.add_for_mapping((path.to_vec(), None, writable), regular)
    }

    /// Returns the description for mappings of a deleted file, which `own` refers to and had this name.
    ///
    /// # Errors
    /// As [`FileTable::ghost`].
    pub fn mapped_ghost(
        &mut self,
        own: &OwnedFd,
        stat: &file::FileStat,
        link: &[u8],
        writable: bool,
    ) -> Result<FileId, Refused> {
        let key = (link.to_vec(), Some((stat.dev, stat.ino)), writable);
        if let Some(&known) = self.mapped.get(&key) {
            return Ok(known);
        }
        let regular = self.ghost(own, stat, link, 0)?;
        Ok(self.add_for_mapping(key, regular))
    }

    fn add_for_mapping(
        &mut self,
        key: (Vec<u8>, Option<Inode>, bool),
        regular: RegularFile,
    ) -> FileId {
        let flags = match key.2 {
            true => libc::O_RDWR,
            false => libc::O_RDONLY,
        };
        let id = self.add(flags as u32, Owner::default(), FileKind::Regular(regular));
        self.mapped.insert(key, id);
        id
    }

    /// Adds a directory that a task stands in.
    pub fn add_directory(&mut self, path: &[u8], stat: &file::FileStat) -> FileId {
        let regular = regular_of(path, stat, 0);
        self.add(0, Owner::default(), FileKind::Regular(regular))
    }

    /// Adds a deleted directory that a task stands in.
    ///
    /// # Errors
    /// As [`FileTable::ghost`].
    pub fn add_deleted_directory(
        &mut self,
        own: &OwnedFd,
        stat: &file::FileStat,
        link: &[u8],
    ) -> Result<FileId, Refused> {
        let regular = self.ghost(own, stat, link, 0)?;
        Ok(self.add(0, Owner::default(), FileKind::Regular(regular)))
    }

    /// Collects the descriptors of a process.
    ///
    /// # Errors
    /// They cannot be listed or fetched.
    pub fn collect(
        &mut self,
        pid: Pid,
        refusals: &mut Vec<Refusal>,
    ) -> Result<Vec<FdEntry>, super::Error> {
        let pidfd = kernel::pidfd_open(pid).map_err(super::Error::Own)?;
        let mut entries = Vec::new();
        for fd in procfs::fd::read(pid)? {
            let own = kernel::pidfd_getfd(&pidfd, fd).map_err(super::Error::Own)?;
            let stat = file::statx(&own).map_err(super::Error::Own)?;
            let info = caught_up(pid, fd, &own, fdinfo::read(pid, fd)?)?;
            let link = procfs::fd::read_target(pid, fd)?;
            let cloexec = info.flags & libc::O_CLOEXEC as u32 != 0;
            let fetched = Fetched {
                fd,
                own,
                stat,
                info,
                link,
            };
            match self.description(pid, fetched) {
                Ok(file) => entries.push(FdEntry {
                    fd: fd.0,
                    cloexec,
                    file,
                }),
                Err((object, reason, remedy)) => refusals.push(Refusal {
                    task: pid.0,
                    object: format!("descriptor {fd} ({object})"),
                    reason,
                    remedy,
                }),
            }
        }
        self.entries
            .extend(entries.iter().map(|entry| (pid, *entry)));
        Ok(entries)
    }

    /// Settles what can be told only when the descriptors of all tasks are known.
    pub fn settle(&mut self, refusals: &mut Vec<Refusal>) {
        self.resolve_epolls(refusals);
        self.connect_sockets(refusals);
        self.refuse_half_outside(refusals);
    }

    fn description(&mut self, pid: Pid, seen: Fetched) -> Result<FileId, (String, String, String)> {
        let inode = (seen.stat.dev, seen.stat.ino);
        let name = String::from_utf8_lossy(&seen.link).into_owned();
        // Before it is looked up: a lock of a process is that of this one, whoever else has the description.
        let locks = self
            .locks_of(pid, &seen)
            .map_err(|(reason, remedy)| (name.clone(), reason, remedy))?;
        let same = |known: &&Known| {
            let file = kernel::Kcmp::File(known.fd, seen.fd);
            kernel::kcmp(known.pid.leader(), pid.leader(), file)
                .is_ok_and(|order| order == Ordering::Equal)
        };
        let alike = self.known.get(&inode).map_or(&[][..], Vec::as_slice);
        if let Some(id) = alike.iter().find(same).map(|known| known.id) {
            self.add_locks(locks, inode, false);
            return Ok(id);
        }
        let fd = seen.fd;
        let id = self
            .new_description(pid, seen)
            .map_err(|(reason, remedy)| (name, reason, remedy))?;
        let known = self.known.entry(inode).or_default();
        known.push(Known { pid, fd, id });
        self.described.insert(id);
        self.add_locks(locks, inode, true);
        Ok(id)
    }

    fn new_description(&mut self, pid: Pid, seen: Fetched) -> Result<FileId, Refused> {
        let flags = seen.info.flags & !(libc::O_CLOEXEC as u32);
        let is_path_only = flags & libc::O_PATH as u32 != 0;
        let owner = if is_path_only {
            Owner::default()
        } else {
            owner_of(&seen.own)
        };
        let pos = seen.info.pos.max(0) as u64;
        for line in &seen.info.other {
            let line = String::from_utf8_lossy(line);
            let what = format!("descriptor {}, {line}", seen.fd);
            self.losses.push(Loss::with(Lost::UnknownState, what));
        }
        let class = classify(&Seen {
            link: seen.link.clone(),
            mode: seen.stat.mode,
            rdev: seen.stat.rdev,
            links: seen.stat.nlink.into(),
            flags,
        });
        let kind = match (class, seen.info.kind) {
            (Class::Path, _) => {
                FileKind::Regular(self.path_file(&seen.own, &seen.link, &seen.stat, pos)?)
            }
            (Class::Device, _) => FileKind::Device(DeviceFile {
                node: self.path_file(&seen.own, &seen.link, &seen.stat, pos)?,
                rdev: seen.stat.packed_rdev(),
            }),
            (Class::Pipe(inode), _) => self.pipe(inode, flags, (pid, seen.fd), seen.own),
            (Class::Socket, _) if seen.info.in_flight != 0 => {
                let number = seen.info.in_flight;
                let reason = format!("{number} descriptors wait in it, which is not kept yet");
                return Err((reason, String::new()));
            }
            (Class::Socket, _) => self.socket(&seen.own, seen.stat.ino, (pid, seen.fd))?,
            (Class::Fifo, _) => {
                let node = self.path_file(&seen.own, &seen.link, &seen.stat, pos)?;
                self.fifo(node, flags, (pid, seen.fd), (seen.stat.ino, seen.own))
            }
            (Class::EventFd, fdinfo::Kind::EventFd(eventfd)) => {
                if eventfd.semaphore.is_none() {
                    let what = format!("descriptor {}", seen.fd);
                    self.losses.push(Loss::with(Lost::EventFdKind, what));
                }
                FileKind::EventFd(EventFd {
                    counter: eventfd.count,
                    semaphore: eventfd.semaphore == Some(true),
                })
            }
            (Class::TimerFd, fdinfo::Kind::TimerFd(timer)) => FileKind::TimerFd(TimerFd {
                clock: timer.clock,
                ticks: timer.ticks,
                settime_flags: timer.settime_flags,
                spec: Interval {
                    interval_ns: timer.interval_ns,
                    value_ns: timer.value_ns,
                },
            }),
            (Class::SignalFd, fdinfo::Kind::SignalFd(mask)) => {
                FileKind::SignalFd(SignalFd { mask })
            }
            (Class::Epoll, kind) => self.epoll(kind, &seen.own, (pid, seen.fd)),
            (Class::Memfd, _) => {
                return self
                    .add_memfd(seen.own, &seen.stat, &seen.link, flags, owner, pos)
                    .map_err(|reason| (reason, String::new()));
            }
            (Class::Terminal, _) if !self.choices.shell_job => {
                return Err((
                    "it is a terminal that others use too".into(),
                    "use --shell-job to keep it for a job of a shell".into(),
                ));
            }
            (Class::Terminal, _) => self.terminal(pid, &seen.own, &seen.link, &seen.stat),
            (Class::Refused(what), _) => {
                return Err((format!("{what} is not kept yet"), String::new()));
            }
            _ => {
                return Err((
                    "the kernel does not say what is in it".into(),
                    String::new(),
                ));
            }
        };
        Ok(self.add(flags, owner, kind))
    }

    /// Checks that the path still leads to the file; a deleted one is kept.
    fn path_file(
        &mut self,
        own: &OwnedFd,
        link: &[u8],
        stat: &file::FileStat,
        pos: u64,
    ) -> Result<RegularFile, Refused> {
        if stat.kind() != libc::S_IFLNK {
            if stat.nlink == 0 {
                return self.ghost(own, stat, link, pos);
            }
            let found = sys::file::statx_path(&terminated(link)).map_err(|_| {
                let reason =
                    "it was deleted under this name, and has others, which is not kept yet";
                (reason.to_string(), String::new())
            })?;
            if (found.dev, found.ino) != (stat.dev, stat.ino) {
                return Err(("another file has taken its path".into(), String::new()));
            }
        }
        Ok(regular_of(link, stat, pos))
    }
}

fn regular_of(path: &[u8], stat: &file::FileStat, pos: u64) -> RegularFile {
    let size = (stat.kind() == libc::S_IFREG).then_some(stat.size);
    RegularFile {
        path: path.to_vec(),
        pos,
        mode: Some(stat.mode),
        size,
        build_id: Vec::new(),
        mnt_id: -1,
        ghost: None,
    }
}

fn owner_of(own: &OwnedFd) -> Owner {
    let signal = kernel::io_signal(own).unwrap_or(0) as u32;
    let owner = kernel::file_owner(own).unwrap_or_default();
    if owner.pid == 0 {
        return Owner {
            signal,
            ..Owner::default()
        };
    }
    let [uid, euid] = kernel::file_owner_uids(own).unwrap_or_default();
    Owner {
        uid,
        euid,
        signal,
        kind: owner.kind as u32,
        pid: owner.pid,
    }
}

/// A periodic timer that has expired stands still until somebody looks at it, and only then counts what it missed
/// (`timerfd_gettime`, `fs/timerfd.c`): it is looked at, which the program cannot tell.
fn caught_up(
    pid: Pid,
    fd: RemoteFd,
    own: &OwnedFd,
    info: fdinfo::FdInfo,
) -> Result<fdinfo::FdInfo, super::Error> {
    match &info.kind {
        fdinfo::Kind::TimerFd(timer) if timer.interval_ns != 0 && timer.value_ns == 0 => {
            kernel::timerfd_look(own).map_err(super::Error::Own)?;
            Ok(fdinfo::read(pid, fd)?)
        }
        _ => Ok(info),
    }
}
