//! Descriptors and the open file descriptions behind them, each description once.
//!
//! Descriptors of the frozen process are fetched by `pidfd_getfd`: nothing is opened in the target, and what is asked of
//! the copy is asked of the same open file description. Duplicates are told by kcmp, and only among descriptors of one inode.

use super::descriptor::{Class, Seen, classify};
use crate::build_id::build_id;
use crate::error::Refusal;
use crate::procfs::{self, fdinfo, smaps};
use crate::snapshot::file::Termios;
use crate::snapshot::*;
use crate::support::{Loss, Lost};
use crate::sys::{self, Pid, RemoteFd, Tid, fd as kernel, file, tty};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;

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
    /// Pipes with their capacity; their bytes are read once nothing can refuse the dump any more.
    pub pipes: Vec<FoundPipe>,
    mapped: BTreeMap<(Vec<u8>, bool), FileId>,
    memfd_files: Vec<(FileId, u64, OwnedFd)>,
    known: Vec<Known>,
}

/// A pipe and an end of it to read it by.
#[derive(Debug)]
pub struct FoundPipe {
    /// Its number: the inode's.
    pub inode: u64,
    /// Any end.
    pub end: OwnedFd,
    /// Who holds which end inside, and whether an end is alive outside.
    has: [bool; 2],
    named_by: i32,
    has_packets: bool,
}

/// A description that was seen, to compare the next ones with.
#[derive(Debug)]
struct Known {
    inode: ((u32, u32), u64),
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

impl FileTable {
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
        for ((path, _), id) in &self.mapped {
            if let Some(file) = self.files.iter_mut().find(|file| file.id == *id)
                && let FileKind::Regular(regular) = &mut file.kind
            {
                regular.build_id = build_id(path).unwrap_or_default();
            }
        }
    }

    /// Returns the description for mappings of this path, if there is one.
    pub fn mapped(&self, path: &[u8], writable: bool) -> Option<FileId> {
        self.mapped.get(&(path.to_vec(), writable)).copied()
    }

    /// Adds a description for mappings of this path.
    pub fn add_mapped(&mut self, path: &[u8], stat: &file::FileStat, writable: bool) -> FileId {
        let regular = regular_of(path, stat, 0);
        let flags = if writable {
            libc::O_RDWR
        } else {
            libc::O_RDONLY
        } as u32;
        let id = self.add(flags, Owner::default(), FileKind::Regular(regular));
        self.mapped.insert((path.to_vec(), writable), id);
        id
    }

    /// Adds a directory that a task stands in.
    pub fn add_directory(&mut self, path: &[u8], stat: &file::FileStat) -> FileId {
        self.add(
            0,
            Owner::default(),
            FileKind::Regular(regular_of(path, stat, 0)),
        )
    }

    /// Returns the description of a mapped memfd: that of a descriptor on it, or one for the mapping alone.
    pub fn mapped_memfd(
        &mut self,
        pid: Pid,
        area: &smaps::Vma,
    ) -> Result<FileId, (String, &'static str)> {
        let lost =
            |error: &dyn std::fmt::Display| (format!("the memfd cannot be opened: {error}"), "");
        let link = format!("/proc/{}/map_files/{:x}-{:x}", pid.0, area.start, area.end);
        let writable = area.shared && area.vm_flags.contains(smaps::VmFlags::MAYWRITE);
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .write(writable)
            .open(&link)
            .map_err(|error| lost(&error))?;
        let stat = file::statx(&opened).map_err(|error| lost(&error))?;
        let link =
            procfs::fd::read_link(pid, &format!("map_files/{:x}-{:x}", area.start, area.end))
                .map_err(|error| lost(&error))?;
        let flags = if writable {
            libc::O_RDWR
        } else {
            libc::O_RDONLY
        } as u32;
        if let Some((id, ..)) = self
            .memfd_files
            .iter()
            .find(|(id, inode, _)| *inode == stat.ino && self.is_mapping_only(*id, flags))
        {
            return Ok(*id);
        }
        self.add_memfd(opened.into(), &stat, &link, flags, Owner::default(), 0)
            .map_err(|reason| (reason, ""))
    }

    fn is_mapping_only(&self, id: FileId, flags: u32) -> bool {
        !self.known.iter().any(|known| known.id == id)
            && self
                .files
                .iter()
                .any(|file| file.id == id && file.flags == flags)
    }

    fn add_memfd(
        &mut self,
        own: OwnedFd,
        stat: &file::FileStat,
        link: &[u8],
        flags: u32,
        owner: Owner,
        pos: u64,
    ) -> Result<FileId, String> {
        let inode_id = self.memfd_inode(&own, stat, link)?;
        let id = self.add(flags, owner, FileKind::Memfd(MemfdFile { inode_id, pos }));
        self.memfd_files.push((id, stat.ino, own));
        Ok(id)
    }

    fn memfd_inode(
        &mut self,
        own: &OwnedFd,
        stat: &file::FileStat,
        link: &[u8],
    ) -> Result<u32, String> {
        let shmid = stat.ino;
        if let Some(known) = self.memfds.iter().find(|memfd| memfd.shmid == shmid) {
            return Ok(known.id);
        }
        if file::fstatfs(own).is_ok_and(|fs| fs.magic == HUGETLBFS_MAGIC) {
            return Err("a memfd of huge pages is not kept yet".into());
        }
        let name = link.strip_prefix(b"/memfd:").unwrap_or(link);
        let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
        if kernel::write_hint(own).is_some_and(|hint| hint != 0) {
            let name = String::from_utf8_lossy(name).into_owned();
            self.losses
                .push(Loss::with(Lost::WriteHint, format!("memfd {name}")));
        }
        let id = self.memfds.len() as u32 + 1;
        self.memfds.push(MemfdInode {
            id,
            name: name.to_vec(),
            uid: stat.uid,
            gid: stat.gid,
            size: stat.size,
            shmid,
            seals: kernel::seals(own).unwrap_or(0),
            hugetlb_flag: 0,
            mode: Some(stat.mode),
        });
        Ok(id)
    }

    /// Returns a descriptor of the memfd with this content id.
    pub fn memfd_content(&self, shmid: u64) -> Option<&OwnedFd> {
        self.memfd_files
            .iter()
            .find(|(_, inode, _)| *inode == shmid)
            .map(|(.., own)| own)
    }

    /// Collects the descriptors of a process.
    ///
    /// # Errors
    /// They cannot be listed or fetched.
    pub fn collect(
        &mut self,
        pid: Pid,
        shell_job: bool,
        refusals: &mut Vec<Refusal>,
    ) -> Result<Vec<FdEntry>, super::Error> {
        let pidfd = kernel::pidfd_open(pid).map_err(super::Error::Own)?;
        let mut entries = Vec::new();
        let mut epolls = Vec::new();
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
            match self.description(pid, fetched, shell_job, &mut epolls) {
                Ok(file) => entries.push(FdEntry {
                    fd: fd.0,
                    cloexec,
                    file,
                }),
                Err((object, reason, remedy)) => refusals.push(Refusal {
                    task: pid.0,
                    object: format!("descriptor {fd} ({object})"),
                    reason,
                    remedy: remedy.into(),
                }),
            }
        }
        for (epoll, id, targets) in epolls {
            self.resolve_epoll(pid, epoll, id, &targets, &entries, refusals);
        }
        self.refuse_half_outside(pid, refusals);
        Ok(entries)
    }

    fn description(
        &mut self,
        pid: Pid,
        seen: Fetched,
        shell_job: bool,
        epolls: &mut Epolls,
    ) -> Result<FileId, (String, String, &'static str)> {
        let inode = (seen.stat.dev, seen.stat.ino);
        let leader = Tid(pid.0);
        let same = |known: &&Known| {
            known.inode == inode
                && kernel::kcmp(leader, leader, kernel::Kcmp::File(known.fd, seen.fd))
                    .is_ok_and(|order| order == Ordering::Equal)
        };
        if let Some(known) = self.known.iter().find(same) {
            return Ok(known.id);
        }
        let fd = seen.fd;
        let name = String::from_utf8_lossy(&seen.link).into_owned();
        if !seen.info.locks.is_empty() {
            return Err((
                name,
                "it holds a file lock or lease, which is not kept yet".into(),
                "",
            ));
        }
        let id = self
            .new_description(pid, seen, shell_job, epolls)
            .map_err(|(reason, remedy)| (name, reason, remedy))?;
        self.known.push(Known { inode, fd, id });
        Ok(id)
    }

    fn new_description(
        &mut self,
        pid: Pid,
        seen: Fetched,
        shell_job: bool,
        epolls: &mut Epolls,
    ) -> Result<FileId, (String, &'static str)> {
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
            (Class::Path, _) => FileKind::Regular(self.path_file(&seen.link, &seen.stat, pos)?),
            (Class::Device, _) => FileKind::Device(DeviceFile {
                node: self.path_file(&seen.link, &seen.stat, pos)?,
                rdev: seen.stat.packed_rdev(),
            }),
            (Class::Pipe(inode), _) => self.pipe(inode, flags, seen.fd, seen.own)?,
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
            (Class::Epoll, kind) => {
                let targets = if let fdinfo::Kind::Epoll(targets) = kind {
                    targets
                } else {
                    Vec::new()
                };
                epolls.push((seen.fd, self.next_id(), targets));
                FileKind::Epoll(Epoll {
                    busy_poll: kernel::busy_poll(&seen.own).map(|(usecs, budget, is_preferred)| {
                        BusyPoll {
                            usecs,
                            budget,
                            is_preferred,
                        }
                    }),
                    ..Epoll::default()
                })
            }
            (Class::Memfd, _) => {
                return self
                    .add_memfd(seen.own, &seen.stat, &seen.link, flags, owner, pos)
                    .map_err(|reason| (reason, ""));
            }
            (Class::Terminal, _) if !shell_job => {
                return Err((
                    "it is a terminal that others use too".into(),
                    "use --shell-job to keep it for a job of a shell",
                ));
            }
            (Class::Terminal, _) => self.terminal(pid, &seen.own, &seen.link, &seen.stat),
            (Class::Refused(what), _) => return Err((format!("{what} is not kept yet"), "")),
            _ => return Err(("the kernel does not say what is in it".into(), "")),
        };
        Ok(self.add(flags, owner, kind))
    }

    /// Checks that the path still leads to the file.
    fn path_file(
        &self,
        link: &[u8],
        stat: &file::FileStat,
        pos: u64,
    ) -> Result<RegularFile, (String, &'static str)> {
        if stat.kind() != libc::S_IFLNK {
            let deleted = || {
                (
                    "the file was deleted, and its content is not kept yet".to_string(),
                    "",
                )
            };
            if stat.nlink == 0 {
                return Err(deleted());
            }
            let found = sys::file::statx_path(&terminated(link)).map_err(|_| deleted())?;
            if (found.dev, found.ino) != (stat.dev, stat.ino) {
                return Err(("another file has taken its path".into(), ""));
            }
        }
        Ok(regular_of(link, stat, pos))
    }

    fn pipe(
        &mut self,
        inode: u64,
        flags: u32,
        fd: RemoteFd,
        own: OwnedFd,
    ) -> Result<FileKind, (String, &'static str)> {
        let mode = flags & libc::O_ACCMODE as u32;
        let has = [mode != libc::O_WRONLY as u32, mode != libc::O_RDONLY as u32];
        match self.pipes.iter_mut().find(|pipe| pipe.inode == inode) {
            Some(pipe) => pipe.has = [pipe.has[0] | has[0], pipe.has[1] | has[1]],
            None => self.pipes.push(FoundPipe {
                inode,
                end: own,
                has,
                named_by: fd.0,
                has_packets: false,
            }),
        }
        if let Some(pipe) = self.pipes.iter_mut().find(|pipe| pipe.inode == inode) {
            pipe.has_packets |= flags & libc::O_DIRECT as u32 != 0;
        }
        Ok(FileKind::Pipe(PipeEnd {
            pipe_id: inode as u32,
        }))
    }

    fn terminal(
        &mut self,
        pid: Pid,
        own: &OwnedFd,
        link: &[u8],
        stat: &file::FileStat,
    ) -> FileKind {
        let rdev = stat.packed_rdev() as u32;
        let info_id = match self.terminals.iter().find(|terminal| terminal.rdev == rdev) {
            Some(terminal) => terminal.id,
            None => {
                let id = self.terminals.len() as u32 + 1;
                let info = terminal_info(pid, own, stat);
                self.terminals.push(TerminalInfo { id, rdev, ..info });
                id
            }
        };
        FileKind::Terminal(Terminal {
            info_id,
            node: regular_of(link, stat, 0),
        })
    }

    /// Finds the open file description behind each watch: the descriptor it was added by may be closed or reused.
    fn resolve_epoll(
        &mut self,
        pid: Pid,
        epoll: RemoteFd,
        id: FileId,
        targets: &[fdinfo::EpollTarget],
        entries: &[FdEntry],
        refusals: &mut Vec<Refusal>,
    ) {
        let leader = Tid(pid.0);
        let mut watches: Vec<EpollTarget> = Vec::new();
        for target in targets {
            let nth = watches
                .iter()
                .filter(|watch| watch.fd == target.tfd)
                .count() as u32;
            let is_it = |entry: &&FdEntry| {
                kernel::kcmp_epoll_tfd(leader, RemoteFd(entry.fd), leader, (epoll, target.tfd, nth))
                    .is_ok_and(|order| order == Ordering::Equal)
            };
            let first = entries
                .iter()
                .filter(|entry| entry.fd == target.tfd)
                .chain(entries)
                .find(is_it);
            match first {
                Some(entry) => watches.push(EpollTarget {
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
                    object: format!("descriptor {epoll} (epoll)"),
                    reason: format!("it watches a file added as descriptor {}, which no descriptor refers to any more", target.tfd),
                    remedy: String::new(),
                }),
            }
        }
        if let Some(file) = self.files.iter_mut().find(|file| file.id == id)
            && let FileKind::Epoll(now) = &mut file.kind
        {
            file.kind = FileKind::Epoll(Epoll {
                targets: watches,
                ..std::mem::take(now)
            });
        }
    }

    /// A pipe of which one end only is inside is refused, unless nobody has the other.
    fn refuse_half_outside(&self, pid: Pid, refusals: &mut Vec<Refusal>) {
        for pipe in self.pipes.iter().filter(|pipe| pipe.has != [true, true]) {
            use std::os::fd::AsFd;
            let ready =
                sys::poll::poll_readable(&[pipe.end.as_fd()], Some(std::time::Duration::ZERO));
            let is_alone = ready.is_ok_and(|ready| ready[0].hung_up || ready[0].error);
            if !is_alone {
                refusals.push(Refusal {
                    task: pid.0,
                    object: format!("descriptor {} (pipe:[{}])", pipe.named_by, pipe.inode),
                    reason: "a process outside holds the other end of this pipe".into(),
                    remedy: "start the program with its input and output in files or /dev/null"
                        .into(),
                });
            }
        }
    }

    /// Reads what the pipes hold, and leaves it in them.
    ///
    /// # Errors
    /// A pipe cannot be read.
    pub fn read_pipes(&self) -> Result<Vec<PipeBuffer>, super::Error> {
        self.pipes.iter().map(read_pipe).collect()
    }
}

type Epolls = Vec<(RemoteFd, FileId, Vec<fdinfo::EpollTarget>)>;

/// `HUGETLBFS_MAGIC` of `linux/magic.h`.
const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;

fn read_pipe(pipe: &FoundPipe) -> Result<PipeBuffer, super::Error> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    let capacity = sys::pipe::pipe_size(&pipe.end).map_err(super::Error::Own)?;
    let path = format!("/proc/self/fd/{}", pipe.end.as_raw_fd());
    let reader = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(super::Error::Pipe)?;
    let held = kernel::readable_bytes(&reader).map_err(super::Error::Own)?;
    let mut data = Vec::new();
    let mut packets = Vec::new();
    if held > 0 {
        let (from, to) = sys::pipe::pipe(libc::O_CLOEXEC).map_err(super::Error::Own)?;
        sys::pipe::set_pipe_size(&to, capacity).map_err(super::Error::Own)?;
        let copied = sys::pipe::tee(&reader, &to, capacity, sys::pipe::Splice::empty())
            .map_err(super::Error::Own)?;
        if copied != held {
            return Err(super::Error::Pipe(std::io::Error::other(
                "a pipe gave fewer bytes than it holds",
            )));
        }
        (data, packets) = read_packets(from.into(), held, pipe.has_packets)?;
    }
    Ok(PipeBuffer {
        pipe_id: pipe.inode as u32,
        capacity: Some(capacity as u32),
        data,
        packets,
    })
}

/// Reads all of a pipe, and the lengths of its packets. A read ends where a packet does, whatever the mode of the end that
/// is read (`PIPE_BUF_FLAG_PACKET`, `pipe_read` in `fs/pipe.c`), and takes all there is of a stream: a stream is one read.
fn read_packets(
    mut from: std::fs::File,
    held: usize,
    has_packets: bool,
) -> Result<(Vec<u8>, Vec<u32>), super::Error> {
    use std::io::Read;
    let mut data = vec![0; held];
    let mut packets = Vec::new();
    let mut at = 0;
    while at < held {
        let len = from.read(&mut data[at..]).map_err(super::Error::Pipe)?;
        if len == 0 {
            return Err(super::Error::Pipe(std::io::ErrorKind::UnexpectedEof.into()));
        }
        packets.push(len as u32);
        at += len;
    }
    if packets.len() == 1 && !has_packets {
        packets.clear();
    }
    if packets.iter().any(|&len| len as usize > libc::PIPE_BUF) {
        return Err(super::Error::Pipe(std::io::Error::other(
            "it holds packets and, before them, bytes of no packet",
        )));
    }
    Ok((data, packets))
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

/// Returns what a terminal says of itself, and whether it is the one of the process's session.
fn terminal_info(pid: Pid, own: &OwnedFd, stat: &file::FileStat) -> TerminalInfo {
    let task = procfs::stat::read(pid).ok();
    let task = task.filter(|task| task.tty_nr as u32 == stat.packed_rdev() as u32);
    let settings = tty::settings(own).ok();
    // Types of the images: a pseudo-terminal, /dev/console, a virtual console, /dev/tty, a serial line.
    let (kind, index) = match stat.rdev {
        (136..=143, minor) => (1, Some(minor)),
        (5, 1) => (2, None),
        (4, 0..=63) => (3, None),
        (5, 0) => (4, None),
        _ => (6, None),
    };
    TerminalInfo {
        kind,
        index,
        sid: task.as_ref().map_or(0, |task| task.session),
        pgrp: task.as_ref().map_or(0, |task| task.tpgid.max(0)),
        exclusive: tty::is_exclusive(own).unwrap_or(false),
        termios: settings.map(|settings| Termios {
            flags: settings.flags,
            line: settings.line,
            speed: settings.speed,
            chars: settings.chars.to_vec(),
        }),
        winsize: tty::window(own).ok(),
        uid: stat.uid,
        gid: stat.gid,
        ..TerminalInfo::default()
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
