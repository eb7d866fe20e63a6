//! Writing an image set: memory first, as it is drained; then all else in one go; the inventory last, by rename.

mod names;
mod records;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use proto::frame::Encoded;
use proto::{kinds, pb};

use super::codec::encode;
use super::dir::{Dir, failed};
use super::error::Result;
use super::stats::{self, DumpStats};
use super::xstate::Layout;
use crate::memory::output::Sink;
use crate::snapshot::{OpenFile, Snapshot};
use crate::wire;

pub use names::is_image;
pub(super) use names::{INVENTORY, is_of_memory, note_name, stream_name};
use names::{is_note, is_of_a_set, pages_name};
pub(super) use records::{has_own_directories, has_protection_keys};

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
/// POSIX message queues.
pub(super) const POSIX_QUEUES: &str = "posix-message-queues";
/// Threads with a working directory, root and umask of their own.
pub(super) const THREAD_DIRECTORIES: &str = "thread-directories";
/// Areas with a protection key.
pub(super) const PROTECTION_KEYS: &str = "protection-keys";
/// All extensions that this build knows.
pub(super) const EXTENSIONS: [&str; 7] = [
    PARENT_TASK_PAGES,
    PAGE_FILES,
    PAGE_BATCHES,
    SHARED_SPACES,
    POSIX_QUEUES,
    THREAD_DIRECTORIES,
    PROTECTION_KEYS,
];
/// `network_lock_method` of the inventory: iptables, or that nobody is told to unlock.
pub(super) const IPTABLES: u32 = 0;
pub(super) const SKIP: u32 = 2;
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
    /// What was sent there is noted for the next round.
    with_note: bool,
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
            with_note: false,
            packed: false,
        })
    }

    /// Has the set have a parent: where it lies, from the images folder on. A page server in the same folder sees it at once.
    pub fn set_parent(&mut self, link: Option<&Path>) -> Result<()> {
        self.parent = link.map(Path::to_path_buf);
        match (&self.parent, self.without_memory) {
            (Some(parent), true) => self.unfinished.link_parent(parent),
            _ => Ok(()),
        }
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
            with_note: false,
            packed: false,
        })
    }

    /// Says in the set that its page files are in batches.
    pub fn say_packed(&mut self) {
        self.packed = true;
    }

    /// Leaves pages and pagemaps to a page server, with a note of them for the next round where there is to be one. What a server
    /// has stored in the same folder stays there.
    pub fn leave_memory_out(&mut self, with_note: bool) {
        self.without_memory = true;
        self.with_note = with_note;
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
        self.write_network(snapshot)?;
        for task in &snapshot.tasks {
            self.write_task(task, &by_id, layout)?;
        }
        self.write_memory_or_note(snapshot)?;
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
        self.write_memory_or_note(snapshot)?;
        self.write(
            "stats-dump",
            &encode(kinds::STATS, [&stats::to_record(stats)]),
        )?;
        self.write_inventory(snapshot, Some(mode))?;
        self.put_in_place()
    }

    fn write_memory_or_note(&mut self, snapshot: &Snapshot) -> Result<()> {
        match (self.without_memory, self.with_note) {
            (false, _) => self.write_memory(snapshot),
            (true, true) => self.write_note(snapshot),
            (true, false) => Ok(()),
        }
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
            if (is_of_a_set(&name) || is_note(&name))
                && !self.created.contains_key(&name)
                && !is_kept
            {
                dir.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Makes the set valid. Where there is none, the inventory makes it one, which comes last; an older one is replaced in
    /// one step, and the files come to their places after it.
    fn move_in_place(&mut self, dir: &Dir) -> Result<()> {
        if dir.has_inventory()? {
            self.unfinished.unlink_parent()?;
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
        self.unfinished.unlink_parent()?;
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
        let removed: Vec<_> = files
            .map(|name| self.unfinished.remove(name))
            .chain([self.unfinished.unlink_parent()])
            .collect();
        let Place::Folder(dir) = &self.place else {
            return;
        };
        let folder = dir.remove_unfinished();
        for error in removed.into_iter().chain([folder]).filter_map(Result::err) {
            tracing::warn!("{error}");
        }
    }
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
