//! What is seen of descriptors before the target stands still, so that less is asked while it does.
//!
//! To ask `/proc` for a descriptor's path and for its `fdinfo` takes longer than all else together, as the kernel makes a
//! file of `/proc` for each. Paths are read while the target still runs. In the standstill a path is believed if it leads
//! to the very file that the descriptor refers to, on the same mount. What `fdinfo` says of a plain file can be had from
//! the description itself, but for two things: close-on-exec, for which the target is asked when the parasite is in it, and
//! locks, of which `/proc/locks` tells whether there are any on such an inode.

use crate::procfs::{self, fdinfo, locks};
use crate::sys::{self, Pid, RemoteFd, fd as kernel, file};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::OwnedFd;

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
    /// Inodes that are locked; `None` where that cannot be told.
    locked: Option<BTreeSet<u64>>,
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
        let path = |fd: RemoteFd| {
            let path = procfs::fd::read_target(pid, fd).ok()?;
            path.starts_with(b"/").then_some((fd.0, path))
        };
        Self {
            paths: fds.into_iter().filter_map(path).collect(),
            pipes: sys::pipe::pipe(libc::O_CLOEXEC)
                .and_then(|(end, _)| file::statx(end))
                .map(|stat| stat.dev)
                .ok(),
            locked: None,
        }
    }

    /// Reads which inodes are locked, now that the target stands still.
    pub fn settle(&mut self) {
        if self.paths.is_empty() && self.pipes.is_none() {
            return;
        }
        let all = locks::read().ok();
        self.locked = all.map(|all| all.iter().map(|lock| lock.ino).collect());
    }

    /// Returns the path of a descriptor and what `fdinfo` would say of it, without close-on-exec, if both can be told from
    /// what was seen. `plain` remembers which devices have plain file systems.
    pub(super) fn tell(
        &self,
        fd: RemoteFd,
        own: &OwnedFd,
        stat: &file::FileStat,
        plain: &mut BTreeMap<(u32, u32), bool>,
    ) -> Option<Told> {
        if self.pipes.is_some_and(|pipes| pipes == stat.dev) && stat.kind() == libc::S_IFIFO {
            return self.tell_pipe(own, stat);
        }
        let path = self.paths.get(&fd.0)?;
        let is_locked = self.locked.as_ref()?.contains(&stat.ino);
        if is_locked || stat.kind() != libc::S_IFREG || stat.nlink == 0 {
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
            flags,
            mnt_id: stat.mnt_id? as i32,
            ino: Some(stat.ino),
            in_flight: 0,
            kind: fdinfo::Kind::Plain,
            locks: Vec::new(),
            other: Vec::new(),
        };
        Some((path.clone(), info, Some(at_path)))
    }

    /// Tells of an anonymous pipe, which has a name that follows from its inode, and no position.
    fn tell_pipe(&self, own: &OwnedFd, stat: &file::FileStat) -> Option<Told> {
        if self.locked.as_ref()?.contains(&stat.ino) {
            return None;
        }
        let info = fdinfo::FdInfo {
            pos: 0,
            flags: kernel::status_flags(own).ok()?,
            mnt_id: stat.mnt_id? as i32,
            ino: Some(stat.ino),
            in_flight: 0,
            kind: fdinfo::Kind::Plain,
            locks: Vec::new(),
            other: Vec::new(),
        };
        let is_path = info.flags & libc::O_PATH as u32 != 0;
        (!is_path).then(|| (format!("pipe:[{}]", stat.ino).into_bytes(), info, None))
    }
}
