//! What a page server keeps: page files and their pagemaps, without the rest of an image set. They are made in a folder of
//! their own inside of the images folder, and moved to their places when the client says that it has sent all.
//!
//! What the client says is untrusted: runs ascend, lie in user space, and each holder comes once.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::dedup;
use super::dir::{Dir, failed};
use super::error::{Error, Result, Wrong};
use super::pages;
use super::parents::Chain;
use super::write::INVENTORY;
use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun};
use crate::wire::protocol::{Holder, LAZY};

/// Folder in the images folder in which the files are made.
const UNFINISHED: &str = ".orchestrator-unfinished-pages";
/// First number of a page file: as the peer's server counts, far from those of a dump into the same folder.
const FIRST_ID: u32 = 0x1_0001;
/// Most runs of one holder: an area of 4096 bytes each.
const MAX_RUNS: usize = 1 << 24;
/// Most holders: there are no more processes than ids, and few segments.
const MAX_HOLDERS: usize = 1 << 22;
/// End of user space with 5-level page tables; also more than any file has.
const MAX_ADDRESS: u64 = 1 << 56;
/// Bytes moved at a time.
const CHUNK: usize = 256 << 10;

/// Page files being received.
#[derive(Debug)]
pub struct PageStore {
    path: PathBuf,
    /// Where the parent set lies, from the folder on, if that was said.
    parent: Option<PathBuf>,
    dir: Dir,
    /// What is known of the inventory of the set that lay there before.
    older: Option<FileMark>,
    unfinished: Dir,
    created: BTreeSet<String>,
    holders: BTreeSet<Holder>,
    current: Option<Current>,
    buffer: Vec<u8>,
}

/// The holder whose pages come.
#[derive(Debug)]
struct Current {
    holder: Holder,
    file: File,
    pages_id: u32,
    runs: Vec<(PageRun, bool)>,
    end: u64,
    offset: u64,
    parent: Option<Vec<PageRun>>,
}

impl PageStore {
    /// Opens the folder at `dir` for the pages of one dump, with the set before it at `parent`, which counts from there. Where
    /// that is not said it is where the link in the folder leads, or that of a dump into the same folder.
    pub fn create(dir: &Path, parent: Option<&Path>) -> Result<Self> {
        let folder = Dir::open(dir)?;
        Ok(Self {
            path: dir.into(),
            parent: parent.map(Path::to_path_buf),
            unfinished: folder.make_own(UNFINISHED, dir)?,
            older: mark(&folder)?,
            dir: folder,
            created: BTreeSet::new(),
            holders: BTreeSet::new(),
            current: None,
            buffer: vec![0; CHUNK],
        })
    }

    /// Begins the pages of a holder; returns whether the parent image set has some of it.
    pub fn open(&mut self, holder: Holder) -> Result<bool> {
        self.finish_current()?;
        if self.holders.len() >= MAX_HOLDERS || !self.holders.insert(holder) {
            return Err(wrong(holder, "its pages came before"));
        }
        let pages_id = FIRST_ID + (self.holders.len() as u32 - 1);
        let name = format!("pages-{pages_id}.img");
        let file = self.unfinished.create(&name)?;
        self.created.insert(name);
        let parent = self.parent_runs(holder)?;
        let has_parent = parent.is_some();
        self.current = Some(Current {
            holder,
            file,
            pages_id,
            runs: Vec::new(),
            end: 0,
            offset: 0,
            parent,
        });
        Ok(has_parent)
    }

    /// Returns whether the parent image set has pages of a holder.
    pub fn has_parent(&self, holder: Holder) -> Result<bool> {
        Ok(self.parent_runs(holder)?.is_some())
    }

    fn parent_runs(&self, holder: Holder) -> Result<Option<Vec<PageRun>>> {
        let Some(parent) = self.parent_dir()? else {
            return Ok(None);
        };
        let map = pages::read(&parent, &holder.pagemap())?;
        let runs = map.map(|map| map.runs).unwrap_or_default();
        let is_had =
            |run: &PageRun| !matches!(run.at, PageLocation::ParentTask | PageLocation::Source);
        let runs: Vec<PageRun> = runs.into_iter().filter(is_had).collect();
        Ok(Some(runs).filter(|runs| !runs.is_empty()))
    }

    fn parent_dir(&self) -> Result<Option<Dir>> {
        let parent = match &self.parent {
            Some(parent) => Some(Dir::open(&self.path.join(parent))?),
            None => self.dir.open_parent_to_be()?,
        };
        match parent {
            Some(parent) if parent.identity()? == self.dir.identity()? => Err(Error::OwnParent {
                path: self.path.clone(),
            }),
            parent => Ok(parent),
        }
    }

    /// Takes pages of the holder that was opened last, and their bytes from `source`.
    pub fn add(
        &mut self,
        holder: Holder,
        (address, count): (u64, u64),
        flags: u16,
        source: &mut impl Read,
    ) -> std::result::Result<(), StoreError> {
        let current = current(&mut self.current, holder)?;
        let run = current.next_run(address, count)?;
        let mut left = count * PAGE_SIZE;
        while left > 0 {
            let len = left.min(CHUNK as u64) as usize;
            let bytes = &mut self.buffer[..len];
            source.read_exact(bytes).map_err(StoreError::Source)?;
            let written = current.file.write_all(bytes);
            let name = format!("pages-{}.img", current.pages_id);
            written.map_err(|source| failed("write", &name, source))?;
            left -= len as u64;
        }
        let at = PageLocation::Here {
            pages_id: current.pages_id,
            offset: current.offset,
        };
        current.offset += count * PAGE_SIZE;
        current.push(PageRun { at, ..run }, flags & LAZY != 0);
        Ok(())
    }

    /// Takes word that pages are as in the parent image set, which must have them.
    pub fn hole(&mut self, holder: Holder, address: u64, count: u64) -> Result<()> {
        let current = current(&mut self.current, holder)?;
        let run = current.next_run(address, count)?;
        let parent = current.parent.as_deref().unwrap_or_default();
        if !covers(parent, address, address + count * PAGE_SIZE) {
            let words = format!("the parent image set does not have its pages at {address:#x}");
            return Err(wrong(holder, &words));
        }
        current.push(run, false);
        Ok(())
    }

    /// Takes word that pages are as in the parent task.
    pub fn as_in_task(&mut self, holder: Holder, address: u64, count: u64) -> Result<()> {
        let current = current(&mut self.current, holder)?;
        let Holder::Task(_) = holder else {
            return Err(wrong(holder, "it has no parent task"));
        };
        let run = current.next_run(address, count)?;
        let at = PageLocation::ParentTask;
        current.push(PageRun { at, ..run }, false);
        Ok(())
    }

    fn finish_current(&mut self) -> Result<()> {
        let Some(current) = self.current.take() else {
            return Ok(());
        };
        let name = current.holder.pagemap();
        let map = pages::encode_received(&current.runs, current.pages_id);
        let map = map.map_err(|wrong| wrong.unwritable(&name))?;
        let mut file = self.unfinished.create(&name)?;
        self.created.insert(name.clone());
        file.write_all(&map.bytes)
            .map_err(|source| failed("write", &name, source))
    }

    /// Moves all to where it belongs. An older image set there is none any more: its pages are replaced.
    pub fn finish(mut self) -> Result<Stored> {
        self.finish_current()?;
        let parent = self.parent_dir()?;
        // The peer's dump into the same folder has written a new one by now.
        if self.older.is_some() && self.older == mark(&self.dir)? {
            self.dir.remove(INVENTORY)?;
        }
        if let Some(parent) = &self.parent {
            self.dir.unlink_parent()?;
            self.dir.link_parent(parent)?;
        }
        for name in self.dir.names()? {
            let is_old = name.starts_with("pagemap-") || name.starts_with("pages-");
            if is_old && !self.created.contains(&name) {
                self.dir.remove(&name)?;
            }
        }
        let created = std::mem::take(&mut self.created);
        let mut names = created.iter();
        while let Some(name) = names.next() {
            if let Err(error) = self.unfinished.move_to(name, &self.dir) {
                self.created = names.cloned().collect();
                return Err(error);
            }
        }
        Ok(Stored {
            holders: self.holders.len() as u64,
            dir: self.dir.try_clone()?,
            parent,
        })
    }
}

/// Pages that are in their places.
#[derive(Debug)]
pub struct Stored {
    /// Address spaces and shared segments.
    pub holders: u64,
    dir: Dir,
    parent: Option<Dir>,
}

impl Stored {
    /// Takes out of the parent sets what these pages supersede, and returns how many pages that is.
    pub fn take_out_superseded(self) -> Result<u64> {
        let chain = Chain::from(&self.dir, self.parent)?;
        dedup::take_out(&self.dir, &chain)
    }
}

impl Drop for PageStore {
    fn drop(&mut self) {
        let files = self.created.iter();
        let removed: Vec<_> = files.map(|name| self.unfinished.remove(name)).collect();
        let folder = self.dir.remove_folder(UNFINISHED);
        for error in removed.into_iter().chain([folder]).filter_map(Result::err) {
            tracing::warn!("{error}");
        }
    }
}

/// Why pages could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// They did not come.
    #[error("cannot receive pages")]
    Source(#[source] io::Error),
    /// They cannot be stored.
    #[error(transparent)]
    Image(#[from] Error),
}

impl Current {
    /// Returns the run of pages that comes next, if it may.
    fn next_run(&mut self, address: u64, count: u64) -> Result<PageRun> {
        let holder = self.holder;
        let end = count
            .checked_mul(PAGE_SIZE)
            .and_then(|len| address.checked_add(len));
        let end = end.filter(|&end| end <= MAX_ADDRESS);
        let (Some(end), true, true) = (end, address.is_multiple_of(PAGE_SIZE), count > 0) else {
            let words = format!("{count} pages at {address:#x} cannot be");
            return Err(wrong(holder, &words));
        };
        if address < self.end {
            let words = format!("its pages at {address:#x} overlap others, or come too late");
            return Err(wrong(holder, &words));
        }
        if self.runs.len() >= MAX_RUNS {
            return Err(wrong(
                holder,
                "it has more runs of pages than there are areas",
            ));
        }
        self.end = end;
        Ok(PageRun {
            start: address,
            pages: count,
            at: PageLocation::Parent,
        })
    }

    fn push(&mut self, run: PageRun, lazy: bool) {
        if let Some((last, last_lazy)) = self.runs.last_mut() {
            let is_next = last.start + last.pages * PAGE_SIZE == run.start;
            let is_alike = std::mem::discriminant(&last.at) == std::mem::discriminant(&run.at);
            if is_next && is_alike && *last_lazy == lazy {
                last.pages += run.pages;
                return;
            }
        }
        self.runs.push((run, lazy));
    }
}

/// Which file it is, and what it was like: inode, size, and time of the last change.
type FileMark = (u64, u64, (i64, i64));

fn mark(dir: &Dir) -> Result<Option<FileMark>> {
    let Some(inventory) = dir.open_file(INVENTORY)? else {
        return Ok(None);
    };
    let meta = inventory.metadata();
    let meta = meta.map_err(|source| failed("examine", INVENTORY, source))?;
    let changed = (meta.mtime(), meta.mtime_nsec());
    Ok(Some((meta.ino(), meta.size(), changed)))
}

fn current(current: &mut Option<Current>, holder: Holder) -> Result<&mut Current> {
    match current {
        Some(current) if current.holder == holder => Ok(current),
        _ => Err(wrong(holder, "its pages come without its being opened")),
    }
}

fn wrong(holder: Holder, words: &str) -> Error {
    Wrong::new(words).at("what the client sent", holder.to_string())
}

/// Returns whether every page from `start` to `end` is in a run.
fn covers(runs: &[PageRun], start: u64, end: u64) -> bool {
    let first = runs.partition_point(|run| run.start + run.pages * PAGE_SIZE <= start);
    let mut at = start;
    for run in &runs[first..] {
        if at >= end || run.start > at {
            break;
        }
        at = run.start + run.pages * PAGE_SIZE;
    }
    at >= end
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: Holder = Holder::Task(7);

    fn store() -> (tempfile::TempDir, PageStore) {
        let dir = tempfile::tempdir().expect("folder");
        let store = PageStore::create(dir.path(), None).expect("store");
        (dir, store)
    }

    #[test]
    fn what_cannot_be_is_refused_and_leaves_nothing() {
        let (dir, mut store) = store();
        let bytes = vec![1; 8 << 12];
        let mut add = |address, count| {
            store
                .add(TASK, (address, count), 4, &mut &bytes[..])
                .map_err(|error| error.to_string())
        };
        assert!(add(0x1000, 1).expect_err("unopened").contains("opened"));
        store.open(TASK).expect("opened");
        let mut add = |address, count| {
            store
                .add(TASK, (address, count), 4, &mut &bytes[..])
                .is_ok()
        };
        assert!(add(0x10000, 2));
        for (address, count) in [
            (0x11000, 1),
            (0x12001, 1),
            (0x13000, 0),
            (0x13000, u64::MAX),
            (1 << 56, 1),
            (0x13000, 9),
        ] {
            assert!(!add(address, count), "{address:#x} {count}");
        }
        assert!(store.hole(TASK, 0x20000, 1).is_err(), "there is no parent");
        assert!(store.open(TASK).is_err(), "opened twice");
        drop(store);
        assert_eq!(std::fs::read_dir(dir.path()).expect("folder").count(), 0);
    }

    #[test]
    fn what_is_whole_takes_its_place() {
        let (dir, mut store) = store();
        std::fs::write(dir.path().join("pages-1.img"), "old").expect("written");
        store.open(TASK).expect("opened");
        store
            .add(TASK, (0x1000, 1), 4, &mut &[1; 4096][..])
            .expect("added");
        store
            .add(TASK, (0x2000, 1), 6, &mut &[2; 4096][..])
            .expect("added");
        assert_eq!(store.finish().expect("finished").holders, 1);
        let mut names = crate::image::dir::Dir::open(dir.path())
            .expect("folder")
            .names()
            .expect("names");
        names.sort();
        assert_eq!(names, ["pagemap-7.img", "pages-65537.img"]);
        let map = pages::read(&Dir::open(dir.path()).expect("folder"), "pagemap-7.img")
            .expect("read")
            .expect("there");
        assert_eq!((map.runs.len(), map.runs[0].pages), (1, 2));
    }

    #[test]
    fn holes_are_checked_page_by_page() {
        let run = |start, pages| PageRun {
            start,
            pages,
            at: PageLocation::Parent,
        };
        let runs = [run(0x1000, 1), run(0x2000, 1), run(0x5000, 1)];
        assert!(covers(&runs, 0x1000, 0x3000));
        assert!(!covers(&runs, 0x1000, 0x4000));
        assert!(!covers(&runs, 0x4000, 0x6000));
        assert!(covers(&runs, 0x5000, 0x6000));
    }
}
