//! The images folder, held open: every file in it is named relative to its descriptor, so that a folder that is moved or
//! replaced meanwhile cannot split an image set in two.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::error::{Error, Result};

/// An open images folder.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
}

impl Dir {
    /// Opens the folder at `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        match nix::fcntl::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd }),
            Err(Errno::ENOTDIR) if path.exists() => Err(Error::NotAFolder { path: path.into() }),
            Err(errno) => Err(Error::Folder {
                path: path.into(),
                source: errno.into(),
            }),
        }
    }

    /// Creates `name`, or empties it, for reading and writing.
    pub(super) fn create(&self, name: &str) -> Result<File> {
        let flags =
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(
            self.fd.as_fd(),
            name,
            flags,
            Mode::from_bits_truncate(0o600),
        )
        .map(File::from)
        .map_err(|errno| failed("create", name, errno.into()))
    }

    /// Opens `name` for reading; `None` where there is no such file.
    pub(super) fn open_file(&self, name: &str) -> Result<Option<File>> {
        // O_NONBLOCK: a FIFO planted under an image's name must not hang the reader; it is refused below.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = match openat(self.fd.as_fd(), name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(failed("open", name, errno.into())),
        };
        let meta = file
            .metadata()
            .map_err(|source| failed("examine", name, source))?;
        if meta.is_file() {
            Ok(Some(file))
        } else {
            let what = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            Err(failed("open", name, what))
        }
    }

    /// Removes `name`; one that is not there is no error.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        match unlinkat(self.fd.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(failed("remove", name, errno.into())),
        }
    }

    /// Gives `from` the name `to`, replacing what has it.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<()> {
        renameat(self.fd.as_fd(), from, self.fd.as_fd(), to)
            .map_err(|errno| failed("rename to", to, errno.into()))
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
