//! Deleted files come back without a name: each is made where it was, loses its name at once, and is filled. One that has
//! other names gets its old one from a link that the dump left, and loses it again. The tasks open them
//! by our descriptor of each (`/proc/PID/fd/N`), which the kernel shows as what it was: its path, and that it was deleted.
//!
//! Nothing is left behind, whenever this ends: a file without a name goes with its last descriptor. The links of a dump stay
//! until the tree lives.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, FileTimes, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::error::{Error, Result};
use crate::image::ImageSet;
use crate::procfs::mountinfo::{self, Mount};
use crate::snapshot::{FileId, FileKind, Ghost, RegularFile, Snapshot, Watched};
use crate::sys::{Pid, folder as sys_folder, handle};

/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;
/// Most names that are tried where somebody has taken that of a deleted file.
const NAMES: u32 = 1000;

/// Deleted files that are there again, held until the tasks have opened them.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    files: BTreeMap<u32, OwnedFd>,
    /// By the other paths that one of them had, where they were deleted too.
    names: BTreeMap<(u32, Vec<u8>), OwnedFd>,
    /// Those with other names, by what leads to each and the path that it had.
    linked: BTreeMap<(FileId, Vec<u8>), OwnedFd>,
    /// What is watched and has no path in the images, by device and inode.
    watched: BTreeMap<(u32, u64), OwnedFd>,
    /// Names that the dump gave them.
    links: BTreeMap<FileId, PathBuf>,
}

impl Ghosts {
    /// Makes those of an image set.
    pub(super) fn make(images: &ImageSet) -> Result<Self> {
        let mut ghosts = Self::default();
        for ghost in &images.snapshot.ghosts {
            let paths = paths_of(&images.snapshot, ghost.id);
            let Some((path, others)) = paths.split_first() else {
                continue;
            };
            let image = images.ghosts.get(&ghost.id);
            let made = make(ghost, (path, others), image);
            let (made, names) = made.map_err(|source| failed(path, source))?;
            ghosts.files.insert(ghost.id, made);
            for (name, own) in others.iter().zip(names) {
                let name = name.as_os_str().as_bytes().to_vec();
                ghosts.names.insert((ghost.id, name), own);
            }
        }
        for regular in nodes(&images.snapshot) {
            let Some(id) = regular.link.filter(|_| regular.ghost.is_none()) else {
                continue;
            };
            let Some(link) = node_of(&images.snapshot, id) else {
                continue;
            };
            let (link, own) = (path(link), path(regular));
            let made = linked(&link, &own).map_err(|source| failed(&own, source))?;
            ghosts.linked.insert((id, regular.path.clone()), made);
            ghosts.links.insert(id, link);
        }
        let kinds = images.snapshot.files.iter().map(|file| &file.kind);
        for watched in kinds.flat_map(FileKind::watched) {
            if watched.node.path.is_empty() {
                let found = by_handle(watched)?;
                ghosts.watched.insert((watched.dev, watched.inode), found);
            }
        }
        Ok(ghosts)
    }

    /// Returns whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.linked.is_empty() && self.watched.is_empty()
    }

    /// Has the snapshot's files lead to them.
    pub(super) fn lead(&self, snapshot: &mut Snapshot) {
        for file in &mut snapshot.files {
            for watched in file.kind.watched_mut() {
                if let Some(fd) = self.watched.get(&(watched.dev, watched.inode)) {
                    watched.node.path = path_here(fd);
                }
                self.lead_one(&mut watched.node);
            }
            if file.kind.node_mut().is_some_and(|node| self.lead_one(node)) {
                // It would stop at the link in /proc.
                file.flags &= !(libc::O_NOFOLLOW as u32);
            }
        }
    }

    /// Has a path lead to what it was, and returns whether it is one of these.
    fn lead_one(&self, regular: &mut RegularFile) -> bool {
        let ghost = regular.ghost.and_then(|id| {
            let named = self.names.get(&(id, regular.path.clone()));
            named.or(self.files.get(&id))
        });
        let linked = regular.link.map(|id| (id, regular.path.clone()));
        let linked = linked.and_then(|key| self.linked.get(&key));
        let Some(fd) = ghost.or(linked) else {
            return false;
        };
        regular.path = path_here(fd);
        true
    }

    /// Removes the names that the dump gave, as all is restored.
    pub(super) fn finish(self) {
        for link in self.links.values() {
            if let Err(error) = std::fs::remove_file(link) {
                tracing::warn!("the link {} stays: {error}", link.display());
            }
        }
    }
}

/// Returns a path by which others find our descriptor.
fn path_here(fd: &OwnedFd) -> Vec<u8> {
    format!("/proc/{}/fd/{}", Pid::this(), fd.as_raw_fd()).into_bytes()
}

/// Opens what an image names by its handle alone, in a mount of its device.
fn by_handle(watched: &Watched) -> Result<OwnedFd> {
    let (kind, bytes) = &watched.handle;
    let mounts = mountinfo::read(Pid::this())?;
    let places = mounts.iter().filter(|mount| {
        let (major, minor) = mount.dev;
        major << 20 | minor == watched.dev
    });
    let mut last = io::ErrorKind::NotFound.into();
    for place in places {
        let opened = File::open(std::ffi::OsStr::from_bytes(&place.mount_point))
            .and_then(|mount| Ok(handle::open(&mount, *kind, bytes).map_err(|e| e.errno)?));
        match opened {
            Ok(own) => return Ok(own),
            Err(error) => last = error,
        }
    }
    Err(Error::Watched {
        inode: watched.inode,
        source: last,
    })
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Ghost {
        path: path.display().to_string(),
        source,
    }
}

/// Returns the paths that a deleted file had, the first of them first.
fn paths_of(snapshot: &Snapshot, id: u32) -> Vec<PathBuf> {
    let of_it = nodes(snapshot).filter(|regular| regular.ghost == Some(id));
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in of_it.map(path) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// Returns all that is found by its path: what is open, and what is watched.
fn nodes(snapshot: &Snapshot) -> impl Iterator<Item = &RegularFile> {
    snapshot.files.iter().flat_map(|file| {
        let watched = file.kind.watched().into_iter();
        let watched = watched.map(|watched| &watched.node);
        file.kind.node().into_iter().chain(watched)
    })
}

fn node_of(snapshot: &Snapshot, id: FileId) -> Option<&RegularFile> {
    snapshot
        .files
        .iter()
        .find(|file| file.id == id)?
        .kind
        .node()
}

fn path(regular: &RegularFile) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(&regular.path))
}

/// Gives a file that `link` leads to its old name, and takes that away again.
fn linked(link: &Path, path: &Path) -> io::Result<OwnedFd> {
    let folders = Folders::make(path)?;
    let ((), name) = under_free_name(path, |name| std::fs::hard_link(link, name))?;
    let opened = sys_folder::open_path(&name);
    std::fs::remove_file(&name)?;
    drop(folders);
    opened.map_err(|error| error.errno.into())
}

/// Makes a deleted file, and returns it by its path, and by the others that it had.
fn make(
    ghost: &Ghost,
    (path, others): (&Path, &[PathBuf]),
    image: Option<&File>,
) -> io::Result<(OwnedFd, Vec<OwnedFd>)> {
    let folders = Folders::make(path)?;
    let made = match ghost.mode & libc::S_IFMT {
        libc::S_IFREG => return regular(ghost, (path, others), image),
        libc::S_IFDIR => folder(ghost, path),
        libc::S_IFLNK => symlink(ghost, path),
        kind @ (libc::S_IFIFO | libc::S_IFCHR | libc::S_IFBLK | libc::S_IFSOCK) => {
            node(ghost, path, kind)
        }
        _ => Err(io::Error::other("of its kind none can be made")),
    };
    drop(folders);
    Ok((made?, Vec::new()))
}

fn regular(
    ghost: &Ghost,
    (path, others): (&Path, &[PathBuf]),
    image: Option<&File>,
) -> io::Result<(OwnedFd, Vec<OwnedFd>)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let make = |name: &Path| options.open(name);
    let (made, seen) = match under_free_name(path, make) {
        // Its mount is read-only, and another of the same file system need not be.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            let place = writable(path).ok_or(error)?;
            let (file, name) = under_free_name(&place, make)?;
            let seen = path.with_file_name(name.file_name().unwrap_or_default());
            ((file, name), Some(sys_folder::open_path(&seen)))
        }
        made => (made?, None),
    };
    let (file, name) = made;
    let names = others.iter().map(|other| linked(&name, other));
    let names: io::Result<Vec<OwnedFd>> = names.collect();
    std::fs::remove_file(&name)?;
    let names = names?;
    file.set_len(ghost.size)?;
    if let Some(image) = image {
        fill(ghost, &file, image)?;
    }
    settle(ghost, &file)?;
    if let Some(seen) = seen {
        return Ok((seen.map_err(|error| error.errno)?, names));
    }
    // Who has it open for writing keeps it from being executed.
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok((File::open(link)?.into(), names))
}

/// Returns where a path of a mount that is read-only lies in another mount of the same file system that is not.
fn writable(path: &Path) -> Option<PathBuf> {
    let mounts = mountinfo::read(Pid::this()).ok()?;
    let place = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    let around = |mount: &&Mount| path.starts_with(place(&mount.mount_point));
    let depth = |mount: &&Mount| mount.mount_point.len();
    let own = mounts.iter().filter(around).max_by_key(depth)?;
    let inner = path.strip_prefix(place(&own.mount_point)).ok()?;
    let inner = place(&own.root).join(inner);
    let others = mounts.iter().filter(|mount| mount.dev == own.dev);
    let mut all = others.filter_map(|mount| {
        let below = inner.strip_prefix(place(&mount.root)).ok()?;
        let is_writable = mount
            .options
            .split(|byte| *byte == b',')
            .all(|word| word != b"ro");
        is_writable.then(|| place(&mount.mount_point).join(below))
    });
    all.find(|found| found.parent().is_some_and(Path::exists))
}

fn folder(ghost: &Ghost, path: &Path) -> io::Result<OwnedFd> {
    let make = |name: &Path| DirBuilder::new().mode(0o700).create(name);
    let ((), name) = under_free_name(path, make)?;
    let opened = File::open(&name);
    std::fs::remove_dir(&name)?;
    let opened = opened?;
    settle(ghost, &opened)?;
    Ok(opened.into())
}

fn symlink(ghost: &Ghost, path: &Path) -> io::Result<OwnedFd> {
    let target = std::ffi::OsStr::from_bytes(&ghost.target);
    let make = |name: &Path| std::os::unix::fs::symlink(target, name);
    let ((), name) = under_free_name(path, make)?;
    let owned = std::os::unix::fs::lchown(&name, Some(ghost.uid), Some(ghost.gid));
    let opened = sys_folder::open_path(&name);
    std::fs::remove_file(&name)?;
    owned?;
    opened.map_err(|error| error.errno.into())
}

/// Makes a named pipe, a device, or a socket that nobody listens on.
fn node(ghost: &Ghost, path: &Path, kind: u32) -> io::Result<OwnedFd> {
    let make = |name: &Path| {
        let made = sys_folder::make_node(name, kind, u64::from(ghost.rdev));
        made.map_err(|error| error.errno.into())
    };
    let ((), name) = under_free_name(path, make)?;
    let settled = settle_named(ghost, &name);
    let opened = sys_folder::open_path(&name);
    std::fs::remove_file(&name)?;
    settled?;
    opened.map_err(|error| error.errno.into())
}

/// Gives what cannot be opened without doing something its owner and mode.
fn settle_named(ghost: &Ghost, name: &Path) -> io::Result<()> {
    std::os::unix::fs::lchown(name, Some(ghost.uid), Some(ghost.gid))?;
    std::fs::set_permissions(name, Permissions::from_mode(ghost.mode & 0o7777))
}

/// Makes something under its name, or if that is taken, one like it.
fn under_free_name<T>(
    path: &Path,
    mut make: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<(T, PathBuf)> {
    let mut name = path.to_path_buf();
    for number in 0..NAMES {
        match make(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mut other = path.as_os_str().to_os_string();
                other.push(format!(".{}-{number}", Pid::this()));
                name = other.into();
            }
            made => return Ok((made?, name)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn fill(ghost: &Ghost, file: &File, image: &File) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    for data in &ghost.data {
        let mut done = 0;
        while done < data.len {
            let len = buffer.len().min((data.len - done) as usize);
            image.read_exact_at(&mut buffer[..len], data.at + done)?;
            file.write_all_at(&buffer[..len], data.offset + done)?;
            done += len as u64;
        }
    }
    Ok(())
}

/// Gives it owner, mode and times.
fn settle(ghost: &Ghost, file: &File) -> io::Result<()> {
    std::os::unix::fs::fchown(file, Some(ghost.uid), Some(ghost.gid))?;
    file.set_permissions(Permissions::from_mode(ghost.mode & 0o7777))?;
    let [access, change] = ghost
        .times_us
        .map(|us| SystemTime::UNIX_EPOCH + Duration::from_micros(us));
    file.set_times(FileTimes::new().set_accessed(access).set_modified(change))
}

/// Folders of a path that are gone too, made for as long as the file needs a name.
#[derive(Debug)]
struct Folders {
    made: Vec<PathBuf>,
}

impl Folders {
    fn make(path: &Path) -> io::Result<Self> {
        let mut folders = Self { made: Vec::new() };
        let missing: Vec<&Path> = path
            .ancestors()
            .skip(1)
            .take_while(|folder| !folder.exists())
            .collect();
        for folder in missing.into_iter().rev() {
            DirBuilder::new().mode(0o700).create(folder)?;
            folders.made.push(folder.to_path_buf());
        }
        Ok(folders)
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for folder in self.made.iter().rev() {
            if let Err(error) = std::fs::remove_dir(folder) {
                tracing::warn!("the folder {} stays: {error}", folder.display());
            }
        }
    }
}
