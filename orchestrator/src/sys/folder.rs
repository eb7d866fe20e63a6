//! Folders held open: the files in them by name.

use super::{Named, Result};
use nix::errno::Errno;
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

/// Gives the file `from` of one folder the name `to` in another, replacing what has it.
pub fn rename(from: (impl AsFd, &str), to: (impl AsFd, &str)) -> Result<()> {
    nix::fcntl::renameat(from.0, from.1, to.0, to.1).named("renameat")
}

/// Makes the folder `name` for its owner, and opens it; one that is there already is opened.
pub fn make(folder: impl AsFd, name: &str) -> Result<OwnedFd> {
    let mode = Mode::S_IRWXU;
    match nix::sys::stat::mkdirat(folder.as_fd(), name, mode) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno).named("mkdirat"),
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    openat(folder, name, flags, Mode::empty()).named("openat")
}

/// Removes the empty folder `name`.
pub fn remove_folder(folder: impl AsFd, name: &str) -> Result<()> {
    unlinkat(folder, name, UnlinkatFlags::RemoveDir).named("unlinkat")
}

/// Returns the names of what is in a folder; those that are no UTF-8 are left out.
pub fn names(folder: impl AsFd) -> Result<Vec<String>> {
    let copy = folder.as_fd().try_clone_to_owned();
    let copy = copy.map_err(|_| super::Error::new("dup", Errno::last()))?;
    let mut dir = nix::dir::Dir::from_fd(copy).named("fdopendir")?;
    let entries = dir.iter().flatten();
    let names = entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_string));
    Ok(names.filter(|name| name != "." && name != "..").collect())
}
