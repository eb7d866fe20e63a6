//! What is seen of descriptors before the target stands still, so that less is asked while it does.
//!
//! To ask `/proc` for a descriptor's path and for its `fdinfo` takes longer than all else together, as the kernel makes a
//! file of `/proc` for each. Paths are read while the target still runs. In the standstill a path is believed if it leads
//! to the very file that the descriptor refers to, on the same mount. What `fdinfo` says of a plain file can be had from
//! the description itself, but for two things: close-on-exec, for which the target is asked when the parasite is in it, and
//! locks, of which `/proc/locks` tells whether there are any on such an inode. To read that waits for all processors
//! (`locks_start`, `fs/locks.c`), ten milliseconds and more: a thread of its own does, and what was told of is looked at again
//! if there is a lock after all.

use super::fetch::Asked;
use crate::procfs::{self, fdinfo, locks};
use crate::sys::{self, Pid, RemoteFd, fd as kernel, file};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

/// Fewer descriptors than this are asked for in the standstill.
const WORTH_IT: usize = 64;
/// The first pid namespace (`PROC_PID_INIT_INO`, `linux/proc_ns.h`): others do not see locks of those that have ended.
const FIRST_PID_NAMESPACE: &[u8] = b"pid:[4026531836]";
/// File systems whose files are asked for no more than this, and whose inodes have the numbers that locks are told by:
/// ext4, XFS, tmpfs, btrfs, F2FS (`linux/magic.h`).
const PLAIN: [i64; 5] = [0xef53, 0x5846_5342, 0x0102_1994, 0x9123_683e, 0xf2f5_2010];

/// What the kernel calls a descriptor's file, what `fdinfo` would say, and what lies at that path.
type Told = (Vec<u8>, fdinfo::FdInfo, Option<file::FileStat>);

/// Paths of a process's descriptors.
#[derive(Debug, Default)]
pub struct Before {
    paths: BTreeMap<i32, Vec<u8>>,
    /// Device of anonymous pipes.
    pipes: Option<(u32, u32)>,
    /// Reads which inodes are locked.
    locked: Option<JoinHandle<Option<BTreeSet<u64>>>>,
}

impl Before {
    /// Looks at a process that runs. What cannot be read is asked for later.
    pub fn look(pid: Pid) -> Self {
        let fds = procfs::fd::read(pid).unwrap_or_default();
        let is_first = procfs::fd::read_link(Pid::this(), "ns/pid")
            .is_ok_and(|link| link == FIRST_PID_NAMESPACE);
        if fds.len() < WORTH_IT || !is_first {
            return Self::default();
        }
        super::fetch::make_room(fds.len());
        // It is half of what a dump of many files takes.
        let (one, other) = fds.split_at(fds.len() / 2);
        let mut paths = std::thread::scope(|scope| {
            let second = scope.spawn(|| paths_of(pid, other));
            let mut paths = paths_of(pid, one);
            paths.append(&mut second.join().expect("reading does not panic"));
            paths
        });
        paths.retain(|_, path| path.starts_with(b"/"));
        Self {
            paths,
            pipes: sys::pipe::pipe(libc::O_CLOEXEC)
                .and_then(|(end, _)| file::statx(end))
                .map(|stat| stat.dev)
                .ok(),
            locked: None,
        }
    }

    /// Begins to read which inodes are locked, now that the target stands still.
    pub fn settle(&mut self) {
        if self.paths.is_empty() && self.pipes.is_none() {
            return;
        }
        self.locked = Some(std::thread::spawn(|| {
            let all = locks::read().ok()?;
            Some(all.iter().map(|lock| lock.ino).collect())
        }));
    }

    /// Returns the inodes that are locked; `None` where that cannot be told.
    pub(super) fn locked(self) -> Option<BTreeSet<u64>> {
        self.locked?.join().ok()?
    }

    /// Returns the path of a descriptor and what `fdinfo` would say of it, without close-on-exec and locks, if both can be told
    /// from what was seen. `plain` remembers which devices have plain file systems.
    pub(super) fn tell(
        &self,
        fd: RemoteFd,
        (own, stat): (&OwnedFd, &file::FileStat),
        socket: Option<&Asked>,
        plain: &mut BTreeMap<(u32, u32), bool>,
    ) -> Option<Told> {
        if self.pipes.is_some_and(|pipes| pipes == stat.dev) && stat.kind() == libc::S_IFIFO {
            return tell_pipe(own, stat);
        }
        if let Some(Ok(asked)) = socket {
            let is_told = self.locked.is_some() && asked.is_quiet();
            return is_told.then(|| tell_socket(own, stat))?;
        }
        let path = self.paths.get(&fd.0)?;
        if stat.kind() != libc::S_IFREG || stat.nlink == 0 {
            return None;
        }
        let is_plain = *plain.entry(stat.dev).or_insert_with(|| {
            file::fstatfs(own).is_ok_and(|system| PLAIN.contains(&system.magic))
        });
        if !is_plain {
            return None;
        }
        let at_path = sys::file::statx_path(&CString::new(&path[..]).ok()?).ok()?;
        let is_same =
            (at_path.dev, at_path.ino, at_path.mnt_id) == (stat.dev, stat.ino, stat.mnt_id);
        if !is_same || stat.mnt_id.is_none() {
            return None;
        }
        let flags = kernel::status_flags(own).ok()?;
        // One for its path alone has no position.
        let pos = file::lseek(own, 0, file::Whence::Current).ok()?;
        let info = fdinfo::FdInfo {
            pos: pos as i64,
            ..plain_info(flags, stat)?
        };
        Some((path.clone(), info, Some(at_path)))
    }
}

/// Tells of an anonymous pipe, which has a name that follows from its inode, and no position.
fn tell_pipe(own: &OwnedFd, stat: &file::FileStat) -> Option<Told> {
    let info = plain_info(kernel::status_flags(own).ok()?, stat)?;
    let is_path = info.flags & libc::O_PATH as u32 != 0;
    (!is_path).then(|| (format!("pipe:[{}]", stat.ino).into_bytes(), info, None))
}

/// Tells of a socket in which nothing waits, descriptors neither.
fn tell_socket(own: &OwnedFd, stat: &file::FileStat) -> Option<Told> {
    let info = plain_info(kernel::status_flags(own).ok()?, stat)?;
    Some((format!("socket:[{}]", stat.ino).into_bytes(), info, None))
}

fn paths_of(pid: Pid, fds: &[RemoteFd]) -> BTreeMap<i32, Vec<u8>> {
    let path = |fd: &RemoteFd| Some((fd.0, procfs::fd::read_target(pid, *fd).ok()?));
    fds.iter().filter_map(path).collect()
}

/// Returns what `fdinfo` says of what has no position and no lock.
fn plain_info(flags: u32, stat: &file::FileStat) -> Option<fdinfo::FdInfo> {
    Some(fdinfo::FdInfo {
        pos: 0,
        flags,
        mnt_id: stat.mnt_id? as i32,
        ino: Some(stat.ino),
        in_flight: 0,
        kind: fdinfo::Kind::Plain,
        locks: Vec::new(),
        other: Vec::new(),
    })
}
