//! Deleted files come back without a name: each is made where it was, loses its name at once, and is filled. The tasks open it
//! by our descriptor of it (`/proc/PID/fd/N`), which the kernel shows as what it was: its path, and that it was deleted.
//!
//! Nothing is left behind, whenever this ends: a file without a name goes with its last descriptor.

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
use crate::snapshot::{FileKind, Ghost, RegularFile, Snapshot};
use crate::sys::Pid;

/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;
/// Most names that are tried where somebody has taken that of a deleted file.
const NAMES: u32 = 1000;

/// Deleted files that were made again, held until the tasks have opened them.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    files: BTreeMap<u32, OwnedFd>,
}

impl Ghosts {
    /// Makes those of an image set.
    pub(super) fn make(images: &ImageSet) -> Result<Self> {
        let mut ghosts = Self::default();
        for ghost in &images.snapshot.ghosts {
            let Some(path) = path_of(&images.snapshot, ghost.id) else {
                continue;
            };
            let image = images.ghosts.get(&ghost.id);
            let made = make(ghost, &path, image).map_err(|source| Error::Ghost {
                path: path.display().to_string(),
                source,
            })?;
            ghosts.files.insert(ghost.id, made);
        }
        Ok(ghosts)
    }

    /// Has the snapshot's files lead to them.
    pub(super) fn lead(&self, snapshot: &mut Snapshot) {
        let this = Pid::this();
        for file in &mut snapshot.files {
            if let FileKind::Regular(regular)
            | FileKind::Device(crate::snapshot::DeviceFile { node: regular, .. }) =
                &mut file.kind
                && let Some(fd) = regular.ghost.and_then(|id| self.files.get(&id))
            {
                regular.path = format!("/proc/{this}/fd/{}", fd.as_raw_fd()).into_bytes();
                // It would stop at the link in /proc.
                file.flags &= !(libc::O_NOFOLLOW as u32);
            }
        }
    }
}

/// Returns the path that a deleted file had.
fn path_of(snapshot: &Snapshot, id: u32) -> Option<PathBuf> {
    let regular = |kind: &FileKind| match kind {
        FileKind::Regular(regular) if regular.ghost == Some(id) => Some(path(regular)),
        _ => None,
    };
    snapshot.files.iter().find_map(|file| regular(&file.kind))
}

fn path(regular: &RegularFile) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(&regular.path))
}

fn make(ghost: &Ghost, path: &Path, image: Option<&File>) -> io::Result<OwnedFd> {
    let folders = Folders::make(path)?;
    let made = match ghost.mode & libc::S_IFMT {
        libc::S_IFREG => regular(ghost, path, image),
        libc::S_IFDIR => folder(ghost, path),
        _ => Err(io::Error::other("of its kind none can be made")),
    };
    drop(folders);
    made
}

fn regular(ghost: &Ghost, path: &Path, image: Option<&File>) -> io::Result<OwnedFd> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let (file, name) = under_free_name(path, |name| options.open(name))?;
    std::fs::remove_file(&name)?;
    file.set_len(ghost.size)?;
    if let Some(image) = image {
        fill(ghost, &file, image)?;
    }
    settle(ghost, &file)?;
    // Who has it open for writing keeps it from being executed.
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(File::open(link)?.into())
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
