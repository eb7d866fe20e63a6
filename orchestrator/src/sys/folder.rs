//! Folders held open: the files in them by name.

use super::{Named, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
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
    open_own(folder, name)
}

/// Opens the folder `name` in another; a symbolic link is not followed.
pub fn open_own(folder: impl AsFd, name: &str) -> Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    openat(folder, name, flags, Mode::empty()).named("openat")
}

/// Has the file system that a folder is in on its disk.
pub fn sync(folder: impl AsFd) -> Result<()> {
    nix::unistd::syncfs(folder).named("syncfs")
}

/// Removes the empty folder `name`.
pub fn remove_folder(folder: impl AsFd, name: &str) -> Result<()> {
    unlinkat(folder, name, UnlinkatFlags::RemoveDir).named("unlinkat")
}

/// Returns the names of what is in a folder; those that are no UTF-8 are left out.
pub fn names(folder: impl AsFd) -> Result<Vec<String>> {
    // Opened anew: that of a mount that was just made is one by its path only (`O_PATH`), which cannot be read.
    let copy = open_in(folder, ".")?;
    let mut dir = nix::dir::Dir::from_fd(copy).named("fdopendir")?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        // What fails once fails again: to go on would never end.
        let entry = entry.named("getdents64")?;
        let name = entry.file_name().to_str().unwrap_or(".");
        if name != "." && name != ".." {
            names.push(name.to_string());
        }
    }
    Ok(names)
}

/// Opens the folder `name`; a symbolic link is followed.
pub fn open_in(folder: impl AsFd, name: &str) -> Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    openat(folder, name, flags, Mode::empty()).named("openat")
}

/// Opens the file `name` to change it; a symbolic link is not followed.
pub fn open_to_change(folder: impl AsFd, name: &str) -> Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    openat(folder, name, flags, Mode::empty())
        .map(File::from)
        .named("openat")
}

/// Makes the symbolic link `name` that leads to `target`.
pub fn link_to(folder: impl AsFd, name: &str, target: &Path) -> Result<()> {
    nix::unistd::symlinkat(target, folder, name).named("symlinkat")
}

/// Returns where the symbolic link `name` leads.
pub fn read_link(folder: impl AsFd, name: &str) -> Result<String> {
    let target = nix::fcntl::readlinkat(folder, name).named("readlinkat")?;
    let target = target.into_string();
    target.map_err(|_| super::Error::new("readlinkat", Errno::EILSEQ))
}

/// Gives an open file the name `path` too.
pub fn link(file: impl AsFd, path: &Path) -> Result<()> {
    let from = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let flags = AtFlags::AT_SYMLINK_FOLLOW;
    nix::unistd::linkat(AT_FDCWD, from.as_str(), AT_FDCWD, path, flags).named("linkat")
}

/// Returns where a symbolic link leads, which is open (`O_PATH`).
pub fn read_symlink(link: impl AsFd) -> Result<Vec<u8>> {
    let target = nix::fcntl::readlinkat(link, "").named("readlinkat")?;
    Ok(target.into_vec())
}

/// Makes a node of this type (`S_IFIFO`, `S_IFCHR`, ...) for its owner.
pub fn make_node(path: &Path, kind: u32, rdev: u64) -> Result<()> {
    let kind = SFlag::from_bits_truncate(kind);
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    nix::sys::stat::mknod(path, kind, mode, rdev).named("mknod")
}

/// Opens what is at `path` without any right to it (`O_PATH`); a symbolic link is not followed.
pub fn open_path(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty()).named("open")
}
