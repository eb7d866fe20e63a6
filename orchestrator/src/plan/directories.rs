//! Working directories, roots and umasks: that of a process, and those that threads have for themselves.
//!
//! What is opened by path is open before. A thread is born with those of its process, and its paths may lead nowhere from there:
//! so its directories are opened while those of the restore are in force, and handed to it by their numbers.

use super::program::Object;
use super::task::Making;
use crate::snapshot::{FileId, FileKind, Thread};
use std::collections::BTreeMap;

/// Directories of threads, by thread: descriptors of the working directory and of the root.
pub type Opened = BTreeMap<i32, [i32; 2]>;

/// Adds the opening of directories of threads.
pub fn plan_open(m: &mut Making<'_>) -> Opened {
    let mut opened = Opened::new();
    let task = m.own.task;
    for thread in &task.threads {
        let Some(fs) = &thread.fs else {
            continue;
        };
        let places = [(fs.cwd, "working directory"), (fs.root, "root")];
        let [cwd, root] = places.map(|(id, what)| {
            let path = directory(m, id, what)?;
            name(m, what, &path);
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            Some(m.b.open_path(&path, flags as u32))
        });
        if let (Some(cwd), Some(root)) = (cwd, root) {
            opened.insert(thread.tid, [cwd, root]);
        }
    }
    opened
}

/// Adds that a thread takes what is its own.
pub fn plan_thread(m: &mut Making<'_>, thread: &Thread, opened: &Opened) {
    let (Some(fs), Some(&[cwd, root])) = (&thread.fs, opened.get(&thread.tid)) else {
        return;
    };
    m.b.object(Object::Thread(thread.tid, "directories of its own"));
    let unshare = libc::CLONE_FS as u64;
    m.b.call_returns(libc::SYS_unshare, &[unshare], 0);
    m.b.call_returns(libc::SYS_fchdir, &[root as u64], 0);
    let here = m.b.put_cstr(b".");
    m.b.call_returns(libc::SYS_chroot, &[here], 0);
    m.b.call_returns(libc::SYS_fchdir, &[cwd as u64], 0);
    m.b.call(libc::SYS_umask, &[u64::from(fs.umask)]);
}

/// Adds their closing, by the leader, once all threads have them.
pub fn plan_close(m: &mut Making<'_>, opened: &Opened) {
    for fd in opened.values().flatten() {
        m.b.close(*fd);
    }
}

/// Adds the working directory, the root and the umask. What is opened by path is open before.
pub fn plan_fs(m: &mut Making<'_>) {
    if let Some(path) = directory(m, m.own.fs.cwd, "working directory") {
        name(m, "working directory", &path);
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let fd = m.b.open_path(&path, flags as u32);
        m.b.call_returns(libc::SYS_fchdir, &[fd as u64], 0);
        m.b.close(fd);
    }
    if let Some(path) = directory(m, m.own.fs.root, "root")
        && path != b"/"
    {
        name(m, "root", &path);
        let at = m.b.put_cstr(&path);
        m.b.call_returns(libc::SYS_chroot, &[at], 0);
    }
    m.b.object(Object::Task("umask"));
    m.b.call(libc::SYS_umask, &[u64::from(m.own.fs.umask)]);
}

fn name(m: &mut Making<'_>, what: &str, path: &[u8]) {
    let path = String::from_utf8_lossy(path);
    m.b.object(Object::Named(format!("{what}: {path}")));
}

fn directory(m: &mut Making<'_>, id: FileId, what: &str) -> Option<Vec<u8>> {
    match m.files.get(&id).map(|file| &file.kind) {
        Some(FileKind::Regular(file)) => Some(file.path.clone()),
        _ => {
            m.report.refuse(what, "its path is not in the images", "");
            None
        }
    }
}
