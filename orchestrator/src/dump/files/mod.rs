//! Descriptors and the open file descriptions behind them, each description once.
//!
//! Descriptors of the frozen process are fetched by `pidfd_getfd`: nothing is opened in the target, and what is asked of
//! the copy is asked of the same open file description. Duplicates are told by kcmp, and only among descriptors of one inode.

mod before;
mod bpf;
mod epoll;
mod external;
mod fetch;
mod ghosts;
mod irmap;
mod links;
mod locks;
mod memfd;
mod namespaces;
mod notify;
mod other_sockets;
mod pidfds;
mod pipes;
mod proc;
mod ptys;
mod queues;
mod sockets;
mod terminal;
mod tun;

use super::descriptor::{Class, Seen, classify};
use super::network::Namespaces;
use super::queues::FoundQueue;
use crate::build_id::build_id;
use crate::error::Refusal;
use crate::external::External;
use crate::procfs::{self, fdinfo};
use crate::snapshot::*;
use crate::support::{Loss, Lost};
use crate::sys::{Pid, RemoteFd, fd as kernel, file};
pub use before::Before;
use epoll::FoundEpoll;
use fetch::Fetched;
use ghosts::FoundGhost;
use links::FoundLink;
use pidfds::FoundPidFd;
use pipes::FoundPipe;
pub use sockets::Outside;
use sockets::Sockets;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use terminal::FoundTerminal;

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
    sockets: Sockets,
    /// A descriptor of each terminal.
    found_terminals: Vec<FoundTerminal>,
    /// Locks on files.
    pub locks: Vec<FileLock>,
    /// Those of processes that were told: process, file, first byte, number of bytes.
    posix_locks: BTreeSet<(i32, Inode, u64, u64)>,
    epolls: Vec<FoundEpoll>,
    pidfds: Vec<FoundPidFd>,
    /// POSIX message queues.
    pub queues: Vec<FoundQueue>,
    ghosts: Vec<FoundGhost>,
    links: Vec<FoundLink>,
    choices: Choices,
    /// Processes of the tree, the dead too.
    processes: BTreeSet<i32>,
    /// Namespaces that the tree is in.
    namespaces: Namespaces,
    /// Mounts, once they were needed.
    mounts: Option<Vec<procfs::mountinfo::Mount>>,
    /// Descriptions for mappings, by path, inode of those that have none, and whether they can be written.
    mapped: BTreeMap<(Vec<u8>, Option<Inode>, bool), FileId>,
    memfd_files: Vec<(FileId, u64, OwnedFd)>,
    /// Descriptions by the inode that they are of, to compare the next ones with.
    known: BTreeMap<Inode, Vec<Known>>,
    /// Those that a descriptor refers to.
    described: BTreeSet<FileId>,
    /// Descriptors of which it is not known whether they are closed by `execve`: process and number, in their order.
    pub unsure: Vec<(Pid, i32)>,
    /// All descriptors of all tasks.
    entries: Vec<(Pid, FdEntry)>,
}

/// What the user allows.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// Most bytes of a deleted file that is kept.
    pub ghost_limit: u64,
    /// A file that was deleted under its name, and has others, gets one more.
    pub link_remap: bool,
    /// What lies outside, and is somebody else's at the restore.
    pub external: Vec<External>,
    /// Where else to look for names of what is watched.
    pub irmap_paths: Vec<std::path::PathBuf>,
    /// Locks on files are kept.
    pub file_locks: bool,
    /// A job of a shell: its terminal lies outside.
    pub shell_job: bool,
    /// Connections that leave the tree.
    pub outside: Outside,
    /// Connections of TCP.
    pub connections: crate::objects::inet::collect::Choices,
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

/// Why an object is refused, and what would let it pass.
type Refused = (String, String);

impl FileTable {
    /// Returns an empty table for a tree of these processes.
    pub fn new(choices: Choices, processes: BTreeSet<i32>, namespaces: Namespaces) -> Self {
        Self {
            choices,
            processes,
            namespaces,
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

    /// Returns the description for mappings of a file that is no longer found by the name that it had, which `own` refers to.
    ///
    /// # Errors
    /// As [`FileTable::ghost`], and as [`FileTable::linked`].
    pub fn mapped_deleted(
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
        let found = fetch::at(link, stat);
        let regular = self.named_file((own, link), stat, found.as_ref(), 0)?;
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
        before: Before,
        refusals: &mut Vec<Refusal>,
    ) -> Result<Vec<FdEntry>, super::Error> {
        let pidfd = kernel::pidfd_open(pid).map_err(super::Error::Own)?;
        let mut entries = Vec::new();
        // Whose locks are not known, and the inode of each.
        let mut unlocked = Vec::new();
        let fds = procfs::fd::read(pid)?;
        fetch::make_room(fds.len());
        for some in fds.chunks(fetch::WINDOW) {
            for fetched in fetch::fetch_all(pid, &pidfd, some, &before)? {
                let fd = fetched.fd;
                let cloexec = fetched.cloexec.unwrap_or_else(|| {
                    self.unsure.push((pid, fd.0));
                    unlocked.push((fd, fetched.stat.ino));
                    false
                });
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
        }
        if !unlocked.is_empty() {
            let locked = before.locked();
            unlocked.retain(|(_, ino)| locked.as_ref().is_none_or(|locked| locked.contains(ino)));
            for (fd, _) in unlocked {
                let seen = fetch::fetch(pid, &pidfd, fd, &mut Vec::new())?;
                self.add_late_locks(pid, seen, &entries, refusals);
            }
        }
        self.entries
            .extend(entries.iter().map(|entry| (pid, *entry)));
        Ok(entries)
    }

    /// Settles what can be told only when the descriptors of all tasks are known.
    pub fn settle(&mut self, refusals: &mut Vec<Refusal>) {
        self.read_sockets(refusals);
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

    fn new_description(&mut self, pid: Pid, mut seen: Fetched) -> Result<FileId, Refused> {
        let flags = seen.info.flags & !(libc::O_CLOEXEC as u32);
        let owner = seen.owner;
        let pos = seen.info.pos.max(0) as u64;
        if let Some(file) = self.external_file(seen.info.mnt_id, &seen.stat, pos) {
            return Ok(self.add(flags, owner, FileKind::External(file)));
        }
        for line in &seen.info.other {
            let line = String::from_utf8_lossy(line);
            let what = format!("descriptor {}, {line}", seen.fd);
            self.losses.push(Loss::with(Lost::UnknownState, what));
        }
        let class = match self.is_external_terminal(&seen.stat) {
            true => Class::Terminal,
            false if self.is_queue(&seen) => Class::Queue,
            false => classify(&Seen {
                link: seen.link.clone(),
                mode: seen.stat.mode,
                rdev: seen.stat.rdev,
                links: seen.stat.nlink.into(),
                flags,
            }),
        };
        let told = std::mem::replace(&mut seen.info.kind, fdinfo::Kind::Plain);
        let kind = match (class, told) {
            (Class::Path, _) => FileKind::Regular(self.path_file(&seen, pos)?),
            (Class::Device, _) => FileKind::Device(DeviceFile {
                node: self.path_file(&seen, pos)?,
                rdev: seen.stat.packed_rdev(),
            }),
            (Class::Pipe(inode), _) => self.pipe(inode, flags, (pid, seen.fd), seen.own),
            (Class::Socket, _) => self.socket(pid, &mut seen)?,
            (Class::Fifo, _) => {
                let node = self.path_file(&seen, pos)?;
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
            (Class::BpfMap, fdinfo::Kind::BpfMap { memlock, is_frozen }) => {
                FileKind::BpfMap(self.bpf_map(&seen.own, flags, (memlock, is_frozen))?)
            }
            (Class::PidFd, fdinfo::Kind::Pidfd(numbers)) => {
                FileKind::PidFd(self.pidfd(&numbers, &seen.own, seen.stat.ino, (pid, seen.fd)))
            }
            (Class::Inotify, kind) => self.inotify(kind, &seen.own)?,
            (Class::Fanotify, kind) => self.fanotify(kind, (&seen.own, seen.fd))?,
            (Class::Namespace, _) => {
                FileKind::Namespace(namespaces::namespace(&seen.link, flags, self.namespaces)?)
            }
            (Class::Queue, _) => self.queue(&seen, pos)?,
            (Class::Memfd, _) => {
                return self
                    .add_memfd(seen.own, &seen.stat, &seen.link, flags, owner, pos)
                    .map_err(|reason| (reason, String::new()));
            }
            (Class::Terminal, _) => {
                self.terminal((pid, seen.fd), seen.own, &seen.link, &seen.stat)?
            }
            (Class::Tun, _) => self.tun(&seen, pos)?,
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
    fn path_file(&mut self, seen: &Fetched, pos: u64) -> Result<RegularFile, Refused> {
        let named = (&seen.own, &seen.link[..]);
        self.named_file(named, &seen.stat, seen.at_link.as_ref(), pos)
    }

    /// As [`FileTable::path_file`], for a file that the kernel calls by this name, where `found` is now.
    fn named_file(
        &mut self,
        (own, link): (&OwnedFd, &[u8]),
        stat: &file::FileStat,
        found: Option<&file::FileStat>,
        pos: u64,
    ) -> Result<RegularFile, Refused> {
        if let Some(file) = self.proc_file(link, stat, found, pos)? {
            return Ok(file);
        }
        if stat.nlink == 0 {
            return self.ghost(own, stat, link, pos);
        }
        let is_it = found.is_some_and(|found| (found.dev, found.ino) == (stat.dev, stat.ino));
        match link.strip_suffix(ghosts::DELETED) {
            _ if is_it => Ok(regular_of(link, stat, pos)),
            Some(path) => self.linked(own, stat, path, pos),
            None => Err((
                "another file has taken its path, or its folder is covered by a mount".into(),
                String::new(),
            )),
        }
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
        link: None,
        of: None,
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
