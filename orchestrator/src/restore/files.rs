//! Whether the files that the images name are still the ones that were dumped.
//!
//! Asked before anything is started: a program goes on in the middle of what it read of a file, so one of another size, and
//! code of another build, would be silent corruption. Whoever changes a file between this look and its opening is not
//! noticed; the images say nothing that would tell.

use crate::build_id::build_id;
use crate::objects::regular::proc::whose;
use crate::plan::Refusal;
use crate::procfs::stat::started;
use crate::snapshot::{FileKind, OpenFile, ProcOwner, RegularFile, Snapshot};
use crate::sys::file::statx_path;
use std::ffi::CString;
use std::path::Path;

/// Type bits of a mode.
const TYPE: u32 = libc::S_IFMT;

/// Returns a refusal for each file that is missing or another one by now.
pub(super) fn refusals(snapshot: &Snapshot) -> Vec<Refusal> {
    let Some(task) = snapshot.root() else {
        return Vec::new();
    };
    let refusal = |path: &[u8], reason, remedy: &str| Refusal {
        task: task.pid,
        object: format!("file {}", String::from_utf8_lossy(path)),
        reason,
        remedy: remedy.into(),
    };
    let files = snapshot.files.iter().flat_map(by_path);
    files
        .filter_map(|(regular, rdev)| {
            // Paths count from our root, also those of a task with another one: that is how they were read.
            let path = &regular.path;
            if let Some(owner) = regular.of {
                let (reason, remedy) = check_owner(regular, owner).err()?;
                return Some(refusal(path, reason, remedy));
            }
            if regular.ghost.is_some() || regular.link.is_some() || is_of_tree(path, snapshot) {
                return None;
            }
            let (reason, remedy) = difference(path, regular, rdev).err()?;
            Some(refusal(path, reason, remedy))
        })
        .collect()
}

/// Returns whether this is a file of /proc that exists once the tree does.
fn is_of_tree(path: &[u8], snapshot: &Snapshot) -> bool {
    let Some(whose) = whose(path) else {
        return false;
    };
    let mut tasks = snapshot.tasks.iter();
    tasks.any(|task| task.pid == whose.pid)
}

/// Checks that a file of `/proc` can be of whom it was.
fn check_owner(regular: &RegularFile, owner: ProcOwner) -> Result<(), (String, &'static str)> {
    match owner {
        ProcOwner::Gone(pid) if Path::new(&format!("/proc/{pid}")).exists() => {
            let reason = format!("it was of a process {pid} that had ended, and there is one here");
            Err((reason, "restore it where that number is free"))
        }
        ProcOwner::Gone(_) => Ok(()),
        ProcOwner::Outside(start) => {
            let folder = whose(&regular.path).map(|whose| whose.folder());
            let now = folder.as_deref().and_then(started);
            let reason = match now {
                Some(now) if now == start => return difference(&regular.path, regular, None),
                Some(_) => "it was of a process outside, and another one has its number now",
                None => "it was of a process outside, which has ended",
            };
            Err((reason.into(), ""))
        }
    }
}

/// Returns what is found by its path, with the number of a device: what is open, and what is watched.
fn by_path(file: &OpenFile) -> Vec<(&RegularFile, Option<u64>)> {
    match &file.kind {
        FileKind::Regular(regular) => vec![(regular, None)],
        FileKind::Device(device) => {
            vec![(&device.node, Some(device.rdev).filter(|&rdev| rdev != 0))]
        }
        kind => {
            let watched = kind.watched().into_iter().map(|watched| &watched.node);
            let named = watched.filter(|node| !node.path.is_empty());
            named.map(|node| (node, None)).collect()
        }
    }
}

/// Compares the file at `path` with what the image says of it; an error is the reason and the remedy.
fn difference(
    path: &[u8],
    regular: &RegularFile,
    rdev: Option<u64>,
) -> Result<(), (String, &'static str)> {
    let c_path = CString::new(path).map_err(|_| ("its name holds a zero byte".to_string(), ""))?;
    let stat = statx_path(&c_path).map_err(|error| {
        let reason = format!("it cannot be found here: {}", error.errno.desc());
        (reason, "bring it to the same path")
    })?;
    let mode = stat.mode;
    if let Some(dumped) = regular.mode
        && dumped & TYPE != mode & TYPE
    {
        return Err((
            format!("it is {} and was {}", kind(mode), kind(dumped)),
            "bring the dumped one back",
        ));
    }
    if let Some(rdev) = rdev
        && rdev != stat.packed_rdev()
    {
        return Err(("it is another device".into(), "bring the dumped one back"));
    }
    if mode & TYPE != libc::S_IFREG {
        return Ok(());
    }
    if let Some(size) = regular.size
        && size != stat.size
    {
        return Err((
            format!(
                "it changed on disk: {} bytes now, {size} when dumped",
                stat.size
            ),
            "bring the dumped one back",
        ));
    }
    if !regular.build_id.is_empty() && build_id(path).as_deref() != Some(&regular.build_id) {
        return Err((
            "it changed on disk: its build id is another".into(),
            "bring the dumped one back, or dump the program anew",
        ));
    }
    Ok(())
}

fn kind(mode: u32) -> &'static str {
    match mode & TYPE {
        libc::S_IFREG => "a regular file",
        libc::S_IFDIR => "a directory",
        libc::S_IFCHR => "a character device",
        libc::S_IFBLK => "a block device",
        libc::S_IFIFO => "a FIFO",
        libc::S_IFSOCK => "a socket",
        libc::S_IFLNK => "a symbolic link",
        _ => "of an unknown kind",
    }
}
