//! Names of inodes, found by looking at every file where they may be: for what the kernel has no name of.

use super::notify::is_folder;
use super::terminated;
use crate::sys::file::{self, FileStat};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where programs watch files, as a rule: the services of a system.
const USUAL: [&str; 5] = ["/etc", "/run", "/var/spool", "/var/log", "/var/lib"];
/// Most files that are looked at: a search is while the target stands still.
const MOST: usize = 200_000;

/// Returns the path of an inode and what the kernel says of it. `open` are paths of the target's own files: these, what is
/// beside them, and the folders above are looked at first; then `asked`, with all that is below, and the usual places.
pub(super) fn find(
    dev: (u32, u32),
    inode: u64,
    open: &[Vec<u8>],
    asked: &[PathBuf],
) -> Option<(Vec<u8>, FileStat)> {
    let is_it = |path: &Path| {
        let stat = file::statx_link(&terminated(path.as_os_str().as_bytes())).ok()?;
        ((stat.dev, stat.ino) == (dev, inode)).then_some(stat)
    };
    let hit = |path: PathBuf| is_it(&path).map(|stat| (path.into_os_string().into_vec(), stat));
    for path in open.iter().map(|path| Path::new(OsStr::from_bytes(path))) {
        let near = path.ancestors().map(Path::to_path_buf);
        let beside = path.parent().map(entries).unwrap_or_default();
        if let Some(found) = near.chain(beside).find_map(hit) {
            return Some(found);
        }
    }
    let mut left = MOST;
    let usual = USUAL.iter().map(PathBuf::from);
    let mut folders: Vec<PathBuf> = asked.iter().cloned().chain(usual).rev().collect();
    while let (Some(path), true) = (folders.pop(), left > 0) {
        left -= 1;
        if is_folder(&path) {
            folders.extend(entries(&path));
        }
        if let Some(found) = hit(path) {
            return Some(found);
        }
    }
    None
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).into_iter().flatten().flatten();
    all.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_beside_an_open_one_and_below_a_named_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("deep/er");
        std::fs::create_dir_all(&deep).expect("folders");
        for name in ["deep/er/file", "open", "beside"] {
            std::fs::write(folder.path().join(name), "").expect("write");
        }
        let look = |name: &str, open: &[Vec<u8>], asked: &[PathBuf]| {
            let path = folder.path().join(name);
            let stat = file::statx_link(&terminated(path.as_os_str().as_bytes())).expect("statx");
            find(stat.dev, stat.ino, open, asked).map(|found| found.0)
        };
        let path = |name: &str| folder.path().join(name).into_os_string().into_vec();
        assert_eq!(look("beside", &[path("open")], &[]), Some(path("beside")));
        let asked = [folder.path().to_path_buf()];
        assert_eq!(
            look("deep/er/file", &[], &asked),
            Some(path("deep/er/file"))
        );
        assert_eq!(look("deep/er/file", &[path("open")], &[]), None);
    }
}
