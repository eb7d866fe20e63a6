//! Folders held open: the files in them by name.

use super::{Named, Result};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Opens the folder at `path`; `ENOTDIR` where something else is there.
pub fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty()).named("open")
}

/// Creates the file `name`, or empties it, for reading and writing by its owner; a symbolic link is not followed.
pub fn create(folder: impl AsFd, name: &str) -> Result<File> {
    let access = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_TRUNC;
    let flags = access | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    openat(folder, name, flags, mode)
        .map(File::from)
        .named("openat")
}

/// Opens the file `name` for reading, without waiting for a writer where it is a FIFO.
pub fn open_file(folder: impl AsFd, name: &str) -> Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    openat(folder, name, flags, Mode::empty())
        .map(File::from)
        .named("openat")
}

/// Removes the file `name`.
pub fn remove(folder: impl AsFd, name: &str) -> Result<()> {
    unlinkat(folder, name, UnlinkatFlags::NoRemoveDir).named("unlinkat")
}

/// Gives the file `from` the name `to` in the same folder, replacing what has it.
pub fn rename(folder: impl AsFd, from: &str, to: &str) -> Result<()> {
    nix::fcntl::renameat(folder.as_fd(), from, folder.as_fd(), to).named("renameat")
}
