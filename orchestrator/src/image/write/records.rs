//! The records of a set, file by file.

use std::collections::BTreeSet;

use proto::frame::Writer;
use proto::{kinds, pb};

use super::names::{INVENTORY, note_name, pages_name, stream_name};
use super::{
    FD_CLOEXEC, IMG_VERSION, IPTABLES, ImageWriter, NATIVE_VERSION, PAGE_BATCHES, PAGE_FILES,
    PARENT_TASK_PAGES, POSIX_QUEUES, PROTECTION_KEYS, PreDumpMode, SHARED_SPACES, SKIP,
    THREAD_DIRECTORIES, run_id,
};
use crate::image::codec::encode;
use crate::image::error::{Result, Wrong};
use crate::image::limits::SECOND_NS;
use crate::image::pages::{self, pages_ids};
use crate::image::xstate::Layout;
use crate::image::{files, ipc, memory, network, task, thread};
use crate::objects::{bpfmap, inet, locks, memfd, mqueue, pipe, seccomp, shm, tty, unix};
use crate::snapshot::{
    FdEntry, FileKind, NetworkLock, OpenFile, PageLocation, PageRun, PipeBuffer, Snapshot, Task,
    TaskState, Vma,
};

impl ImageWriter {
    pub(super) fn write_tree(&mut self, snapshot: &Snapshot) -> Result<()> {
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

    pub(super) fn write_files(&mut self, snapshot: &Snapshot) -> Result<()> {
        let unwritable = |wrong: Wrong| wrong.unwritable("files.img");
        let mut records = Writer::new(kinds::FILES);
        let place = snapshot.root().map_or(0, |root| root.ids.net_ns);
        let remaps = files::to_records(&snapshot.files, |mut record| {
            network::put_in(&mut record, place);
            records.record(&record);
        });
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
        self.write_posix_queues(snapshot)?;
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

    /// Writes POSIX message queues with what waits in them.
    fn write_posix_queues(&mut self, snapshot: &Snapshot) -> Result<()> {
        if snapshot.posix_queues.is_empty() {
            return Ok(());
        }
        let mut data = Writer::new(kinds::MQUEUES);
        for queue in &snapshot.posix_queues {
            data.record(&mqueue::image::queue_to_record(queue));
            let bytes = queue.messages.iter().map(|message| &message.bytes);
            bytes.for_each(|bytes| data.bytes(bytes));
        }
        self.write("mqueues.img", &data.done())
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

    pub(super) fn write_task(
        &mut self,
        task: &Task,
        files: &[&OpenFile],
        layout: &Layout,
    ) -> Result<()> {
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

    pub(super) fn write_memory(&mut self, snapshot: &Snapshot) -> Result<()> {
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

    /// Notes which pages of each process a page server has, for the next round.
    pub(super) fn write_note(&mut self, snapshot: &Snapshot) -> Result<()> {
        for task in &snapshot.tasks {
            let Some(mm) = &task.mm else {
                continue;
            };
            let name = note_name(task.pid);
            let id = pages_ids(&mm.pages).first().copied().unwrap_or(1);
            let map = pages::encode(&mm.pages, id, &[]).map_err(|wrong| wrong.unwritable(&name))?;
            self.write(&name, &map)?;
        }
        Ok(())
    }

    pub(super) fn write_inventory(
        &mut self,
        snapshot: &Snapshot,
        mode: Option<PreDumpMode>,
    ) -> Result<()> {
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
            own_session: origin.has_own_session.then_some(true),
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
}

/// `network_lock_method` of the inventory.
const NFTABLES: u32 = 1;

/// Returns the peer's number for how the network is locked: by what it is told to unlock.
fn lock_to_record(snapshot: &Snapshot) -> u32 {
    let has_connections = snapshot.has_connections();
    match snapshot.origin.network_lock {
        NetworkLock::Nftables if has_connections => NFTABLES,
        NetworkLock::Skip if has_connections => SKIP,
        _ => IPTABLES,
    }
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
        (!snapshot.posix_queues.is_empty(), POSIX_QUEUES),
        (has_own_directories(snapshot), THREAD_DIRECTORIES),
        (has_protection_keys(snapshot), PROTECTION_KEYS),
    ];
    let used = used.into_iter().filter(|(is_used, _)| *is_used);
    used.map(|(_, name)| name.to_string()).collect()
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

/// Returns whether a thread has directories of its own.
pub(in crate::image) fn has_own_directories(snapshot: &Snapshot) -> bool {
    let threads = snapshot.tasks.iter().flat_map(|task| &task.threads);
    threads.into_iter().any(|thread| thread.fs.is_some())
}

/// Returns whether an area has a protection key.
pub(in crate::image) fn has_protection_keys(snapshot: &Snapshot) -> bool {
    let spaces = snapshot.tasks.iter().filter_map(|task| task.mm.as_ref());
    let mut areas = spaces.flat_map(|mm| &mm.vmas);
    areas.any(|vma| vma.protection_key != 0)
}
