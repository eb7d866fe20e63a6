//! Files that were deleted under the name they were opened by, and have others, which nobody can find: each gets one more
//! name, `link_remap.ID` in the folder that it was in (`--link-remap`), by which the restore finds it.
//!
//! The names are made when nothing can refuse the dump any more. They go when the dump fails, or leaves the target running.

use super::{FileTable, Refused, regular_of};
use crate::dump::Error;
use crate::snapshot::*;
use crate::sys::{file, folder};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that is to get a name.
#[derive(Debug)]
pub struct FoundLink {
    inode: super::Inode,
    id: FileId,
    path: PathBuf,
    own: OwnedFd,
}

/// Names that were made. They are removed when this is dropped.
#[derive(Debug, Default)]
pub struct Links {
    made: Vec<PathBuf>,
}

impl FileTable {
    /// Returns a file that was deleted under `path`, which `own` refers to, and has other names.
    ///
    /// # Errors
    /// With reason and remedy: it is not asked for, or cannot get another name.
    pub(super) fn linked(
        &mut self,
        own: &OwnedFd,
        stat: &file::FileStat,
        path: &[u8],
        pos: u64,
    ) -> Result<RegularFile, Refused> {
        if !self.choices.link_remap {
            return Err((
                "it was deleted under this name, and has others".into(),
                "use --link-remap to give it one more until it is restored".into(),
            ));
        }
        let link = Some(self.link_id(own, stat, path)?);
        Ok(RegularFile {
            link,
            ..regular_of(path, stat, pos)
        })
    }

    fn link_id(
        &mut self,
        own: &OwnedFd,
        stat: &file::FileStat,
        path: &[u8],
    ) -> Result<FileId, Refused> {
        let inode = (stat.dev, stat.ino);
        if let Some(known) = self.links.iter().find(|known| known.inode == inode) {
            return Ok(known.id);
        }
        let refused = |why: &dyn std::fmt::Display| {
            let reason = format!("it was deleted under this name, and cannot get another: {why}");
            (reason, String::new())
        };
        let id = self.next_id();
        let path = free_name(Path::new(OsStr::from_bytes(path)), stat, id);
        let path = path.map_err(|why| refused(&why))?;
        let own = own.try_clone().map_err(|error| refused(&error))?;
        let mut regular = regular_of(&path.clone().into_os_string().into_vec(), stat, 0);
        if stat.kind() != libc::S_IFREG {
            // Nothing is opened by this record: it is a name alone.
            regular.mode = None;
        }
        let flags = libc::O_RDONLY as u32;
        self.add(flags, Owner::default(), FileKind::Regular(regular));
        self.links.push(FoundLink {
            inode,
            id,
            path,
            own,
        });
        Ok(id)
    }

    /// Gives the files their names.
    ///
    /// # Errors
    /// One cannot be made; the others are gone again.
    pub fn make_links(&self) -> Result<Links, Error> {
        let mut links = Links::default();
        for found in &self.links {
            folder::link(&found.own, &found.path).map_err(|source| Error::Link {
                path: found.path.display().to_string(),
                source,
            })?;
            links.made.push(found.path.clone());
        }
        Ok(links)
    }
}

impl Links {
    /// Leaves the names for the restore, which removes them.
    pub fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for path in &self.made {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!("the link {} stays: {error}", path.display());
            }
        }
    }
}

/// Returns a name that nothing has, in the folder that the file was in, or in what is left of the way to it.
fn free_name(path: &Path, stat: &file::FileStat, id: FileId) -> Result<PathBuf, String> {
    let folders = path.ancestors().skip(1);
    let (folder, found) = folders
        .filter_map(|folder| Some((folder, folder.metadata().ok()?)))
        .next()
        .ok_or("no folder of its path is left")?;
    if found.dev() != stat.packed_dev() {
        let folder = folder.display();
        return Err(format!("{folder} is of another file system by now"));
    }
    let names = (0..).map(|turn| match turn {
        0 => format!("link_remap.{}", id.0),
        turn => format!("link_remap.{}.{turn}", id.0),
    });
    let mut free = names.map(|name| folder.join(name));
    let free = free.find(|path| path.symlink_metadata().is_err());
    free.ok_or_else(|| "all names are taken".into())
}
