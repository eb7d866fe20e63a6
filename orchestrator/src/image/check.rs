//! What holds between the records of an image set: every reference is to something that is there, and of the right kind.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{Checked, Result, Wrong, wrong};
use super::vma::file_of;
use crate::snapshot::{
    FileId, FileKind, Mm, Notify, OpenFile, PAGE_SIZE, Snapshot, Task, Vma, VmaKind,
};

/// The name under which the peer keeps shared anonymous memory as if it were a memfd.
const SHARED_ANONYMOUS: &[u8] = b"/dev/zero";

/// Returns the open file description `id`; `files` ascend by id.
pub(super) fn find(files: &[OpenFile], id: FileId) -> Option<&OpenFile> {
    files
        .binary_search_by_key(&id, |file| file.id)
        .ok()
        .map(|index| &files[index])
}

/// Checks the references of all records, and drops the files in `nodes` that nothing else refers to.
pub(super) fn resolve(snapshot: &mut Snapshot, nodes: &BTreeSet<u32>) -> Result<()> {
    check_memfds(snapshot).map_err(|wrong| wrong.at("memfd.img", "inodes"))?;
    check_terminals(snapshot).map_err(|wrong| wrong.at("tty-info.img", "terminals"))?;
    let inodes: BTreeSet<u32> = snapshot.memfds.iter().map(|inode| inode.id).collect();
    let terminals: BTreeSet<u32> = snapshot.terminals.iter().map(|info| info.id).collect();
    for file in &snapshot.files {
        let checked = target(file, &snapshot.files, &inodes, &terminals);
        checked.map_err(|wrong| wrong.at("files.img", format!("file {}", file.id.0)))?;
    }
    check_pidfds(snapshot)?;
    check_queues(snapshot).map_err(|wrong| wrong.at("mqueues.img", "queues"))?;
    check_segments(snapshot)?;
    name_shared_memory(snapshot);
    for task in &snapshot.tasks {
        references(task, &snapshot.files)?;
    }
    let used = used(snapshot);
    snapshot
        .files
        .retain(|file| used.contains(&file.id) || !nodes.contains(&file.id.0));
    Ok(())
}

fn check_memfds(snapshot: &Snapshot) -> Checked<()> {
    let mut ids = BTreeSet::new();
    let mut contents = BTreeSet::new();
    for inode in &snapshot.memfds {
        if !ids.insert(inode.id) || !contents.insert(inode.shmid) {
            return wrong!(
                "inode {} or its content {} is there twice",
                inode.id,
                inode.shmid
            );
        }
    }
    Ok(())
}

/// Each queue is there once, and once by its name; those that descriptors refer to are there.
fn check_queues(snapshot: &Snapshot) -> Checked<()> {
    let mut ids = BTreeSet::new();
    let mut names = BTreeSet::new();
    for queue in &snapshot.posix_queues {
        if !ids.insert(queue.id) || (!queue.is_unlinked && !names.insert(&queue.name)) {
            return wrong!("queue {} or its name is there twice", queue.id);
        }
    }
    for file in &snapshot.files {
        if let FileKind::Queue(queue) = &file.kind
            && !ids.contains(&queue.queue)
        {
            return wrong!("queue {} of file {} is missing", queue.queue, file.id.0);
        }
    }
    Ok(())
}

/// A pidfd is of a process or thread of the set: any other with its number would be somebody else's.
fn check_pidfds(snapshot: &Snapshot) -> Result<()> {
    let tasks = snapshot.tasks.iter();
    let all = tasks.flat_map(|task| task.threads.iter().map(|thread| thread.tid));
    let mut inside: BTreeSet<i32> = all.collect();
    inside.extend(snapshot.tasks.iter().map(|task| task.pid));
    for file in &snapshot.files {
        if let FileKind::PidFd(pidfd) = file.kind
            && let Some(of) = pidfd.of.filter(|of| !inside.contains(of))
        {
            let wrong = Wrong::new(format!("it is of process {of}, which is not there"));
            return Err(wrong.at("files.img", format!("file {}", file.id.0)));
        }
    }
    Ok(())
}

/// An attached segment is there, and as long as its areas say.
fn check_segments(snapshot: &Snapshot) -> Result<()> {
    let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
    for segment in &snapshot.segments {
        let id = segment.perm.id;
        let page = match segment.huge >> 26 & 0x3f {
            0 => PAGE_SIZE,
            log @ 12..=34 => 1 << log,
            log => {
                let wrong = Wrong::new(format!("pages of 2^{log} bytes"));
                return Err(wrong.at("ipcns-shm", format!("segment {id}")));
            }
        };
        let end = segment.size.checked_next_multiple_of(page).unwrap_or(0);
        if ends.insert(id, end).is_some() {
            let wrong = Wrong::new("it is there twice");
            return Err(wrong.at("ipcns-shm", format!("segment {id}")));
        }
    }
    for task in &snapshot.tasks {
        for vma in task.mm.iter().flat_map(|mm| &mm.vmas) {
            let Some(id) = vma.segment() else {
                continue;
            };
            let end = vma.offset.checked_add(vma.len());
            let fits = ends
                .get(&id)
                .zip(end)
                .is_some_and(|(&whole, end)| end <= whole);
            if !fits {
                let wrong = Wrong::new(format!("there is no segment {id} that holds it"));
                let area = format!("area {:#x}", vma.start);
                return Err(wrong.at(&format!("mm-{}.img", task.pid), area));
            }
        }
    }
    Ok(())
}

fn check_terminals(snapshot: &Snapshot) -> Checked<()> {
    let mut ids = BTreeSet::new();
    match snapshot.terminals.iter().find(|info| !ids.insert(info.id)) {
        Some(info) => wrong!("terminal {} is there twice", info.id),
        None => Ok(()),
    }
}

/// Checks what an open file description itself refers to.
fn target(
    file: &OpenFile,
    files: &[OpenFile],
    inodes: &BTreeSet<u32>,
    terminals: &BTreeSet<u32>,
) -> Checked<()> {
    match &file.kind {
        FileKind::Memfd(memfd) if !inodes.contains(&memfd.inode_id) => {
            wrong!("inode {} is not in memfd.img", memfd.inode_id)
        }
        FileKind::Terminal(tty) if !terminals.contains(&tty.info_id) => {
            wrong!("terminal {} is not in tty-info.img", tty.info_id)
        }
        FileKind::Epoll(epoll) => {
            let mut named = epoll
                .targets
                .iter()
                .map(|target| target.file)
                .filter(|&id| id != FileId(0));
            match named.find(|&id| find(files, id).is_none()) {
                Some(id) => wrong!("it watches file {}, which is not there", id.0),
                None => Ok(()),
            }
        }
        FileKind::Unix(socket) => {
            let all = files;
            let mut files = socket.queue.iter().flat_map(|message| &message.files);
            match files.find(|&&id| find(all, id).is_none()) {
                Some(id) => wrong!("file {} waits in it, which is not there", id.0),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Turns mappings of what the peer took for a memfd back into shared anonymous memory: no descriptor is on it.
fn name_shared_memory(snapshot: &mut Snapshot) {
    let inodes = snapshot
        .memfds
        .iter()
        .filter(|inode| inode.name == SHARED_ANONYMOUS);
    let inodes: BTreeMap<u32, u64> = inodes.map(|inode| (inode.id, inode.shmid)).collect();
    let mut segments: BTreeMap<FileId, (u32, u64)> = BTreeMap::new();
    for file in &snapshot.files {
        if let FileKind::Memfd(memfd) = &file.kind
            && let Some(&shmid) = inodes.get(&memfd.inode_id)
        {
            segments.insert(file.id, (memfd.inode_id, shmid));
        }
    }
    let with_descriptor = snapshot.tasks.iter().flat_map(|task| &task.fds);
    let with_descriptor: BTreeSet<u32> = with_descriptor
        .filter_map(|entry| Some(segments.get(&entry.file)?.0))
        .collect();
    segments.retain(|_, (inode, _)| !with_descriptor.contains(inode));
    for vma in snapshot
        .tasks
        .iter_mut()
        .filter_map(|task| task.mm.as_mut())
        .flat_map(|mm| &mut mm.vmas)
    {
        if let VmaKind::Memfd(file) = vma.kind
            && let Some(&(_, shmid)) = segments.get(&file)
            && !vma.is_private()
        {
            vma.kind = VmaKind::SharedAnonymous(shmid);
            vma.flags |= libc::MAP_ANONYMOUS as u32;
        }
    }
    let mapped = used(snapshot);
    segments.retain(|file, _| !mapped.contains(file));
    let gone: BTreeSet<u32> = segments.values().map(|(inode, _)| *inode).collect();
    snapshot
        .files
        .retain(|file| !segments.contains_key(&file.id));
    let of_files = snapshot.files.iter().filter_map(|file| match &file.kind {
        FileKind::Memfd(memfd) => Some(memfd.inode_id),
        _ => None,
    });
    let kept: BTreeSet<u32> = of_files.collect();
    snapshot
        .memfds
        .retain(|inode| !gone.contains(&inode.id) || kept.contains(&inode.id));
}

/// Checks what a task refers to.
fn references(task: &Task, files: &[OpenFile]) -> Result<()> {
    let pid = task.pid;
    if let Some(fs) = &task.fs {
        let image = format!("fs-{pid}.img");
        by_path(files, fs.cwd).map_err(|wrong| wrong.of("working directory").at(&image, "fs"))?;
        by_path(files, fs.root).map_err(|wrong| wrong.of("root").at(&image, "fs"))?;
    }
    for (index, thread) in task.threads.iter().enumerate() {
        let Some(fs) = &thread.fs else {
            continue;
        };
        let image = format!("core-{}.img", thread.tid);
        let at = |wrong: Wrong| wrong.of("directories of its own").at(&image, "thread");
        if index == 0 {
            return Err(at(Wrong::new("the first thread has those of its process")));
        }
        by_path(files, fs.cwd).map_err(at)?;
        by_path(files, fs.root).map_err(at)?;
    }
    if let Some(mm) = &task.mm {
        memory(mm, files)
            .map_err(|wrong| wrong.at(&format!("mm-{pid}.img"), format!("task {pid}")))?;
    }
    let threads: BTreeSet<i32> = task.threads.iter().map(|thread| thread.tid).collect();
    for timer in &task.posix_timers {
        if let Notify::Thread { tid, .. } = timer.notify
            && !threads.contains(&tid)
        {
            let wrong = Wrong::new(format!(
                "POSIX timer {} notifies thread {tid}, which is not there",
                timer.id
            ));
            return Err(wrong.at(&format!("core-{pid}.img"), format!("task {pid}")));
        }
    }
    Ok(())
}

fn memory(mm: &Mm, files: &[OpenFile]) -> Checked<()> {
    by_path(files, mm.exe).map_err(|wrong| wrong.of("executable"))?;
    for vma in &mm.vmas {
        mapped(vma, files).map_err(|wrong| wrong.of(&format!("area {:#x}", vma.start)))?;
    }
    Ok(())
}

fn mapped(vma: &Vma, files: &[OpenFile]) -> Checked<()> {
    let Some(id) = file_of(vma.kind) else {
        return Ok(());
    };
    let wants_memfd = matches!(vma.kind, VmaKind::Memfd(_));
    match find(files, id).map(|file| &file.kind) {
        None => wrong!("it maps file {}, which is not in files.img", id.0),
        Some(FileKind::Unsupported(_)) => Ok(()),
        Some(FileKind::Memfd(_)) if wants_memfd => Ok(()),
        Some(FileKind::Regular(_) | FileKind::Device(_)) if !wants_memfd => Ok(()),
        Some(_) => wrong!("it maps file {}, which is of another kind", id.0),
    }
}

fn by_path(files: &[OpenFile], id: FileId) -> Checked<()> {
    match find(files, id).map(|file| &file.kind) {
        Some(FileKind::Regular(_) | FileKind::Unsupported(_)) => Ok(()),
        Some(_) => wrong!("file {} is of another kind", id.0),
        None => wrong!("file {} is not in files.img", id.0),
    }
}

/// Returns the open file descriptions that tasks refer to.
fn used(snapshot: &Snapshot) -> BTreeSet<FileId> {
    let mut used = BTreeSet::new();
    for task in &snapshot.tasks {
        used.extend(task.fds.iter().map(|entry| entry.file));
        let of_threads = task.threads.iter().filter_map(|thread| thread.fs.as_ref());
        let directories = task.fs.iter().chain(of_threads);
        used.extend(directories.flat_map(|fs| [fs.cwd, fs.root]));
        if let Some(mm) = &task.mm {
            used.insert(mm.exe);
            used.extend(mm.vmas.iter().filter_map(|vma| file_of(vma.kind)));
        }
    }
    used
}

/// Returns the segments of shared memory that areas and memfds name, with their sizes in bytes.
pub(super) fn shared_sizes(snapshot: &Snapshot) -> BTreeMap<u64, u64> {
    let memfds = snapshot.memfds.iter();
    let mut sizes: BTreeMap<u64, u64> = memfds.map(|inode| (inode.shmid, inode.size)).collect();
    for segment in &snapshot.segments {
        sizes.insert(u64::from(segment.perm.id), segment.size);
    }
    let spaces = snapshot.tasks.iter().filter_map(|task| task.mm.as_ref());
    for vma in spaces.flat_map(|mm| &mm.vmas) {
        let attached = vma.segment().map(u64::from);
        let anonymous = match vma.kind {
            VmaKind::SharedAnonymous(id) => Some(id),
            _ => None,
        };
        if let Some(id) = attached.or(anonymous) {
            let size = sizes.entry(id).or_default();
            *size = (*size).max(vma.offset.saturating_add(vma.len()));
        }
    }
    sizes
}

/// Checks that the pages of shared memory lie inside of it.
pub(super) fn shared(snapshot: &mut Snapshot) -> Result<()> {
    let memfds: BTreeSet<u64> = snapshot.memfds.iter().map(|inode| inode.shmid).collect();
    for memory in &mut snapshot.shared {
        let end = memory
            .pages
            .last()
            .map_or(0, |run| run.start + run.pages * PAGE_SIZE);
        if !memfds.contains(&memory.id) {
            // Part of it may not be mapped any more.
            memory.size = memory.size.max(end);
        }
        if memory
            .size
            .checked_next_multiple_of(PAGE_SIZE)
            .is_none_or(|size| size < end)
        {
            let wrong = Wrong::new(format!(
                "its pages end at {end:#x}, beyond its size {:#x}",
                memory.size
            ));
            return Err(wrong.at(&format!("pagemap-shmem-{}.img", memory.id), "segment"));
        }
    }
    Ok(())
}
