//! What inotify and fanotify watch. The kernel tells a watch by a handle of the inode; its name is found by opening that, or
//! where the file system cannot open by handle or the name was forgotten since, by looking for the inode where it may be.

use super::{FileTable, Refused, fetch, irmap};
use crate::procfs::fdinfo;
use crate::procfs::mountinfo::{self, Mount};
use crate::snapshot::*;
use crate::support::{Loss, Lost};
use crate::sys::{Pid, RemoteFd, fd as kernel, file, handle};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Bits of a device number as the kernel packs it (`MINORBITS`, `linux/kdev_t.h`).
const MINOR_BITS: u32 = 20;

/// `FAN_CLASS_CONTENT`, `FAN_CLASS_PRE_CONTENT` (`linux/fanotify.h`): it may be asked whether something is allowed.
const ASKED_FIRST: u32 = 0xc;

impl FileTable {
    /// Returns an inotify.
    ///
    /// # Errors
    /// With reason and remedy: what it watches cannot be found.
    pub(super) fn inotify(
        &mut self,
        info: fdinfo::Kind,
        own: &OwnedFd,
    ) -> Result<FileKind, Refused> {
        let told = match info {
            fdinfo::Kind::Inotify(watches) => watches,
            _ => Vec::new(),
        };
        let mut inotify = Inotify {
            watches: Vec::with_capacity(told.len()),
            overflow: waiting(own)? != 0,
        };
        for watch in told {
            inotify.watches.push(InotifyWatch {
                wd: watch.wd,
                mask: watch.mask,
                on: self.watched(watch.sdev, watch.ino, watch.handle)?,
            });
        }
        inotify.watches.sort_by_key(|watch| watch.wd);
        Ok(FileKind::Inotify(inotify))
    }

    /// Returns a fanotify.
    ///
    /// # Errors
    /// With reason and remedy: events wait in it that are to be answered, or what it watches cannot be found.
    pub(super) fn fanotify(
        &mut self,
        info: fdinfo::Kind,
        (own, fd): (&OwnedFd, RemoteFd),
    ) -> Result<FileKind, Refused> {
        let fdinfo::Kind::Fanotify(told) = info else {
            return Err(("the kernel does not say what it is".into(), String::new()));
        };
        if waiting(own)? != 0 {
            if told.flags & ASKED_FIRST != 0 {
                return Err((
                    "events wait in it, and whoever caused one may wait for its answer".into(),
                    "try again when the program has read them".into(),
                ));
            }
            let what = format!("in descriptor {fd}");
            self.losses.push(Loss::with(Lost::FanotifyEvents, what));
        }
        let mut fanotify = Fanotify {
            init_flags: told.flags,
            event_flags: told.event_flags,
            marks: Vec::with_capacity(told.marks.len()),
        };
        // The kernel tells the youngest first.
        for mark in told.marks.into_iter().rev() {
            let on = match mark.on {
                fdinfo::Marked::Inode(ino, sdev, handle) => {
                    Marked::Inode(self.watched(sdev, ino, handle)?)
                }
                fdinfo::Marked::Mount(id) => {
                    Marked::Mount(id, self.mounted(|mount| mount.id as u32 == id)?)
                }
                fdinfo::Marked::FileSystem(sdev) => {
                    Marked::FileSystem(sdev, self.mounted(|mount| mount.dev == unpacked(sdev))?)
                }
            };
            fanotify.marks.push(FanotifyMark {
                on,
                flags: mark.mflags,
                mask: mark.mask,
                ignored: mark.ignored_mask,
            });
        }
        Ok(FileKind::Fanotify(fanotify))
    }

    /// Returns where a mount is that is marked.
    fn mounted(&mut self, is_it: impl Fn(&Mount) -> bool) -> Result<Vec<u8>, Refused> {
        let mount = self.mounts().iter().find(|mount| is_it(mount));
        let path = mount.map(|mount| mount.mount_point.clone());
        path.ok_or_else(|| ("a mount that it watches is gone".into(), String::new()))
    }

    fn watched(
        &mut self,
        sdev: u32,
        inode: u64,
        handle: Option<(u32, Vec<u8>)>,
    ) -> Result<Watched, Refused> {
        let handle = handle.unwrap_or_default();
        let node = match self.by_handle(sdev, inode, &handle) {
            Some((own, stat, link)) => {
                let found = fetch::at(&link, &stat);
                self.check_proc(&link)?;
                match self.named_file((&own, &link), &stat, found.as_ref(), 0) {
                    Ok(node) => Some(node),
                    // A name that another file has by now, or that the kernel has forgotten.
                    Err(_) if stat.nlink != 0 && !link.ends_with(super::ghosts::DELETED) => None,
                    Err(refused) => return Err(refused),
                }
            }
            None => None,
        };
        let node = match node {
            Some(node) => node,
            None => self.by_search(sdev, inode)?,
        };
        if node
            .mode
            .is_some_and(|mode| mode & libc::S_IFMT == libc::S_IFLNK)
        {
            let path = String::from_utf8_lossy(&node.path);
            let reason = format!("it watches the symbolic link {path} itself");
            return Err((reason, String::new()));
        }
        Ok(Watched {
            node,
            dev: sdev,
            inode,
            handle,
        })
    }

    /// Opens what has this handle; returns it with what the kernel says of it and its name.
    fn by_handle(
        &mut self,
        sdev: u32,
        inode: u64,
        (kind, bytes): &(u32, Vec<u8>),
    ) -> Option<(OwnedFd, file::FileStat, Vec<u8>)> {
        let mounts = self.mounts().iter();
        let places: Vec<Vec<u8>> = mounts
            .filter(|mount| mount.dev == unpacked(sdev))
            .map(|mount| mount.mount_point.clone())
            .collect();
        places.iter().find_map(|place| {
            let place = File::open(OsStr::from_bytes(place)).ok()?;
            let own = handle::open(&place, *kind, bytes).ok()?;
            let stat = file::statx(&own).ok().filter(|stat| stat.ino == inode)?;
            let link = std::fs::read_link(format!("/proc/self/fd/{}", own.as_raw_fd())).ok()?;
            Some((own, stat, link.into_os_string().into_vec()))
        })
    }

    /// Looks for an inode by its number: where descriptors of the tree lead, and where one may be.
    fn by_search(&mut self, sdev: u32, inode: u64) -> Result<RegularFile, Refused> {
        let open = self.files.iter().filter_map(|file| file.kind.node());
        let mut places: Vec<Vec<u8>> = open.map(|node| node.path.clone()).collect();
        places.dedup();
        let found = irmap::find(unpacked(sdev), inode, &places, &self.choices.irmap_paths);
        let Some((path, stat)) = found else {
            let (major, minor) = unpacked(sdev);
            return Err((
                format!(
                    "the name of what it watches is not to be found: inode {inode} of device {major}:{minor}"
                ),
                "name the folder that it is in with --irmap-scan-path".into(),
            ));
        };
        Ok(super::regular_of(&path, &stat, 0))
    }

    /// Returns the mounts, read when they are first asked for.
    pub(super) fn mounts(&mut self) -> &[Mount] {
        self.mounts
            .get_or_insert_with(|| mountinfo::read(Pid::this()).unwrap_or_default())
    }
}

fn unpacked(sdev: u32) -> (u32, u32) {
    (sdev >> MINOR_BITS, sdev & ((1 << MINOR_BITS) - 1))
}

/// Returns how many bytes of events wait.
fn waiting(own: &OwnedFd) -> Result<usize, Refused> {
    kernel::readable_bytes(own).map_err(|error| {
        let reason = format!("the kernel does not say what waits in it: {error}");
        (reason, String::new())
    })
}

/// Returns whether a path is one of a folder.
pub(super) fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}
