//! The images folder, held open: every file in it is named relative to its descriptor, so that a folder that is moved or
//! replaced meanwhile cannot split an image set in two.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;

use super::error::{Error, Result};
use super::parents::PARENT;
use super::write::INVENTORY;
use crate::sys::folder;

/// Folder in the images folder in which a set is made.
const UNFINISHED: &str = ".orchestrator-unfinished";
/// What that folder is called once the set in it is complete, and takes the place of an older one.
const COMPLETE: &str = ".orchestrator-complete";

/// An open images folder.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    /// A complete set that is on its way to its place: what is here comes before what is there.
    arriving: Option<OwnedFd>,
    /// Files of the set and how many records each has, where the set says so.
    images: Option<BTreeMap<String, Option<u64>>>,
}

/// Whether a set has a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    /// It does, with so many records, unless it has none.
    With(Option<u64>),
    /// It does not.
    No,
    /// The set does not say what files it has.
    Unknown,
}

impl Dir {
    /// Opens the folder at `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        match folder::open(path) {
            Ok(fd) => Ok(Self::of(fd)),
            Err(error) if error.errno == Errno::ENOTDIR && path.exists() => {
                Err(Error::NotAFolder { path: path.into() })
            }
            Err(error) => Err(Error::Folder {
                path: path.into(),
                source: error.errno.into(),
            }),
        }
    }

    fn of(fd: OwnedFd) -> Self {
        Self {
            fd,
            arriving: None,
            images: None,
        }
    }

    /// Opens the folder at `path` to read the set in it, of which some may still be on its way.
    pub(super) fn open_set(path: &Path) -> Result<Self> {
        let mut dir = Self::open(path)?;
        dir.arriving = dir.complete().map(|complete| complete.fd);
        Ok(dir)
    }

    /// Returns the folder of a complete set that is on its way to its place.
    fn complete(&self) -> Option<Dir> {
        let complete = Self::of(folder::open_own(&self.fd, COMPLETE).ok()?);
        let names = complete.names().ok()?;
        names
            .iter()
            .any(|name| name == INVENTORY)
            .then_some(complete)
    }

    /// Keeps what files the set has.
    pub(super) fn list(&mut self, images: impl Iterator<Item = (String, Option<u64>)>) {
        let images: BTreeMap<_, _> = images.collect();
        self.images = (!images.is_empty()).then_some(images);
    }

    /// Returns whether the set has a file.
    pub(super) fn listed(&self, name: &str) -> Listed {
        match &self.images {
            None => Listed::Unknown,
            Some(images) => images
                .get(name)
                .map_or(Listed::No, |&records| Listed::With(records)),
        }
    }

    /// Makes a folder in memory, which goes with its descriptor.
    pub(super) fn in_memory() -> Result<Self> {
        let made = crate::sys::tmpfs::folder();
        let fd = made.map_err(|error| failed("make", "a folder in memory", error.errno.into()))?;
        Ok(Self::of(fd))
    }

    /// Returns another handle of the folder.
    pub(super) fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone();
        fd.map(Self::of)
            .map_err(|source| failed("open", "the images folder", source))
    }

    /// Returns the descriptor of the folder.
    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Creates `name`, or empties it, for reading and writing.
    pub(super) fn create(&self, name: &str) -> Result<File> {
        folder::create(&self.fd, name).map_err(|error| failed("create", name, error.errno.into()))
    }

    /// Opens `name` for reading; `None` where there is no such file.
    pub(super) fn open_file(&self, name: &str) -> Result<Option<File>> {
        // One that an older set has left.
        if self.listed(name) == Listed::No {
            return Ok(None);
        }
        let arriving = self.arriving.as_ref();
        let arriving = arriving.map(|arriving| folder::open_file(arriving, name));
        let file = match arriving {
            Some(Ok(file)) => Ok(file),
            _ => folder::open_file(&self.fd, name),
        };
        let file = match file {
            Ok(file) => file,
            Err(error) if error.errno == Errno::ENOENT => return Ok(None),
            Err(error) => return Err(failed("open", name, error.errno.into())),
        };
        let meta = file
            .metadata()
            .map_err(|source| failed("examine", name, source))?;
        if meta.is_file() {
            Ok(Some(file))
        } else {
            // A FIFO planted under an image's name, say.
            let what = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            Err(failed("open", name, what))
        }
    }

    /// Returns device and inode of the folder: which one it is, however it was reached.
    pub(super) fn identity(&self) -> Result<(u64, u64)> {
        let stat = crate::sys::file::statx(&self.fd);
        let stat =
            stat.map_err(|error| failed("examine", "the images folder", error.errno.into()))?;
        let (major, minor) = stat.dev;
        Ok((u64::from(major) << 32 | u64::from(minor), stat.ino))
    }

    /// Opens the folder that the link to the parent leads to; `None` where there is no link.
    pub(super) fn open_parent(&self) -> Result<Option<Dir>> {
        // Of a set on its way the link is too; it counts from where it belongs.
        let arriving = self.arriving.as_ref();
        let link = arriving.and_then(|arriving| folder::read_link(arriving, PARENT).ok());
        match folder::open_in(&self.fd, link.as_deref().unwrap_or(PARENT)) {
            Ok(fd) => Ok(Some(Self::of(fd))),
            Err(error) if error.errno == Errno::ENOENT => Ok(None),
            Err(error) => Err(failed("open", PARENT, error.errno.into())),
        }
    }

    /// Opens the folder that will be the parent of the set that a dump makes here: where the link in its unfinished set leads,
    /// which counts from where it will belong, or else that of the set that is here.
    pub(super) fn open_parent_to_be(&self) -> Result<Option<Dir>> {
        let unfinished = folder::open_own(&self.fd, UNFINISHED);
        let link = unfinished.and_then(|unfinished| folder::read_link(unfinished, PARENT));
        let Ok(link) = link else {
            return self.open_parent();
        };
        let opened = folder::open_in(&self.fd, &link);
        let opened = opened.map_err(|error| failed("open", PARENT, error.errno.into()))?;
        Ok(Some(Self::of(opened)))
    }

    /// Opens `name` to change it; `None` where there is no such file.
    pub(super) fn open_to_change(&self, name: &str) -> Result<Option<File>> {
        match folder::open_to_change(&self.fd, name) {
            Ok(file) if file.metadata().is_ok_and(|meta| meta.is_file()) => Ok(Some(file)),
            Ok(_) => Ok(None),
            Err(error) if error.errno == Errno::ENOENT => Ok(None),
            Err(error) => Err(failed("open", name, error.errno.into())),
        }
    }

    /// Removes the link to the parent set. A folder of this name is somebody else's, and stays.
    pub(super) fn unlink_parent(&self) -> Result<()> {
        match folder::remove(&self.fd, PARENT) {
            Err(error) if !matches!(error.errno, Errno::ENOENT | Errno::EISDIR) => {
                Err(failed("remove", PARENT, error.errno.into()))
            }
            _ => Ok(()),
        }
    }

    /// Makes the link to the parent set.
    pub(super) fn link_parent(&self, target: &Path) -> Result<()> {
        folder::link_to(&self.fd, PARENT, target)
            .map_err(|error| failed("make the link", PARENT, error.errno.into()))
    }

    /// Removes `name`; one that is not there is no error.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        match folder::remove(&self.fd, name) {
            Err(error) if error.errno != Errno::ENOENT => {
                Err(failed("remove", name, error.errno.into()))
            }
            _ => Ok(()),
        }
    }

    /// Moves a file of this folder to another, replacing what has its name there.
    pub(super) fn move_to(&self, name: &str, to: &Dir) -> Result<()> {
        folder::rename((&self.fd, name), (&to.fd, name))
            .map_err(|error| failed("move into place", name, error.errno.into()))
    }

    /// Makes an empty folder in this one for a new set, for this process alone: as long as it has this one, no other gets it.
    /// A set that was on its way arrives first.
    pub(super) fn make_unfinished(&self, path: &Path) -> Result<Dir> {
        let copy = self.fd.try_clone();
        let copy = copy.map_err(|source| failed("open", "the images folder", source))?;
        if let Err(std::fs::TryLockError::WouldBlock) = File::from(copy).try_lock() {
            return Err(Error::Busy { path: path.into() });
        }
        if let Some(complete) = self.complete() {
            complete.arrive(self)?;
        }
        // Without its inventory it is nothing.
        if let Ok(rest) = folder::open_own(&self.fd, COMPLETE) {
            Self::of(rest).clear()?;
            self.remove_folder(COMPLETE)?;
        }
        let made = folder::make(&self.fd, UNFINISHED).map_err(|error| {
            let path = path.display().to_string();
            failed("make a folder in", &path, error.errno.into())
        })?;
        let made = Self::of(made);
        // What a dump that was killed has left.
        made.clear()?;
        Ok(made)
    }

    /// Makes an empty folder in this one, for this process alone: as long as it has it, no other gets it.
    pub(super) fn make_own(&self, name: &str, path: &Path) -> Result<Dir> {
        let made = folder::make(&self.fd, name).map_err(|error| {
            let path = path.display().to_string();
            failed("make a folder in", &path, error.errno.into())
        })?;
        let own = Self::of(made);
        let copy = own.fd.try_clone();
        let copy = copy.map_err(|source| failed("open", name, source))?;
        if let Err(std::fs::TryLockError::WouldBlock) = File::from(copy).try_lock() {
            return Err(Error::Busy { path: path.into() });
        }
        // What one that was killed has left.
        own.clear()?;
        Ok(own)
    }

    fn clear(&self) -> Result<()> {
        let names = folder::names(&self.fd).unwrap_or_default();
        names.iter().try_for_each(|name| self.remove(name))
    }

    /// Makes the set in the folder of an unfinished one valid, in one step: from here on it is what is read.
    pub(super) fn complete_unfinished(&self) -> Result<()> {
        folder::rename((&self.fd, UNFINISHED), (&self.fd, COMPLETE))
            .map_err(|error| failed("complete", "the image set", error.errno.into()))
    }

    /// Moves all files of this set to where they belong, the inventory last.
    pub(super) fn arrive(&self, to: &Dir) -> Result<()> {
        // For those who look there alone: the older set is none any more.
        to.remove(INVENTORY)?;
        let names = self.names()?;
        if !names.iter().any(|name| name == PARENT) {
            to.unlink_parent()?;
        }
        let others = names.iter().filter(|name| *name != INVENTORY);
        for name in others.map(String::as_str).chain([INVENTORY]) {
            self.move_to(name, to)?;
        }
        Ok(())
    }

    /// Returns whether the folder holds the inventory of a set.
    ///
    /// # Errors
    /// It holds something else of that name.
    pub(super) fn has_inventory(&self) -> Result<bool> {
        Ok(self.open_file(INVENTORY)?.is_some())
    }

    /// Has all that was written to the folder's file system on its disk.
    pub(super) fn sync(&self) -> Result<()> {
        folder::sync(&self.fd)
            .map_err(|error| failed("bring to the disk", "the image set", error.errno.into()))
    }

    /// Removes the folder in which a set was made, which is empty.
    pub(super) fn remove_unfinished(&self) -> Result<()> {
        self.remove_folder(UNFINISHED)
    }

    /// Removes the folder by which a set came to its place, which is empty.
    pub(super) fn remove_complete(&self) -> Result<()> {
        self.remove_folder(COMPLETE)
    }

    /// Returns the names of what is in the folder.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        folder::names(&self.fd)
            .map_err(|error| failed("list", "the images folder", error.errno.into()))
    }

    /// Removes a folder in this one, which is empty.
    pub(super) fn remove_folder(&self, name: &str) -> Result<()> {
        folder::remove_folder(&self.fd, name)
            .map_err(|error| failed("remove", name, error.errno.into()))
    }
}

/// Returns the error of a failed operation on a file.
pub(super) fn failed(verb: &'static str, file: &str, source: io::Error) -> Error {
    Error::Io {
        verb,
        file: file.into(),
        source,
    }
}
