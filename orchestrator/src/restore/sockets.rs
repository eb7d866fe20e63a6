//! Files of Unix sockets: what an earlier socket has left under a name goes before a new one takes it; what a restore that
//! failed has made goes too.
//!
//! A name is taken from a dead socket only: anything else that has it, and a socket that somebody has bound there, is refused.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use crate::netlink::unix_diag;
use crate::plan::{Refusal, SocketFiles};
use crate::sys::file::statx_at;

/// Returns a refusal for each name that cannot be taken.
pub(super) fn refusals(files: &SocketFiles, task: i32) -> Vec<Refusal> {
    let reasons = files.bound.iter().filter_map(|path| {
        let (reason, remedy) = obstacle(path)?;
        Some(Refusal {
            task,
            object: format!("Unix socket {}", String::from_utf8_lossy(path)),
            reason,
            remedy: remedy.into(),
        })
    });
    reasons.collect()
}

fn obstacle(path: &[u8]) -> Option<(String, &'static str)> {
    let c_path = CString::new(path).ok()?;
    let root = std::fs::File::open("/").ok()?;
    let stat = statx_at(&root, &c_path).ok()?;
    if stat.kind() != libc::S_IFSOCK {
        let reason = "something that is no socket has its name";
        return Some((reason.into(), "move it away"));
    }
    let device = stat.dev.0 << 20 | stat.dev.1;
    let file = Some((stat.ino as u32, device));
    let mut all = unix_diag::read().ok()?.into_values();
    all.any(|told| told.file == file).then(|| {
        let reason = "a socket that is in use has its name";
        (reason.into(), "end the program that has it")
    })
}

/// The files of one restore.
#[derive(Debug)]
pub(super) struct Names {
    /// Those that sockets are bound to.
    bound: Vec<PathBuf>,
    /// The folder for those that are not to be seen.
    hidden: Option<PathBuf>,
}

impl Names {
    /// Makes room for them.
    pub(super) fn make(files: &SocketFiles) -> Result<Self> {
        let mut names = Self {
            bound: Vec::new(),
            hidden: None,
        };
        for path in &files.bound {
            let path = path_of(path);
            remove_socket(&path).map_err(|source| failed(&path, source))?;
            names.bound.push(path);
        }
        for (folder, name) in &files.hidden {
            let folder = path_of(folder);
            if names.hidden.is_none() {
                names.hidden = folder.parent().map(Path::to_path_buf);
                let top = names.hidden.as_deref().unwrap_or(&folder);
                make_folder(top).map_err(|source| failed(top, source))?;
            }
            hide(&folder, name).map_err(|source| failed(&folder, source))?;
        }
        Ok(names)
    }

    /// Leaves the files: the sockets live.
    pub(super) fn keep(mut self) {
        self.bound.clear();
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for path in &self.bound {
            if let Err(error) = remove_socket(path) {
                tracing::warn!("the socket {} stays: {error}", path.display());
            }
        }
        if let Some(hidden) = &self.hidden
            && let Err(error) = std::fs::remove_dir_all(hidden)
        {
            tracing::warn!("the folder {} stays: {error}", hidden.display());
        }
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::SocketName {
        path: path.display().to_string(),
        source,
    }
}

fn remove_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

/// Makes a folder that can be the root for this name: with all folders that lead to it.
fn hide(folder: &Path, name: &[u8]) -> io::Result<()> {
    make_folder(folder)?;
    let name = path_of(name);
    let mut at = folder.to_path_buf();
    let parents = name.parent().into_iter().flat_map(Path::components);
    for part in parents {
        // Below the root, `..` leads no further than there: it is gone when the name is looked up.
        if let std::path::Component::Normal(part) = part {
            at.push(part);
            match make_folder(&at) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
        } else if part == std::path::Component::ParentDir && at != folder {
            at.pop();
        }
    }
    Ok(())
}
