//! Reading an image set: files to a checked [`Snapshot`], with the page files held open.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use proto::{kinds, pb};

use super::codec::{Decoder, read_all, read_one, read_optional};
use super::dir::{Dir, failed};
use super::error::{Checked, Error, Result, Wrong, wrong};
use super::limits::{SECOND_NS, pid};
use super::pages::{self, Runs};
use super::refuse::{Refusal, refusals};
use super::write::{EXTENSIONS, IMG_VERSION, INVENTORY, NATIVE_VERSION, PAGE_BATCHES};
use super::{check, compat, files, ipc, network, parents, task};
use crate::objects::{bpfmap, inet, locks, memfd, mqueue, pipe, seccomp, shm, tty, unix};
use crate::snapshot::{
    FdEntry, FileId, FileKind, NetworkLock, Origin, PipeBuffer, SeccompMode, SharedMemory,
    Snapshot, Task, TerminalInfo,
};
use crate::wire;

/// An image set that was read and checked.
#[derive(Debug)]
pub struct ImageSet {
    /// What it says.
    pub snapshot: Snapshot,
    /// `pages-ID.img` files, by ID, each long enough for the runs that name it.
    pub pages: BTreeMap<u32, File>,
    /// Whether these are pages that were unpacked into memory, not files of the set.
    pub is_packed: bool,
    /// Images of deleted files, by their IDs.
    pub ghosts: BTreeMap<u32, File>,
    /// What the images say beyond the snapshot that this build cannot restore.
    beyond: Vec<Refusal>,
}

impl ImageSet {
    /// Returns all that stands in the way of a restore by this build.
    pub fn refusals(&self) -> Vec<Refusal> {
        let mut all = self.beyond.clone();
        all.extend(refusals(&self.snapshot));
        all
    }
}

/// Reads and checks the image set in the folder at `dir`.
pub fn read(dir: &Path) -> Result<ImageSet> {
    let mut folder = Dir::open_set(dir)?;
    let Some(inventory) =
        read_optional::<pb::InventoryEntry>(&folder, INVENTORY, kinds::INVENTORY)?
    else {
        return Err(Error::NoInventory { path: dir.into() });
    };
    check_version(&inventory)?;
    if inventory.pre_dump_mode.is_some() {
        return Err(Error::PreDump);
    }
    let images = inventory.ext.iter().flat_map(|ext| &ext.image);
    folder.list(images.map(|image| (image.name.clone(), image.records)));
    let mut reader = Reader {
        dir: folder,
        snapshot: Snapshot::default(),
        pages: BTreeMap::new(),
        ghosts: BTreeMap::new(),
        beyond: Vec::new(),
        nodes: BTreeSet::new(),
        is_packed: is_packed(&inventory),
        has_fdinfo_per_id: inventory.fdinfo_per_id.unwrap_or(false),
    };
    reader.read_origin(&inventory)?;
    reader.read_files()?;
    reader.read_tree()?;
    reader.read_segments()?;
    reader.read_network()?;
    reader.read_clocks()?;
    check::resolve(&mut reader.snapshot, &reader.nodes)?;
    reader.read_shared()?;
    check::shared(&mut reader.snapshot)?;
    reader.read_locks()?;
    reader.read_seccomp()?;
    parents::resolve(&reader.dir, &mut reader.snapshot, &mut reader.pages)?;
    Ok(ImageSet {
        snapshot: reader.snapshot,
        pages: reader.pages,
        is_packed: reader.is_packed,
        ghosts: reader.ghosts,
        beyond: reader.beyond,
    })
}

/// Refuses versions and extensions that this build does not know.
pub(super) fn check_version(inventory: &pb::InventoryEntry) -> Result<()> {
    let named = inventory.ext.iter().flat_map(|ext| &ext.extensions);
    let mut unknown = named.filter(|name| !EXTENSIONS.contains(&name.as_str()));
    match (inventory.img_version, unknown.next()) {
        (IMG_VERSION | NATIVE_VERSION, None) => Ok(()),
        (_, Some(name)) => Err(Error::Extension { name: name.clone() }),
        (version, None) => Err(Error::Version { version }),
    }
}

/// Returns whether a set's page files are in batches.
pub(super) fn is_packed(inventory: &pb::InventoryEntry) -> bool {
    let mut named = inventory.ext.iter().flat_map(|ext| &ext.extensions);
    named.any(|name| name == PAGE_BATCHES)
}

/// An image set being read.
pub(super) struct Reader {
    pub(super) dir: Dir,
    pub(super) snapshot: Snapshot,
    pages: BTreeMap<u32, File>,
    ghosts: BTreeMap<u32, File>,
    pub(super) beyond: Vec<Refusal>,
    /// Files that are there to say where the node of another is.
    nodes: BTreeSet<u32>,
    /// Page files are in batches.
    is_packed: bool,
    pub(super) has_fdinfo_per_id: bool,
}

impl Reader {
    fn read_origin(&mut self, inventory: &pb::InventoryEntry) -> Result<()> {
        let run_id = inventory.dump_criu_run_id.as_ref();
        self.snapshot.origin = Origin {
            wall_clock_ns: inventory.ext.as_ref().and_then(|ext| ext.wall_clock_ns),
            uptime_us: inventory.dump_uptime,
            has_own_session: inventory.ext.as_ref().is_some_and(|ext| ext.own_session()),
            tcp_close: inventory.tcp_close == Some(true),
            network_lock: match inventory.network_lock_method {
                Some(super::write::SKIP) => NetworkLock::Skip,
                Some(super::write::IPTABLES) => NetworkLock::Iptables,
                _ => NetworkLock::Nftables,
            },
            run_id: run_id.map(|id| String::from_utf8_lossy(id).into_owned()),
            root_ids: inventory
                .root_ids
                .as_ref()
                .map(task::ids_from_record)
                .unwrap_or_default(),
            ..Origin::default()
        };
        Ok(())
    }

    fn read_clocks(&mut self) -> Result<()> {
        let Some(clocks) =
            read_optional::<pb::TimensEntry>(&self.dir, "timens-0.img", kinds::TIMENS)?
        else {
            return Ok(());
        };
        let at = |wrong: Wrong| wrong.at("timens-0.img", "clocks");
        self.snapshot.origin.monotonic_ns = Some(clock(&clocks.monotonic).map_err(at)?);
        self.snapshot.origin.boottime_ns = Some(clock(&clocks.boottime).map_err(at)?);
        Ok(())
    }

    /// One record after the other: each has room for every kind of file, and there may be many thousands.
    fn read_files(&mut self) -> Result<()> {
        let mut nodes = BTreeMap::new();
        let mut ids = BTreeSet::new();
        let mut of_nodes = BTreeMap::new();
        // Their nodes may come after them.
        let mut later = Vec::new();
        let mut records = FileRecords::open(&self.dir)?;
        while let Some(mut record) = records.next()? {
            if record.tunf.is_some() {
                later.push(record);
                continue;
            }
            once(&mut ids, record.id).map_err(|wrong| of_file(wrong, record.id))?;
            if record.tty.is_some() || record.fifo.is_some() {
                later.push(record);
                continue;
            }
            let file = files::from_record(&record, |_| None);
            let file = file.map_err(|wrong| of_file(wrong, record.id))?;
            self.snapshot.files.push(file);
            nodes.extend(record.reg.take().map(|node| (record.id, node)));
        }
        for record in later {
            let file = files::from_record(&record, |id| nodes.get(&id));
            let file = file.map_err(|wrong| of_file(wrong, record.id))?;
            let node = record.tty.as_ref().and_then(|tty| tty.regf_id);
            let node = node.or(record.fifo.as_ref().and_then(|fifo| fifo.regf_id));
            if record.tunf.is_some() {
                // In the place of its node, which has the same id.
                self.snapshot.files.retain(|node| node.id != file.id);
            }
            self.nodes.extend(node);
            of_nodes.extend(node.map(|node| (node, record.id)));
            self.snapshot.files.push(file);
        }
        drop(nodes);
        self.snapshot.files.sort_by_key(|file| file.id);
        self.read_remaps(&of_nodes)?;
        self.read_pipes()?;
        self.read_memfds()?;
        self.read_terminals()
    }

    /// Files whose path is not that of their content any more.
    fn read_remaps(&mut self, of_nodes: &BTreeMap<u32, u32>) -> Result<()> {
        (self.snapshot.ghosts, self.ghosts) =
            super::ghosts::read(&self.dir, &mut self.snapshot.files, of_nodes)?;
        Ok(())
    }

    fn read_pipes(&mut self) -> Result<()> {
        let pipes = |kind: &FileKind| match kind {
            FileKind::Pipe(end) => Some(end.pipe_id),
            _ => None,
        };
        let fifos = |kind: &FileKind| match kind {
            FileKind::Fifo(fifo) => Some(fifo.pipe_id),
            _ => None,
        };
        self.read_queues()?;
        self.read_streams()?;
        self.read_maps()?;
        self.read_posix_queues()?;
        self.snapshot.pipes = self.read_buffers("pipes-data.img", kinds::PIPES_DATA, pipes)?;
        self.snapshot.fifos = self.read_buffers("fifo-data.img", kinds::FIFO_DATA, fifos)?;
        Ok(())
    }

    /// Reads POSIX message queues with what waits in them.
    fn read_posix_queues(&mut self) -> Result<()> {
        let name = "mqueues.img";
        let Some(mut data) = Decoder::open(&self.dir, name, kinds::MQUEUES)? else {
            return Ok(());
        };
        while let Some(record) = data.record::<pb::ExtQueue>()? {
            let queue = mqueue::image::queue_from_record(&record);
            let mut queue =
                queue.map_err(|wrong| wrong.at(name, format!("queue {}", record.id)))?;
            for (message, told) in queue.messages.iter_mut().zip(&record.message) {
                message.bytes = data.bytes(u64::from(told.length))?;
            }
            self.snapshot.posix_queues.push(queue);
        }
        Ok(())
    }

    /// Reads what is in BPF maps.
    fn read_maps(&mut self) -> Result<()> {
        let name = "bpfmap-data.img";
        let Some(mut data) = Decoder::open(&self.dir, name, kinds::BPFMAP_DATA)? else {
            return Ok(());
        };
        while let Some(record) = data.record::<pb::BpfmapDataEntry>()? {
            let keys = data.bytes(u64::from(record.keys_bytes))?;
            let values = data.bytes(u64::from(record.values_bytes))?;
            let maps = self.snapshot.files.iter_mut();
            let map = maps.filter_map(|file| match &mut file.kind {
                FileKind::BpfMap(map) if map.id == record.map_id => Some(map),
                _ => None,
            });
            for map in map {
                let content = [keys.clone(), values.clone()];
                bpfmap::image::fill(map, &record, content)
                    .map_err(|wrong| wrong.at(name, format!("map {}", record.map_id)))?;
            }
        }
        Ok(())
    }

    /// Reads what waits in sockets.
    fn read_queues(&mut self) -> Result<()> {
        let name = "sk-queues.img";
        let Some(mut data) = Decoder::open(&self.dir, name, kinds::SK_QUEUES)? else {
            return Ok(());
        };
        while let Some(record) = data.record::<pb::SkPacketEntry>()? {
            let bytes = data.bytes(u64::from(record.length))?;
            let id = FileId(record.id_for);
            let index = self
                .snapshot
                .files
                .binary_search_by_key(&id, |file| file.id);
            let at = |wrong: Wrong| wrong.at(name, format!("socket {}", record.id_for));
            let Ok(index) = index else {
                return Err(at(Wrong::new("it is not in files.img")));
            };
            let file = &mut self.snapshot.files[index];
            match &mut file.kind {
                FileKind::Unix(socket) => {
                    let message = unix::image::message_from_record(&record, bytes);
                    socket.queue.push(message.map_err(at)?);
                }
                // Datagrams of the network are with their socket.
                FileKind::Unsupported(_) | FileKind::Inet(_) => {}
                _ => return Err(at(Wrong::new("it is no socket"))),
            }
        }
        Ok(())
    }

    /// Reads what connections of TCP are in the middle of.
    fn read_streams(&mut self) -> Result<()> {
        let is_closed = self.snapshot.origin.tcp_close;
        for file in &mut self.snapshot.files {
            let FileKind::Inet(socket) = &mut file.kind else {
                continue;
            };
            if socket.connection().is_none() {
                continue;
            }
            let name = super::write::stream_name(socket.ino);
            let Some(mut data) = Decoder::open(&self.dir, &name, kinds::TCP_STREAM)? else {
                match is_closed {
                    true => continue,
                    false => return Err(Error::Missing { file: name }),
                }
            };
            let at = |wrong: Wrong| wrong.at(&name, "its record");
            let Some(record) = data.record::<pb::TcpStreamEntry>()? else {
                return Err(at(Wrong::new("it has none")));
            };
            socket.stream = inet::stream::from_record(&record).map_err(at)?;
            socket.stream.received = data.bytes(record.inq_len.into())?;
            socket.stream.sent = data.bytes(record.outq_len.into())?;
        }
        Ok(())
    }

    /// Reads what pipes hold; those that are not in the file hold nothing.
    fn read_buffers(
        &self,
        name: &str,
        kind: kinds::Kind,
        id_of: impl Fn(&FileKind) -> Option<u32>,
    ) -> Result<Vec<PipeBuffer>> {
        let files = self.snapshot.files.iter();
        let mut ids: BTreeSet<u32> = files.filter_map(|file| id_of(&file.kind)).collect();
        let mut buffers = Vec::new();
        if let Some(mut data) = Decoder::open(&self.dir, name, kind)? {
            while let Some(record) = data.record::<pb::PipeDataEntry>()? {
                let bytes = data.bytes(u64::from(record.bytes))?;
                let known = match ids.remove(&record.pipe_id) {
                    true => pipe::image::buffer_from_record(&record, bytes),
                    false => wrong!("no descriptor is an end of it, or it is there twice"),
                };
                let buffer =
                    known.map_err(|wrong| wrong.at(name, format!("pipe {}", record.pipe_id)))?;
                buffers.push(buffer);
            }
        }
        let empty = ids.into_iter().map(|pipe_id| PipeBuffer {
            pipe_id,
            ..PipeBuffer::default()
        });
        buffers.extend(empty);
        Ok(buffers)
    }

    fn read_memfds(&mut self) -> Result<()> {
        let name = "memfd.img";
        let records = read_all::<pb::MemfdInodeEntry>(&self.dir, name, kinds::MEMFD)?;
        for record in records.unwrap_or_default() {
            let inode = memfd::image::inode_from_record(&record);
            let inode =
                inode.map_err(|wrong| wrong.at(name, format!("inode {}", record.inode_id)))?;
            self.snapshot.memfds.push(inode);
        }
        Ok(())
    }

    /// Reads segments of System V shared memory.
    fn read_segments(&mut self) -> Result<()> {
        let Some(root) = self.snapshot.root() else {
            return Ok(());
        };
        let (own, callers) = (root.ids.ipc_ns, self.snapshot.origin.root_ids.ipc_ns);
        if own != 0 && callers != 0 && own != callers {
            self.snapshot.ipc = Some(ipc::from_files(&self.dir, own)?);
        }
        let mut others = self.snapshot.tasks.iter();
        let other = others.find(|task| !matches!(task.ids.ipc_ns, 0) && task.ids.ipc_ns != own);
        if let Some(pid) = other.map(|task| task.pid) {
            let object = "IPC namespace of its own".into();
            self.refuse(pid, object, "it is not that of the root of the tree");
        }
        let name = format!("ipcns-shm-{own}.img");
        let Some(mut records) = Decoder::open(&self.dir, &name, kinds::IPCNS_SHM)? else {
            return Ok(());
        };
        while let Some(record) = records.record::<pb::IpcShmEntry>()? {
            let at = |wrong: Wrong| wrong.at(&name, format!("segment {}", record.desc.id));
            if record.in_pagemaps != Some(true) {
                let wrong = Wrong::new("its content is beside it, as only old writers have it");
                return Err(at(wrong));
            }
            let segment = shm::image::from_record(&record).map_err(at)?;
            self.snapshot.segments.push(segment);
        }
        Ok(())
    }

    /// Reads the network namespace of the tree's own.
    fn read_network(&mut self) -> Result<()> {
        let Some(root) = self.snapshot.root() else {
            return Ok(());
        };
        let (own, callers) = (root.ids.net_ns, self.snapshot.origin.root_ids.net_ns);
        if own != 0 && callers != 0 && own != callers {
            self.snapshot.network = Some(network::from_files(&self.dir, own)?);
        }
        let mut others = self.snapshot.tasks.iter();
        let other = others.find(|task| !matches!(task.ids.net_ns, 0) && task.ids.net_ns != own);
        if let Some(pid) = other.map(|task| task.pid) {
            let object = "network namespace of its own".into();
            self.refuse(pid, object, "it is not that of the root of the tree");
        }
        Ok(())
    }

    fn read_terminals(&mut self) -> Result<()> {
        let name = "tty-info.img";
        let records = read_all::<pb::TtyInfoEntry>(&self.dir, name, kinds::TTY_INFO)?;
        for record in records.unwrap_or_default() {
            let info = tty::image::info_from_record(&record);
            let info = info.map_err(|wrong| wrong.at(name, format!("terminal {}", record.id)))?;
            self.snapshot.terminals.push(info);
        }
        self.read_terminal_data()
    }

    fn read_terminal_data(&mut self) -> Result<()> {
        let name = "tty-data.img";
        let records = read_all::<pb::TtyDataEntry>(&self.dir, name, kinds::TTY_DATA)?;
        let mut seen = BTreeSet::new();
        for record in records.unwrap_or_default() {
            let id = record.tty_id;
            let mut infos = self.snapshot.terminals.iter_mut();
            let known = match infos.find(|info| info.id == id) {
                Some(info) if seen.insert(id) => tty::image::data_from_record(record, info),
                _ => wrong!("it is no terminal, or is there twice"),
            };
            known.map_err(|wrong| wrong.at(name, format!("terminal {id}")))?;
        }
        let mut infos = self.snapshot.terminals.iter();
        let lacks = |info: &&TerminalInfo| !info.waiting.is_empty() && !seen.contains(&info.id);
        match infos.find(lacks) {
            Some(info) => {
                let wrong = Wrong::new("the bytes of its lines are missing");
                Err(wrong.at(name, format!("terminal {}", info.id)))
            }
            None => Ok(()),
        }
    }

    /// Reads the pages of shared memory that areas or memfds name.
    fn read_shared(&mut self) -> Result<()> {
        for (id, size) in check::shared_sizes(&self.snapshot) {
            let map = self.read_pagemap(&format!("pagemap-shmem-{id}.img"))?;
            let pages = map.map(|map| map.runs).unwrap_or_default();
            self.snapshot.shared.push(SharedMemory { id, size, pages });
        }
        Ok(())
    }

    /// Reads a pagemap and opens the file that holds its pages.
    pub(super) fn read_pagemap(&mut self, name: &str) -> Result<Option<Runs>> {
        let Some(map) = pages::read(&self.dir, name)? else {
            return Ok(None);
        };
        for (&id, &len) in &map.lens {
            self.open_pages(name, id, len)?;
        }
        Ok(Some(map))
    }

    /// Opens a page file of which the pagemap `name` wants so many bytes.
    fn open_pages(&mut self, name: &str, id: u32, wanted: u64) -> Result<()> {
        let pages_name = format!("pages-{id}.img");
        let file = match self.dir.open_file(&pages_name)? {
            Some(file) => file,
            None if wanted == 0 => return Ok(()),
            None => return Err(Error::Missing { file: pages_name }),
        };
        let file = match self.is_packed {
            true => unpacked(&file, &pages_name, wanted)?,
            false => file,
        };
        let meta = file
            .metadata()
            .map_err(|source| failed("examine", &pages_name, source))?;
        let fits = match meta.len() {
            len if len < wanted => {
                wrong!("{pages_name} holds {len} bytes of the {wanted} that it names")
            }
            _ if self.pages.contains_key(&id) => wrong!("{pages_name} is another's too"),
            _ => Ok(()),
        };
        fits.map_err(|wrong| wrong.at(name, "pages"))?;
        self.pages.insert(id, file);
        Ok(())
    }

    fn read_seccomp(&mut self) -> Result<()> {
        let name = "seccomp.img";
        let record: Option<pb::SeccompEntry> = read_optional(&self.dir, name, kinds::SECCOMP)?;
        let records = record.unwrap_or_default().seccomp_filters;
        for (index, record) in records.iter().enumerate() {
            let filter = seccomp::image::from_record(index, record);
            let filter = filter.map_err(|wrong| wrong.at(name, format!("filter {index}")))?;
            self.snapshot.seccomp.push(filter);
        }
        for thread in self.snapshot.tasks.iter().flat_map(|task| &task.threads) {
            if let SeccompMode::Filter(newest) = thread.seccomp
                && newest as usize >= records.len()
            {
                let wrong = Wrong::new(format!("filter {newest} is not in {name}"));
                return Err(wrong.at(&format!("core-{}.img", thread.tid), "seccomp"));
            }
        }
        Ok(())
    }

    fn read_locks(&mut self) -> Result<()> {
        let name = "filelocks.img";
        let records = read_all::<pb::FileLockEntry>(&self.dir, name, kinds::FILE_LOCKS)?;
        for record in records.unwrap_or_default() {
            let at = |wrong: Wrong| wrong.at(name, format!("lock of task {}", record.pid));
            let lock = locks::image::from_record(&record).map_err(at)?;
            let mut tasks = self.snapshot.tasks.iter();
            let task = tasks.find(|task| task.pid == lock.pid);
            let has_it = |task: &Task| task.fds.iter().any(|entry| entry.fd == lock.fd);
            if !task.is_some_and(has_it) {
                return Err(at(Wrong::new(format!(
                    "there is no descriptor {}",
                    lock.fd
                ))));
            }
            self.snapshot.locks.push(lock);
        }
        Ok(())
    }

    /// Keeps with which access mode the files of areas must be opened. The peer keeps it with the area; here it is the
    /// file's, as no descriptor shares it.
    pub(super) fn open_for_mapping(&mut self, areas: &[pb::VmaEntry], fds: &[FdEntry]) {
        let files = &mut self.snapshot.files;
        let with_descriptor: BTreeSet<FileId> = fds.iter().map(|entry| entry.file).collect();
        let is_of_file = |area: &&pb::VmaEntry| super::vma::names_file(area);
        for area in areas
            .iter()
            .filter(is_of_file)
            .filter(|area| area.fdflags == Some(libc::O_RDWR as u32))
        {
            let index = files.binary_search_by_key(&area.shmid, |file| u64::from(file.id.0));
            let Ok(index) = index else {
                continue;
            };
            let file = &mut files[index];
            if file.flags & libc::O_ACCMODE as u32 == 0 && !with_descriptor.contains(&file.id) {
                file.flags |= libc::O_RDWR as u32;
            }
        }
    }

    /// Reads a record that must be there.
    pub(super) fn one<M: prost::Message + Default>(
        &self,
        name: &str,
        kind: kinds::Kind,
    ) -> Result<M> {
        read_one(&self.dir, name, kind)
    }
}

/// Returns the pages of a file that is in batches.
fn unpacked(file: &File, name: &str, len: u64) -> Result<File> {
    wire::batches::unpack(file, len).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => Wrong::new(error.to_string()).at(name, "pages"),
        _ => failed("unpack", name, error),
    })
}

fn clock(time: &pb::Timespec) -> std::result::Result<i64, Wrong> {
    if time.tv_nsec >= SECOND_NS {
        return wrong!("{} nanoseconds are not below a second", time.tv_nsec);
    }
    let ns = (time.tv_sec as i64).checked_mul(SECOND_NS as i64);
    match ns.and_then(|ns| ns.checked_add(time.tv_nsec as i64)) {
        Some(ns) => Ok(ns),
        None => wrong!("{} seconds is more than a clock counts", time.tv_sec),
    }
}

/// Returns a process id from its record, which must not be 0.
pub(super) fn real_pid(value: u32) -> std::result::Result<i32, Wrong> {
    match pid(value)? {
        0 => wrong!("0 is no process id"),
        id => Ok(id),
    }
}

/// The records of open file descriptions.
enum FileRecords {
    /// Of `files.img`, with the watches of epolls that older writers keep apart.
    File(Decoder, BTreeMap<u32, Vec<pb::EventpollTfdEntry>>),
    /// Of a set without one.
    Older(std::vec::IntoIter<pb::FileEntry>),
}

impl FileRecords {
    fn open(dir: &Dir) -> Result<Self> {
        Ok(match Decoder::open(dir, "files.img", kinds::FILES)? {
            Some(decoder) => Self::File(decoder, compat::watches(dir)?),
            None => Self::Older(compat::files(dir)?.into_iter()),
        })
    }

    fn next(&mut self) -> Result<Option<pb::FileEntry>> {
        let (decoder, watches) = match self {
            Self::File(decoder, watches) => (decoder, watches),
            Self::Older(records) => return Ok(records.next()),
        };
        let mut record: Option<pb::FileEntry> = decoder.record()?;
        if let Some(epoll) = record.as_mut().and_then(|record| record.epfd.as_mut()) {
            epoll
                .tfd
                .extend(watches.remove(&epoll.id).unwrap_or_default());
        }
        Ok(record)
    }
}

fn once(ids: &mut BTreeSet<u32>, id: u32) -> Checked<()> {
    match ids.insert(id) {
        true => Ok(()),
        false => wrong!("its id is there twice"),
    }
}

fn of_file(wrong: Wrong, id: u32) -> super::error::Error {
    wrong.at("files.img", format!("file {id}"))
}
