//! What an image set holds that this build cannot restore, all of it at once and by name.

use super::check::find;
use super::vma::file_of;
use crate::snapshot::{Arch, FileId, FileKind, Mm, OpenFile, Snapshot, Task};

/// One thing that stands in the way of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Process id of the task it belongs to; 0 = the whole image set.
    pub task: i32,
    /// The object: `descriptor 7 (Unix socket)`, `area 0x7f12…`, `dead task`.
    pub object: String,
    /// Why it cannot be restored.
    pub reason: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.task != 0 {
            write!(f, "task {}: ", self.task)?;
        }
        write!(f, "{}: {}", self.object, self.reason)
    }
}

/// Returns what in `snapshot`, whose files ascend by id, this build cannot restore.
pub fn refusals(snapshot: &Snapshot) -> Vec<Refusal> {
    let mut list = List {
        task: 0,
        all: Vec::new(),
    };
    for task in &snapshot.tasks {
        list.task = task.pid;
        of_task(task, &snapshot.files, &mut list);
    }
    list.all
}

struct List {
    task: i32,
    all: Vec<Refusal>,
}

impl List {
    fn add(&mut self, object: impl Into<String>, reason: impl Into<String>) {
        self.all.push(Refusal {
            task: self.task,
            object: object.into(),
            reason: reason.into(),
        });
    }

    /// Refuses `object` where its file is of a kind that is not restored.
    fn check_file(&mut self, object: impl Into<String>, id: FileId, files: &[OpenFile]) {
        if let Some(FileKind::Unsupported(name)) = find(files, id).map(|file| &file.kind) {
            self.add(
                format!("{} ({name})", object.into()),
                "this kind is not restored yet",
            );
        }
    }
}

fn of_task(task: &Task, files: &[OpenFile], list: &mut List) {
    for thread in &task.threads {
        if let Arch::Foreign(name) = &thread.arch {
            list.add(
                format!("thread {} of {name}", thread.tid),
                "this machine cannot run it",
            );
        }
        if let Some(fs) = &thread.fs {
            let of = |what| format!("{what} of thread {}", thread.tid);
            list.check_file(of("working directory"), fs.cwd, files);
            list.check_file(of("root"), fs.root, files);
        }
    }
    for entry in &task.fds {
        list.check_file(format!("descriptor {}", entry.fd), entry.file, files);
    }
    if let Some(fs) = &task.fs {
        list.check_file("working directory", fs.cwd, files);
        list.check_file("root", fs.root, files);
    }
    if let Some(mm) = &task.mm {
        of_memory(mm, files, list);
    }
}

fn of_memory(mm: &Mm, files: &[OpenFile], list: &mut List) {
    list.check_file("executable", mm.exe, files);
    for vma in &mm.vmas {
        if let Some(file) = file_of(vma.kind) {
            list.check_file(format!("area {:#x}-{:#x}", vma.start, vma.end), file, files);
        }
    }
}
