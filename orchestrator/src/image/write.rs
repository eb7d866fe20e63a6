//! Writing an image set: memory first, as it is drained; then all else in one go; the inventory last, by rename.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use proto::frame::{Encoded, Writer};
use proto::{kinds, pb};

use super::codec::encode;
use super::dir::{Dir, failed};
use super::error::{Result, Wrong};
use super::limits::SECOND_NS;
use super::pages::{self, pages_ids};
use super::stats::{self, DumpStats};
use super::xstate::Layout;
use super::{files, ipc, memory, task, thread};
use crate::memory::output::Sink;
use crate::network::{self, Method};
use crate::objects::{bpfmap, inet, locks, memfd, pipe, seccomp, shm, tty, unix};
use crate::snapshot::{
    FdEntry, FileKind, OpenFile, PageLocation, PageRun, PipeBuffer, Snapshot, Task, TaskState, Vma,
};
use crate::wire;

/// Name of the file that makes an image set valid.
pub(super) const INVENTORY: &str = "inventory.img";
/// Format 1.1.
pub(super) const IMG_VERSION: u32 = 2;
/// Format 1.1 with extensions of ours, which the inventory names. The peer refuses it for its number.
pub(super) const NATIVE_VERSION: u32 = 1 << 16 | IMG_VERSION;
/// Pages that are as in the parent task.
pub(super) const PARENT_TASK_PAGES: &str = "parent-task-pages";
/// Pages of one address space in several page files.
const PAGE_FILES: &str = "page-files";
/// Pages in batches with checksums, perhaps compressed.
pub(super) const PAGE_BATCHES: &str = "page-batches";
/// Address spaces that several processes share: their pages are with the first of these.
pub(super) const SHARED_SPACES: &str = "shared-address-spaces";
/// All extensions that this build knows.
pub(super) const EXTENSIONS: [&str; 4] =
    [PARENT_TASK_PAGES, PAGE_FILES, PAGE_BATCHES, SHARED_SPACES];
/// `FD_CLOEXEC` in `fdinfo_entry.flags`.
pub(super) const FD_CLOEXEC: u32 = 1;

/// How a pre-dump was asked to go about it: the peer's numbers. Here pages are read from the running processes either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreDumpMode {
    /// `splice`.
    Splice = 1,
    /// `read`.
    Read = 2,
}

/// An image set being written, beside an older one, which stays as it is until this one is complete. Dropped before
/// [`ImageWriter::finish`], it deletes what it created.
#[derive(Debug)]
pub struct ImageWriter {
    place: Place,
    unfinished: Dir,
    parent: Option<PathBuf>,
    is_synced: bool,
    /// The folder that it was made in is gone.
    is_replaced: bool,
    /// Files of the set, and how many records each has, unless it has none.
    created: BTreeMap<String, Option<u64>>,
    /// Pages go to a page server, with their pagemaps.
    without_memory: bool,
    /// Page files are in batches.
    packed: bool,
}

/// Where the set goes when it is complete.
#[derive(Debug)]
enum Place {
    /// To a folder.
    Folder(Dir),
    /// Into a stream; pages go there at once.
    Stream(wire::stream::Writer),
}

impl ImageWriter {
    /// Opens the folder at `dir` for a new image set, for one dump at a time.
    pub fn create(dir: &Path) -> Result<Self> {
        let folder = Dir::open(dir)?;
        Ok(Self {
            unfinished: folder.make_unfinished(dir)?,
            place: Place::Folder(folder),
            parent: None,
            is_synced: false,
            is_replaced: false,
            created: BTreeMap::new(),
            without_memory: false,
            packed: false,
        })
    }

    /// Has the set have a parent: where it lies, from the images folder on.
    pub fn set_parent(&mut self, link: Option<&Path>) {
        self.parent = link.map(Path::to_path_buf);
    }

    /// Begins a new image set in a stream.
    pub fn stream(to: File) -> Result<Self> {
        Ok(Self {
            unfinished: Dir::in_memory()?,
            place: Place::Stream(wire::stream::Writer::begin(to)?),
            created: BTreeMap::new(),
            parent: None,
            is_synced: false,
            is_replaced: false,
            without_memory: false,
            packed: false,
        })
    }

    /// Says in the set that its page files are in batches.
    pub fn say_packed(&mut self) {
        self.packed = true;
    }

    /// Leaves pages and pagemaps to a page server. What one has stored in the same folder stays there.
    pub fn leave_memory_out(&mut self) {
        self.without_memory = true;
    }

    /// Begins `pages-ID.img` for the memory drain, as [`Self::pages_file`], in the stream where there is one.
    pub fn page_sink(&mut self, pages_id: u32) -> Result<Sink> {
        let name = pages_name(pages_id);
        match &self.place {
            Place::Folder(_) => self.pages_file(pages_id).map(Sink::File),
            Place::Stream(stream) => {
                let part = stream.file(&name)?;
                self.created.insert(name, None);
                Ok(Sink::Part(part))
            }
        }
    }

    /// Creates `pages-ID.img` for the memory drain. Each address space and each shared segment needs its own, with the
    /// bytes of its runs one after the other from offset 0.
    pub fn pages_file(&mut self, pages_id: u32) -> Result<File> {
        self.create_file(&pages_name(pages_id))
    }

    /// Has all of the set be on the disk before it is valid, and its validity when [`ImageWriter::finish`] returns.
    pub fn sync_to_disk(&mut self) {
        self.is_synced = true;
    }

    /// Encodes `snapshot` and makes the image set valid. The kernel brings it to the disk when it likes, unless told otherwise.
    pub fn finish(mut self, snapshot: &Snapshot, stats: &DumpStats) -> Result<()> {
        let layout = Layout::of_this_machine();
        let mut by_id: Vec<&OpenFile> = snapshot.files.iter().collect();
        by_id.sort_by_key(|file| file.id);
        self.write_tree(snapshot)?;
        self.write_files(snapshot)?;
        for task in &snapshot.tasks {
            self.write_task(task, &by_id, layout)?;
        }
        if !self.without_memory {
            self.write_memory(snapshot)?;
        }
        self.write(
            "stats-dump",
            &encode(kinds::STATS, [&stats::to_record(stats)]),
        )?;
        self.write_inventory(snapshot, None)?;
        self.put_in_place()
    }

    /// Writes a set that has memory alone, of which `snapshot` has no more than what pagemaps say.
    pub fn finish_memory(
        mut self,
        snapshot: &Snapshot,
        stats: &DumpStats,
        mode: PreDumpMode,
    ) -> Result<()> {
        self.write_memory(snapshot)?;
        self.write(
            "stats-dump",
            &encode(kinds::STATS, [&stats::to_record(stats)]),
        )?;
        self.write_inventory(snapshot, Some(mode))?;
        self.put_in_place()
    }

    /// Makes the set valid, and has it on the disk where that is wished.
    pub(super) fn put_in_place(&mut self) -> Result<()> {
        let dir = match &self.place {
            Place::Folder(dir) => dir.try_clone()?,
            Place::Stream(stream) => return self.send_all(stream),
        };
        if self.is_synced {
            dir.sync()?;
        }
        self.move_in_place(&dir)?;
        if self.is_synced {
            dir.sync()?;
        }
        Ok(())
    }

    /// Removes the files of an older set that this one does not have: they would be read as its own.
    fn remove_older(&self, dir: &Dir) -> Result<()> {
        for name in dir.names()? {
            let is_kept = self.without_memory && is_of_memory(&name);
            if is_of_a_set(&name) && !self.created.contains_key(&name) && !is_kept {
                dir.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Makes the set valid. Where there is none, the inventory makes it one, which comes last; an older one is replaced in
    /// one step, and the files come to their places after it.
    fn move_in_place(&mut self, dir: &Dir) -> Result<()> {
        if dir.has_inventory()? {
            if let Some(parent) = &self.parent {
                self.unfinished.link_parent(parent)?;
            }
            dir.complete_unfinished()?;
            let arrived = self.unfinished.arrive(dir);
            let arrived = arrived.and_then(|()| self.remove_older(dir));
            if let Err(error) = arrived.and_then(|()| dir.remove_complete()) {
                // It is valid all the same, and the next dump there goes on with it.
                tracing::warn!("the image set is complete, but not in its place: {error}");
            }
            self.is_replaced = true;
            self.created.clear();
            return Ok(());
        }
        self.remove_older(dir)?;
        dir.unlink_parent()?;
        if let Some(parent) = &self.parent {
            dir.link_parent(parent)?;
        }
        let mut moved: Vec<&str> = Vec::new();
        for name in self.created_in_order() {
            if let Err(error) = self.unfinished.move_to(name, dir) {
                // Half a set is none. What cannot be removed does no harm without an inventory.
                moved.iter().for_each(|name| drop(dir.remove(name)));
                return Err(error);
            }
            moved.push(name);
        }
        self.created.clear();
        Ok(())
    }

    /// Returns the names of all files, the inventory last.
    fn created_in_order(&self) -> impl Iterator<Item = &str> {
        let others = self.created.keys().filter(|name| *name != INVENTORY);
        others.map(String::as_str).chain([INVENTORY])
    }

    /// Sends what was written into the folder in memory, and ends the stream.
    fn send_all(&self, stream: &wire::stream::Writer) -> Result<()> {
        for name in self.created_in_order() {
            self.send(stream, name)?;
        }
        Ok(stream.end()?)
    }

    /// Sends a file, if it was not sent as it was made.
    fn send(&self, stream: &wire::stream::Writer, name: &str) -> Result<()> {
        let Some(mut file) = self.unfinished.open_file(name)? else {
            return Ok(());
        };
        let mut part = stream.file(name)?;
        let copied = std::io::copy(&mut file, &mut part);
        copied.map_err(wire::Error::Stream)?;
        self.unfinished.remove(name)
    }

    /// Sends a file that is complete, where there is a stream: it need not be kept in memory.
    pub(super) fn send_early(&self, name: &str) -> Result<()> {
        match &self.place {
            Place::Folder(_) => Ok(()),
            Place::Stream(stream) => self.send(stream, name),
        }
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
        let filters = seccomp::image::to_record(&snapshot.seccomp);
        self.write("seccomp.img", &encode(kinds::SECCOMP, [&filters]))?;
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
        let mut records = Writer::new(kinds::FILES);
        let remaps = files::to_records(&snapshot.files, |record| records.record(record));
        let remaps = remaps.map_err(unwritable)?;
        self.write("files.img", &records.done())?;
        if !remaps.is_empty() {
            self.write("remap-fpath.img", &encode(kinds::REMAP_FPATH, &remaps))?;
        }
        self.write_buffers("pipes-data.img", kinds::PIPES_DATA, &snapshot.pipes)?;
        self.write_buffers("fifo-data.img", kinds::FIFO_DATA, &snapshot.fifos)?;
        self.write_queues(snapshot)?;
        self.write_streams(snapshot)?;
        self.write_maps(snapshot)?;
        if !snapshot.locks.is_empty() {
            let locks: Vec<_> = snapshot.locks.iter().map(locks::image::to_record).collect();
            self.write("filelocks.img", &encode(kinds::FILE_LOCKS, &locks))?;
        }
        if let (false, Some(root)) = (snapshot.segments.is_empty(), snapshot.root()) {
            let records = snapshot.segments.iter().map(shm::image::to_record);
            let records: Vec<_> = records.collect();
            let name = format!("ipcns-shm-{}.img", root.ids.ipc_ns);
            self.write(&name, &encode(kinds::IPCNS_SHM, &records))?;
        }
        if let (Some(own), Some(root)) = (&snapshot.ipc, snapshot.root()) {
            for (name, file) in ipc::to_files(own, root.ids.ipc_ns) {
                self.write(&name, &file)?;
            }
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
        let waiting = snapshot.terminals.iter();
        let waiting: Vec<_> = waiting.filter_map(tty::image::data_to_record).collect();
        if !waiting.is_empty() {
            self.write("tty-data.img", &encode(kinds::TTY_DATA, &waiting))?;
        }
        Ok(())
    }

    /// Writes what is in BPF maps.
    fn write_maps(&mut self, snapshot: &Snapshot) -> Result<()> {
        let mut data = Writer::new(kinds::BPFMAP_DATA);
        let maps = snapshot.files.iter().filter_map(|file| match &file.kind {
            FileKind::BpfMap(map) => Some(map),
            _ => None,
        });
        let mut has_data = false;
        for map in maps {
            data.record(&bpfmap::image::data_to_record(map));
            data.bytes(&map.keys);
            data.bytes(&map.values);
            has_data = true;
        }
        match has_data {
            true => self.write("bpfmap-data.img", &data.done()),
            false => Ok(()),
        }
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
                data.record(&unix::image::message_to_record(file.id, message));
                data.bytes(&message.data);
                has_data = true;
            }
        }
        match has_data {
            true => self.write("sk-queues.img", &data.done()),
            false => Ok(()),
        }
    }

    /// Writes what connections of TCP are in the middle of.
    fn write_streams(&mut self, snapshot: &Snapshot) -> Result<()> {
        for file in &snapshot.files {
            let FileKind::Inet(socket) = &file.kind else {
                continue;
            };
            if socket.connection().is_none() {
                continue;
            }
            let mut data = Writer::new(kinds::TCP_STREAM);
            data.record(&inet::stream::to_record(&socket.stream));
            data.bytes(&socket.stream.received);
            data.bytes(&socket.stream.sent);
            self.write(&stream_name(socket.ino), &data.done())?;
        }
        Ok(())
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
            true => self.write(name, &data.done()),
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
            .flat_map(|(_, runs, _)| pages_ids(runs))
            .collect();
        // A page file that was made for the drain and got nothing is taken first.
        let mut free = (1..).filter(|id| !used.contains(id));
        for (name, runs, vmas) in all {
            let first = pages_ids(runs).first().copied();
            let id = first.or_else(|| free.next()).unwrap_or_default();
            let map = pages::encode(runs, id, vmas).map_err(|wrong| wrong.unwritable(&name))?;
            self.write(&name, &map)?;
            if !self.created.contains_key(&pages_name(id)) {
                // The peer opens the file whether or not anything is stored.
                self.pages_file(id)?;
            }
        }
        Ok(())
    }

    fn write_inventory(&mut self, snapshot: &Snapshot, mode: Option<PreDumpMode>) -> Result<()> {
        let origin = &snapshot.origin;
        let run_id = origin.run_id.clone().map_or_else(run_id, Ok)?;
        let extensions = extensions(snapshot, self.packed);
        let img_version = match extensions.is_empty() {
            true => IMG_VERSION,
            false => NATIVE_VERSION,
        };
        let ext = pb::ExtInventory {
            wall_clock_ns: origin.wall_clock_ns,
            extensions,
            image: self.listing(),
        };
        let inventory = pb::InventoryEntry {
            img_version,
            fdinfo_per_id: Some(true),
            root_ids: Some(task::ids_to_record(&origin.root_ids)),
            ns_per_id: Some(true),
            root_cg_set: Some(thread::CGROUP_SET),
            lsmtype: Some(pb::Lsmtype::NoLsm as i32),
            dump_uptime: origin.uptime_us,
            network_lock_method: Some(lock_to_record(snapshot)),
            tcp_close: origin.tcp_close.then_some(true),
            pre_dump_mode: mode.map(|mode| mode as u32),
            plugins_entry: Some(pb::PluginsEntry::default()),
            dump_criu_run_id: Some(run_id.into_bytes()),
            // An empty one is left out, as the peer writes none.
            ext: (ext != pb::ExtInventory::default()).then_some(ext),
            ..Default::default()
        };
        self.write(INVENTORY, &encode(kinds::INVENTORY, [&inventory]))
    }

    /// Returns what files the set has; nothing where a page server has some of them.
    pub(super) fn listing(&self) -> Vec<pb::ExtImage> {
        let image = |(name, records): (&String, &Option<u64>)| pb::ExtImage {
            name: name.clone(),
            records: *records,
        };
        match self.without_memory {
            true => Vec::new(),
            false => self.created.iter().map(image).collect(),
        }
    }

    pub(super) fn write(&mut self, name: &str, image: &Encoded) -> Result<()> {
        let mut file = self.create_file(name)?;
        self.has_records(name, image.records);
        file.write_all(&image.bytes)
            .map_err(|source| failed("write", name, source))
    }

    /// Keeps how many records a file of the set has.
    pub(super) fn has_records(&mut self, name: &str, records: u64) {
        self.created.insert(name.into(), Some(records));
    }

    pub(super) fn create_file(&mut self, name: &str) -> Result<File> {
        let file = self.unfinished.create(name)?;
        self.created.insert(name.into(), None);
        Ok(file)
    }
}

impl Drop for ImageWriter {
    fn drop(&mut self) {
        if self.is_replaced {
            return;
        }
        let files = self.created.keys();
        let removed: Vec<_> = files.map(|name| self.unfinished.remove(name)).collect();
        let Place::Folder(dir) = &self.place else {
            return;
        };
        let folder = dir.remove_unfinished();
        for error in removed.into_iter().chain([folder]).filter_map(Result::err) {
            tracing::warn!("{error}");
        }
    }
}

/// Names of images of which a set has one.
const SINGLE: [&str; 14] = [
    "bpfmap-data.img",
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
    "tty-data.img",
    "stats-dump",
];
/// Beginnings of the names of images of which a set has many: a number follows.
const NUMBERED: &[&str] = &[
    "core-",
    "ids-",
    "fs-",
    "fdinfo-",
    "mm-",
    "pagemap-shmem-",
    "pagemap-",
    "pages-",
    "ghost-file-",
    "tcp-stream-",
    "ipcns-shm-",
    "ipcns-sem-",
    "ipcns-msg-",
    "ipcns-var-",
];

/// Returns the name of the image of a connection.
pub(super) fn stream_name(ino: u32) -> String {
    format!("tcp-stream-{ino:x}.img")
}

/// Returns the peer's number for how the network is locked: by what it is told to unlock.
fn lock_to_record(snapshot: &Snapshot) -> u32 {
    let has_connections = !network::connections(snapshot).is_empty();
    match snapshot.origin.network_lock {
        Method::Nftables if has_connections => NFTABLES,
        Method::Skip if has_connections => SKIP,
        _ => 0,
    }
}

/// `network_lock_method` of the inventory.
const NFTABLES: u32 = 1;
pub(super) const SKIP: u32 = 2;

/// Returns whether a file is one that a set has. Others in the folder are nobody's business.
fn is_of_a_set(name: &str) -> bool {
    let is_number = |name: &str| {
        let number = name.strip_suffix(".img").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut rests = NUMBERED.iter().filter_map(|begin| name.strip_prefix(begin));
    SINGLE.contains(&name) || rests.any(is_number)
}

/// Returns whether it is a file of one of these names that may come in a stream.
pub fn is_image(name: &str) -> bool {
    name == INVENTORY || is_of_a_set(name)
}

/// Returns whether a file holds pages, or says which.
pub(super) fn is_of_memory(name: &str) -> bool {
    name.starts_with("pagemap-") || name.starts_with("pages-")
}

/// Returns the names of the extensions that a snapshot needs.
fn extensions(snapshot: &Snapshot, packed: bool) -> Vec<String> {
    let spaces = snapshot.tasks.iter().filter_map(|task| task.mm.as_ref());
    let (mut has_common, mut has_files) = (false, false);
    for mm in spaces {
        has_common |= mm
            .pages
            .iter()
            .any(|run| run.at == PageLocation::ParentTask);
        has_files |= pages_ids(&mm.pages).len() > 1;
    }
    let mut spaces = BTreeSet::new();
    let mut living = snapshot.tasks.iter().filter(|task| task.mm.is_some());
    let has_joint = living.any(|task| task.ids.vm != 0 && !spaces.insert(task.ids.vm));
    let used = [
        (has_common, PARENT_TASK_PAGES),
        (has_files, PAGE_FILES),
        (packed, PAGE_BATCHES),
        (has_joint, SHARED_SPACES),
    ];
    let used = used.into_iter().filter(|(is_used, _)| *is_used);
    used.map(|(_, name)| name.to_string()).collect()
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
pub fn run_id() -> Result<String> {
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
