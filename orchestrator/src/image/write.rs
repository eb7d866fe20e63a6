//! Writing an image set: memory first, as it is drained; then all else in one go; the inventory last, by rename.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use proto::frame::Writer;
use proto::{kinds, pb};

use super::codec::encode;
use super::dir::{Dir, failed};
use super::error::{Result, Wrong};
use super::limits::SECOND_NS;
use super::pages::{self, pages_id};
use super::stats::{self, DumpStats};
use super::xstate::Layout;
use super::{files, memory, task, thread};
use crate::objects::{locks, memfd, pipe, tty};
use crate::snapshot::{
    FdEntry, FileKind, OpenFile, PageLocation, PageRun, PipeBuffer, Snapshot, Task, TaskState, Vma,
};

/// Name of the file that makes an image set valid.
pub(super) const INVENTORY: &str = "inventory.img";
/// Folder in the images folder in which a set is made.
const UNFINISHED: &str = ".orchestrator-unfinished";
/// Format 1.1.
pub(super) const IMG_VERSION: u32 = 2;
/// Format 1.1 with extensions of ours, which the inventory names. The peer refuses it for its number.
pub(super) const NATIVE_VERSION: u32 = 1 << 16 | IMG_VERSION;
/// Pages that are as in the parent task.
pub(super) const PARENT_TASK_PAGES: &str = "parent-task-pages";
/// `FD_CLOEXEC` in `fdinfo_entry.flags`.
pub(super) const FD_CLOEXEC: u32 = 1;

/// An image set being written, beside an older one, which stays as it is until this one is complete. Dropped before
/// [`ImageWriter::finish`], it deletes what it created.
#[derive(Debug)]
pub struct ImageWriter {
    dir: Dir,
    unfinished: Dir,
    created: BTreeSet<String>,
}

impl ImageWriter {
    /// Opens the folder at `dir` for a new image set, for one dump at a time.
    pub fn create(dir: &Path) -> Result<Self> {
        let folder = Dir::open(dir)?;
        Ok(Self {
            unfinished: folder.make_own(UNFINISHED, dir)?,
            dir: folder,
            created: BTreeSet::new(),
        })
    }

    /// Creates `pages-ID.img` for the memory drain. Each address space and each shared segment needs its own, with the
    /// bytes of its runs one after the other from offset 0.
    pub fn pages_file(&mut self, pages_id: u32) -> Result<File> {
        self.create_file(&pages_name(pages_id))
    }

    /// Encodes `snapshot` and makes the image set valid. Nothing is synced to the disk.
    pub fn finish(mut self, snapshot: &Snapshot, stats: &DumpStats) -> Result<()> {
        let layout = Layout::of_this_machine();
        let mut by_id: Vec<&OpenFile> = snapshot.files.iter().collect();
        by_id.sort_by_key(|file| file.id);
        self.write_tree(snapshot)?;
        self.write_files(snapshot)?;
        for task in &snapshot.tasks {
            self.write_task(task, &by_id, layout)?;
        }
        self.write_memory(snapshot)?;
        self.write(
            "stats-dump",
            &encode(kinds::STATS, [&stats::to_record(stats)]),
        )?;
        self.write_inventory(snapshot)?;
        self.put_in_place()
    }

    /// Removes the files of an older set that this one does not have: they would be read as its own.
    fn remove_older(&self) -> Result<()> {
        for name in self.dir.names()? {
            if is_of_a_set(&name) && !self.created.contains(&name) {
                self.dir.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Moves all files to where they belong, the inventory last: without one there is no set.
    fn put_in_place(&mut self) -> Result<()> {
        self.dir.remove(INVENTORY)?;
        self.remove_older()?;
        let mut moved: Vec<&str> = Vec::new();
        let others = self.created.iter().filter(|name| *name != INVENTORY);
        for name in others.map(String::as_str).chain([INVENTORY]) {
            if let Err(error) = self.unfinished.move_to(name, &self.dir) {
                // Half a set is none. What cannot be removed does no harm without an inventory.
                moved.iter().for_each(|name| drop(self.dir.remove(name)));
                return Err(error);
            }
            moved.push(name);
        }
        self.created.clear();
        Ok(())
    }

    fn write_tree(&mut self, snapshot: &Snapshot) -> Result<()> {
        let record = |task: &Task| pb::PstreeEntry {
            pid: task.pid as u32,
            ppid: task.ppid as u32,
            pgid: task.pgid as u32,
            sid: task.sid as u32,
            threads: match task.state {
                TaskState::Zombie => vec![task.pid as u32],
                _ => task
                    .threads
                    .iter()
                    .map(|thread| thread.tid as u32)
                    .collect(),
            },
        };
        let tree: Vec<_> = snapshot.tasks.iter().map(record).collect();
        self.write("pstree.img", &encode(kinds::PSTREE, &tree))?;
        // No filter: seccomp filters are refused before a dump begins.
        self.write(
            "seccomp.img",
            &encode(kinds::SECCOMP, [&pb::SeccompEntry::default()]),
        )?;
        let (Some(monotonic), Some(boottime)) =
            (snapshot.origin.monotonic_ns, snapshot.origin.boottime_ns)
        else {
            return Ok(());
        };
        let clocks = pb::TimensEntry {
            monotonic: timespec(monotonic),
            boottime: timespec(boottime),
        };
        self.write("timens-0.img", &encode(kinds::TIMENS, [&clocks]))
    }

    fn write_files(&mut self, snapshot: &Snapshot) -> Result<()> {
        let unwritable = |wrong: Wrong| wrong.unwritable("files.img");
        let records = files::to_records(&snapshot.files).map_err(unwritable)?;
        self.write("files.img", &encode(kinds::FILES, &records))?;
        self.write_remaps(&snapshot.files)?;
        self.write_buffers("pipes-data.img", kinds::PIPES_DATA, &snapshot.pipes)?;
        self.write_buffers("fifo-data.img", kinds::FIFO_DATA, &snapshot.fifos)?;
        self.write_queues(snapshot)?;
        if !snapshot.locks.is_empty() {
            let locks: Vec<_> = snapshot.locks.iter().map(locks::image::to_record).collect();
            self.write("filelocks.img", &encode(kinds::FILE_LOCKS, &locks))?;
        }
        if !snapshot.memfds.is_empty() {
            let inodes = snapshot.memfds.iter().map(memfd::image::inode_to_record);
            let inodes = inodes.collect::<std::result::Result<Vec<_>, _>>();
            let inodes = inodes.map_err(|wrong| wrong.unwritable("memfd.img"))?;
            self.write("memfd.img", &encode(kinds::MEMFD, &inodes))?;
        }
        if !snapshot.terminals.is_empty() {
            let infos: Vec<_> = snapshot
                .terminals
                .iter()
                .map(tty::image::info_to_record)
                .collect();
            self.write("tty-info.img", &encode(kinds::TTY_INFO, &infos))?;
        }
        Ok(())
    }

    /// Writes what waits in sockets; nothing where all are empty.
    fn write_queues(&mut self, snapshot: &Snapshot) -> Result<()> {
        let mut data = Writer::new(kinds::SK_QUEUES);
        let mut has_data = false;
        for file in &snapshot.files {
            let FileKind::Unix(socket) = &file.kind else {
                continue;
            };
            for message in &socket.queue {
                data.record(&pb::SkPacketEntry {
                    id_for: file.id.0,
                    length: message.len() as u32,
                    scm: Vec::new(),
                });
                data.bytes(message);
                has_data = true;
            }
        }
        match has_data {
            true => self.write("sk-queues.img", &data.into_bytes()),
            false => Ok(()),
        }
    }

    /// Writes what pipes hold; nothing where all are as they were made.
    fn write_buffers(
        &mut self,
        name: &str,
        kind: kinds::Kind,
        buffers: &[PipeBuffer],
    ) -> Result<()> {
        let mut data = Writer::new(kind);
        let mut has_data = false;
        for buffer in buffers {
            if let Some(record) = pipe::image::buffer_to_record(buffer) {
                data.record(&record);
                data.bytes(&buffer.data);
                has_data = true;
            }
        }
        match has_data {
            true => self.write(name, &data.into_bytes()),
            false => Ok(()),
        }
    }

    fn write_task(&mut self, task: &Task, files: &[&OpenFile], layout: &Layout) -> Result<()> {
        let pid = task.pid;
        if task.state == TaskState::Zombie {
            let core = pb::CoreEntry {
                mtype: pb::core_entry::March::X8664 as i32,
                tc: Some(task::to_record(task)),
                ..Default::default()
            };
            return self.write(&format!("core-{pid}.img"), &encode(kinds::CORE, [&core]));
        }
        for thread in &task.threads {
            let name = format!("core-{}.img", thread.tid);
            let is_leader = thread.tid == pid;
            let core = thread::to_record(thread, is_leader, layout);
            let mut core = core.map_err(|wrong| wrong.unwritable(&name))?;
            core.tc = is_leader.then(|| task::to_record(task));
            self.write(&name, &encode(kinds::CORE, [&core]))?;
        }
        let ids = task::ids_to_record(&task.ids);
        self.write(&format!("ids-{pid}.img"), &encode(kinds::IDS, [&ids]))?;
        if let Some(fs) = &task.fs {
            let fs = task::fs_to_record(fs);
            self.write(&format!("fs-{pid}.img"), &encode(kinds::FS, [&fs]))?;
        }
        let name = format!("fdinfo-{}.img", task.ids.files);
        let fds = fd_records(&task.fds, files).map_err(|wrong| wrong.unwritable(&name))?;
        self.write(&name, &encode(kinds::FDINFO, &fds))?;
        if let Some(mm) = &task.mm {
            let mm = memory::to_record(mm, files);
            self.write(&format!("mm-{pid}.img"), &encode(kinds::MM, [&mm]))?;
        }
        Ok(())
    }

    fn write_memory(&mut self, snapshot: &Snapshot) -> Result<()> {
        let spaces = snapshot
            .tasks
            .iter()
            .filter_map(|task| Some((task.pid, task.mm.as_ref()?)));
        let private =
            spaces.map(|(pid, mm)| (format!("pagemap-{pid}.img"), &mm.pages[..], &mm.vmas[..]));
        let shared = snapshot.shared.iter();
        let shared = shared.map(|memory| {
            (
                format!("pagemap-shmem-{}.img", memory.id),
                &memory.pages[..],
                &[][..],
            )
        });
        let all: Vec<(String, &[PageRun], &[Vma])> = private.chain(shared).collect();
        let used: BTreeSet<u32> = all
            .iter()
            .filter_map(|(_, runs, _)| pages_id(runs))
            .collect();
        // A page file that was made for the drain and got nothing is taken first.
        let mut free = (1..).filter(|id| !used.contains(id));
        for (name, runs, vmas) in all {
            let id = pages_id(runs).or_else(|| free.next()).unwrap_or_default();
            let map = pages::encode(runs, id, vmas).map_err(|wrong| wrong.unwritable(&name))?;
            self.write(&name, &map)?;
            if !self.created.contains(&pages_name(id)) {
                // The peer opens the file whether or not anything is stored.
                self.pages_file(id)?;
            }
        }
        Ok(())
    }

    fn write_inventory(&mut self, snapshot: &Snapshot) -> Result<()> {
        let origin = &snapshot.origin;
        let run_id = origin.run_id.clone().map_or_else(new_run_id, Ok)?;
        let extensions = extensions(snapshot);
        let img_version = match extensions.is_empty() {
            true => IMG_VERSION,
            false => NATIVE_VERSION,
        };
        let ext = pb::ExtInventory {
            wall_clock_ns: origin.wall_clock_ns,
            extensions,
        };
        let inventory = pb::InventoryEntry {
            img_version,
            fdinfo_per_id: Some(true),
            root_ids: Some(task::ids_to_record(&origin.root_ids)),
            ns_per_id: Some(true),
            root_cg_set: Some(thread::CGROUP_SET),
            lsmtype: Some(pb::Lsmtype::NoLsm as i32),
            dump_uptime: origin.uptime_us,
            network_lock_method: Some(0),
            plugins_entry: Some(pb::PluginsEntry::default()),
            dump_criu_run_id: Some(run_id.into_bytes()),
            // An empty one is left out, as the peer writes none.
            ext: (ext != pb::ExtInventory::default()).then_some(ext),
            ..Default::default()
        };
        self.write(INVENTORY, &encode(kinds::INVENTORY, [&inventory]))
    }

    pub(super) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.create_file(name)?;
        file.write_all(bytes)
            .map_err(|source| failed("write", name, source))
    }

    pub(super) fn create_file(&mut self, name: &str) -> Result<File> {
        let file = self.unfinished.create(name)?;
        self.created.insert(name.into());
        Ok(file)
    }
}

impl Drop for ImageWriter {
    fn drop(&mut self) {
        let files = self.created.iter();
        let removed: Vec<_> = files.map(|name| self.unfinished.remove(name)).collect();
        let folder = self.dir.remove_folder(UNFINISHED);
        for error in removed.into_iter().chain([folder]).filter_map(Result::err) {
            tracing::warn!("{error}");
        }
    }
}

/// Names of images of which a set has one.
const SINGLE: [&str; 12] = [
    "pstree.img",
    "files.img",
    "seccomp.img",
    "timens-0.img",
    "pipes-data.img",
    "fifo-data.img",
    "sk-queues.img",
    "filelocks.img",
    "remap-fpath.img",
    "memfd.img",
    "tty-info.img",
    "stats-dump",
];
/// Beginnings of the names of images of which a set has many: a number follows.
const NUMBERED: [&str; 9] = [
    "core-",
    "ids-",
    "fs-",
    "fdinfo-",
    "mm-",
    "pagemap-shmem-",
    "pagemap-",
    "pages-",
    "ghost-file-",
];

/// Returns whether a file is one that a set has. Others in the folder are nobody's business.
fn is_of_a_set(name: &str) -> bool {
    let is_number = |name: &str| {
        let number = name.strip_suffix(".img").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut rests = NUMBERED.iter().filter_map(|begin| name.strip_prefix(begin));
    SINGLE.contains(&name) || rests.any(is_number)
}

/// Returns the names of the extensions that a snapshot needs.
fn extensions(snapshot: &Snapshot) -> Vec<String> {
    let spaces = snapshot.tasks.iter().filter_map(|task| task.mm.as_ref());
    let mut runs = spaces.flat_map(|mm| &mm.pages);
    let has_common = runs.any(|run| run.at == PageLocation::ParentTask);
    has_common
        .then(|| PARENT_TASK_PAGES.to_string())
        .into_iter()
        .collect()
}

fn pages_name(id: u32) -> String {
    format!("pages-{id}.img")
}

fn timespec(ns: i64) -> pb::Timespec {
    let second = SECOND_NS as i64;
    pb::Timespec {
        tv_sec: ns.div_euclid(second) as u64,
        tv_nsec: ns.rem_euclid(second) as u64,
    }
}

fn fd_records(
    fds: &[FdEntry],
    files: &[&OpenFile],
) -> std::result::Result<Vec<pb::FdinfoEntry>, Wrong> {
    let record = |entry: &FdEntry| {
        let Ok(index) = files.binary_search_by_key(&entry.file, |file| file.id) else {
            return Err(Wrong::new(format!(
                "descriptor {} refers to no file",
                entry.fd
            )));
        };
        Ok(pb::FdinfoEntry {
            id: entry.file.0,
            flags: if entry.cloexec { FD_CLOEXEC } else { 0 },
            r#type: files::type_of(&files[index].kind)? as i32,
            fd: entry.fd as u32,
            xattr_security_selinux: None,
        })
    };
    fds.iter().map(record).collect()
}

/// Returns a random identity for a dump: a version 4 UUID (RFC 9562, 5.4).
fn new_run_id() -> Result<String> {
    let mut bytes = [0u8; 16];
    let source = "/dev/urandom";
    let mut random = File::open(source).map_err(|error| failed("open", source, error))?;
    random
        .read_exact(&mut bytes)
        .map_err(|error| failed("read", source, error))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ]
    .join("-"))
}
