//! The images folder, held open: every file in it is named relative to its descriptor, so that a folder that is moved or
//! replaced meanwhile cannot split an image set in two.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;

use super::error::{Error, Result};
use crate::sys::folder;

/// An open images folder.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
}

impl Dir {
    /// Opens the folder at `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        match folder::open(path) {
            Ok(fd) => Ok(Self { fd }),
            Err(error) if error.errno == Errno::ENOTDIR && path.exists() => {
                Err(Error::NotAFolder { path: path.into() })
            }
            Err(error) => Err(Error::Folder {
                path: path.into(),
                source: error.errno.into(),
            }),
        }
    }

    /// Creates `name`, or empties it, for reading and writing.
    pub(super) fn create(&self, name: &str) -> Result<File> {
        folder::create(&self.fd, name).map_err(|error| failed("create", name, error.errno.into()))
    }

    /// Opens `name` for reading; `None` where there is no such file.
    pub(super) fn open_file(&self, name: &str) -> Result<Option<File>> {
        let file = match folder::open_file(&self.fd, name) {
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

    /// Makes an empty folder in this one, for this process alone: as long as it has it, no other gets it.
    pub(super) fn make_own(&self, name: &str, path: &Path) -> Result<Dir> {
        let made = folder::make(&self.fd, name).map_err(|error| {
            failed(
                "make a folder in",
                &path.display().to_string(),
                error.errno.into(),
            )
        })?;
        let copy = made.try_clone();
        let copy = copy.map_err(|source| failed("open", name, source))?;
        if let Err(std::fs::TryLockError::WouldBlock) = File::from(copy).try_lock() {
            return Err(Error::Busy { path: path.into() });
        }
        let own = Dir { fd: made };
        // What a dump that was killed has left.
        for old in folder::names(&own.fd).unwrap_or_default() {
            own.remove(&old)?;
        }
        Ok(own)
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
