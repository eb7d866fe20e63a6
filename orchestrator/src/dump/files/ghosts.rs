//! Deleted files: what nobody could open any more is kept in the images.

use super::{FileTable, regular_of};
use crate::dump::Error;
use crate::image::ImageWriter;
use crate::procfs::mountinfo::Mount;
use crate::snapshot::*;
use crate::sys::{file, folder};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

/// What `/proc` adds to the name of a file that has none any more.
pub(super) const DELETED: &[u8] = b" (deleted)";
/// Units of `st_blocks`, in bytes.
const BLOCK: u64 = 512;

/// File systems whose files are what the kernel shows.
const SHOWN: [&[u8]; 6] = [
    b"proc", b"sysfs", b"cgroup", b"cgroup2", b"mqueue", b"debugfs",
];

/// A deleted file that was found.
#[derive(Debug)]
pub struct FoundGhost {
    ghost: Ghost,
    inode: super::Inode,
    own: OwnedFd,
}

impl FileTable {
    /// Returns a deleted file, which `own` refers to and had this name.
    ///
    /// # Errors
    /// With reason and remedy: it is too large, or of a kind that is not kept.
    pub fn ghost(
        &mut self,
        own: &OwnedFd,
        stat: &file::FileStat,
        link: &[u8],
        pos: u64,
    ) -> Result<RegularFile, (String, String)> {
        let path = link.strip_suffix(DELETED).unwrap_or(link);
        let id = self.ghost_id(own, stat)?;
        Ok(RegularFile {
            size: None,
            ghost: Some(id),
            ..regular_of(path, stat, pos)
        })
    }

    fn ghost_id(&mut self, own: &OwnedFd, stat: &file::FileStat) -> Result<u32, (String, String)> {
        let inode = (stat.dev, stat.ino);
        if let Some(known) = self.ghosts.iter().find(|found| found.inode == inode) {
            return Ok(known.ghost.id);
        }
        self.refuse_unmade(stat)?;
        let taken = stat.blocks * BLOCK;
        if stat.kind() == libc::S_IFREG && taken > self.choices.ghost_limit {
            let reason = format!(
                "the file was deleted, and its {taken} bytes are above the limit of {}",
                self.choices.ghost_limit
            );
            return Err((reason, format!("use --ghost-limit {taken}")));
        }
        let lost = |error: &dyn std::fmt::Display| {
            let reason = format!("the file was deleted, and cannot be kept: {error}");
            (reason, String::new())
        };
        let id = self.ghosts.len() as u32 + 1;
        self.ghosts.push(FoundGhost {
            ghost: Ghost {
                id,
                uid: stat.uid,
                gid: stat.gid,
                mode: stat.mode,
                inode: (stat.packed_dev() as u32, stat.ino),
                times_us: [stat.atime, stat.mtime].map(micros),
                size: stat.size,
                rdev: stat.packed_rdev() as u32,
                target: target_of(own, stat).map_err(|error| lost(&error))?,
                ..Ghost::default()
            },
            inode,
            own: own.try_clone().map_err(|error| lost(&error))?,
        });
        Ok(id)
    }

    /// Refuses files of file systems on which nobody makes files: the kernel's own ones (message queues, shared memory), which
    /// are mounted nowhere, and those that show what the kernel has.
    fn refuse_unmade(&mut self, stat: &file::FileStat) -> Result<(), (String, String)> {
        let is_here = |mount: &&Mount| match stat.mnt_id {
            Some(id) => i64::from(mount.id) == id as i64,
            None => mount.dev == stat.dev,
        };
        let reason = match self.mounts().iter().find(is_here) {
            None => "it is a file of the kernel's own, which is not kept yet".into(),
            Some(mount) if mount.fs_type == b"hugetlbfs" => {
                "a file of huge pages (hugetlbfs) that was deleted is not kept".into()
            }
            Some(mount) if SHOWN.contains(&&*mount.fs_type) => {
                let kind = String::from_utf8_lossy(&mount.fs_type);
                format!("what it showed ({kind}) is gone, which is not kept yet")
            }
            Some(_) => return Ok(()),
        };
        Err((reason, String::new()))
    }

    /// Writes the deleted files to their images, and returns them.
    ///
    /// # Errors
    /// One cannot be read, or an image not written.
    pub fn write_ghosts(&self, writer: &mut ImageWriter) -> Result<Vec<Ghost>, Error> {
        for found in &self.ghosts {
            let is_file = found.ghost.mode & libc::S_IFMT == libc::S_IFREG;
            // A descriptor for writing alone, or for nothing, cannot be read; its file can.
            let path = format!("/proc/self/fd/{}", found.own.as_raw_fd());
            let source = is_file.then(|| File::open(path)).transpose();
            let source = source.map_err(Error::Ghost)?;
            writer.ghost(&found.ghost, source.as_ref())?;
        }
        Ok(self
            .ghosts
            .iter()
            .map(|found| found.ghost.clone())
            .collect())
    }
}

/// Returns where a symbolic link leads; nothing for anything else.
fn target_of(own: &OwnedFd, stat: &file::FileStat) -> Result<Vec<u8>, crate::sys::Error> {
    match stat.kind() {
        libc::S_IFLNK => folder::read_symlink(own),
        _ => Ok(Vec::new()),
    }
}

fn micros((seconds, nanos): (i64, u32)) -> u64 {
    seconds.max(0) as u64 * 1_000_000 + u64::from(nanos) / 1000
}
