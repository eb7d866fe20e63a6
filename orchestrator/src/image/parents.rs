//! Chains of image sets: a set that was written after another has the pages that changed since, and for the others a run
//! that says "in the parent set", which the symbolic link `parent` in its folder leads to.
//!
//! A chain is resolved once for each pagemap, from the set down to its oldest parent: what is left of the runs that lie in a
//! parent is laid over the parent's runs, until nothing is left. So a restore sees where each page lies, however long the
//! chain is, and never looks for a single page. Parents are only data: of them nothing but pagemaps and page files is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use proto::{kinds, pb};

use super::codec::read_optional;
use super::dir::{Dir, failed};
use super::error::{Error, Result, Wrong};
use super::pages;
use super::read::{check_version, is_packed};
use super::write::{INVENTORY, note_name};
use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun, Snapshot};

/// The symbolic link to the parent set.
pub(super) const PARENT: &str = "parent";
/// Most sets of a chain. Each has a page file or more to be held open; a chain that is longer by far is a mistake.
const MAX_CHAIN: usize = 1 << 16;

/// The parents of an image set, the nearest first.
#[derive(Debug)]
pub(super) struct Chain {
    dirs: Vec<Dir>,
}

impl Chain {
    /// Opens all parents of the set in `dir`.
    pub(super) fn open(dir: &Dir) -> Result<Self> {
        Self::from(dir, dir.open_parent()?)
    }

    /// Opens all parents of the set in `dir`, of which `first` is the nearest.
    pub(super) fn from(dir: &Dir, first: Option<Dir>) -> Result<Self> {
        let mut known = vec![dir.identity()?];
        let mut dirs: Vec<Dir> = Vec::new();
        let mut next_one = first;
        while let Some(next) = next_one.take() {
            let identity = next.identity()?;
            if known.contains(&identity) || known.len() > MAX_CHAIN {
                let wrong = Wrong::new("the chain of parent image sets leads back into itself");
                return Err(wrong.at(&within(dirs.len(), PARENT), "link"));
            }
            known.push(identity);
            next_one = next.open_parent()?;
            dirs.push(next);
        }
        Ok(Self { dirs })
    }

    /// Returns the folder of parent number `level`.
    pub(super) fn dir(&self, level: usize) -> &Dir {
        &self.dirs[level]
    }
}

/// Returns the words for a file of parent number `level` (0 = the nearest).
pub(super) fn within(level: usize, name: &str) -> String {
    match level {
        0..4 => format!("{}{name}", "parent/".repeat(level + 1)),
        _ => format!("parent number {}: {name}", level + 1),
    }
}

/// A piece of a page file of a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Which parent.
    pub(super) level: usize,
    /// Which page file of it.
    pub(super) pages_id: u32,
    /// Where in the file, and where the page belongs.
    pub(super) offset: u64,
    pub(super) start: u64,
    pub(super) pages: u64,
}

/// What parents have for one pagemap.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What the set needs of them.
    pub(super) needed: Vec<Extent>,
    /// What they hold that the set does not need.
    pub(super) superseded: Vec<Extent>,
    /// Least lengths of the page files that are needed.
    lens: BTreeMap<(usize, u32), u64>,
}

impl Chain {
    /// Finds where the pages of `runs`, a pagemap of the set, lie that are in a parent.
    pub(super) fn find(&self, name: &str, runs: &[PageRun]) -> Result<Found> {
        let mut left: Vec<[u64; 2]> = in_parent(runs).collect();
        let mut found = Found::default();
        for (level, dir) in self.dirs.iter().enumerate() {
            let map = pages::read(dir, name).map_err(|error| error.in_parent(level))?;
            let Some(map) = map else {
                if left.is_empty() {
                    continue;
                }
                let file = within(level, name);
                return Err(Error::Missing { file });
            };
            let mut next = Vec::new();
            let mut at = 0;
            for run in &map.runs {
                let end = run.start + run.pages * PAGE_SIZE;
                let mut from = run.start;
                while let Some(&[start, stop]) = left.get(at).filter(|range| range[0] < end) {
                    if start < run.start {
                        return Err(lacking(level, name, start));
                    }
                    found.add_superseded(level, run, from, start);
                    let to = stop.min(end);
                    match run.at {
                        PageLocation::Parent => next.push([start, to]),
                        PageLocation::ParentTask | PageLocation::Source => {
                            return Err(lacking(level, name, start));
                        }
                        PageLocation::Here { pages_id, .. } => {
                            found.needed.extend(extent(level, run, start, to));
                            found.lens.insert((level, pages_id), map.lens[&pages_id]);
                        }
                    }
                    from = to;
                    if to < stop {
                        left[at][0] = to;
                        break;
                    }
                    at += 1;
                }
                found.add_superseded(level, run, from, end);
            }
            if let Some(&[start, _]) = left.get(at) {
                return Err(lacking(level, name, start));
            }
            left = next;
        }
        match left.first() {
            None => Ok(found),
            Some(range) => {
                let what = format!(
                    "page {:#x} is said to be in a parent image set, and there is none",
                    range[0]
                );
                Err(Wrong::new(what).at(name, "run"))
            }
        }
    }
}

fn in_parent(runs: &[PageRun]) -> impl Iterator<Item = [u64; 2]> + '_ {
    let runs = runs.iter().filter(|run| run.at == PageLocation::Parent);
    runs.map(|run| [run.start, run.start + run.pages * PAGE_SIZE])
}

fn lacking(level: usize, name: &str, page: u64) -> Error {
    let what = format!("it has not got page {page:#x}, which a later set says it has");
    Wrong::new(what).at(&within(level, name), "runs")
}

/// Returns the part of a run whose bytes are there.
fn extent(level: usize, run: &PageRun, start: u64, end: u64) -> Option<Extent> {
    let PageLocation::Here { pages_id, offset } = run.at else {
        return None;
    };
    (start < end).then(|| Extent {
        level,
        pages_id,
        offset: offset + (start - run.start),
        start,
        pages: (end - start) / PAGE_SIZE,
    })
}

impl Found {
    fn add_superseded(&mut self, level: usize, run: &PageRun, start: u64, end: u64) {
        self.superseded.extend(extent(level, run, start, end));
    }
}

/// Turns all runs that lie in parents into runs that say where: page files of parents get IDs that the set does not use.
pub(super) fn resolve(
    dir: &Dir,
    snapshot: &mut Snapshot,
    files: &mut BTreeMap<u32, File>,
) -> Result<()> {
    let spaces = snapshot.tasks.iter_mut();
    let spaces = spaces.filter_map(|task| {
        let name = format!("pagemap-{}.img", task.pid);
        Some((name, &mut task.mm.as_mut()?.pages))
    });
    let shared = snapshot.shared.iter_mut();
    let shared = shared.map(|memory| {
        let name = format!("pagemap-shmem-{}.img", memory.id);
        (name, &mut memory.pages)
    });
    let all = spaces.chain(shared);
    let mut all: Vec<_> = all
        .filter(|(_, runs)| in_parent(runs).next().is_some())
        .collect();
    if all.is_empty() {
        return Ok(());
    }
    let chain = Chain::open(dir)?;
    let mut numbers = Numbers::default();
    for (name, runs) in &mut all {
        let found = chain.find(name, runs)?;
        runs.retain(|run| run.at != PageLocation::Parent);
        for extent in &found.needed {
            let len = found.lens[&(extent.level, extent.pages_id)];
            let pages_id = numbers.of(&chain, extent, len, files)?;
            let offset = extent.offset;
            runs.push(PageRun {
                start: extent.start,
                pages: extent.pages,
                at: PageLocation::Here { pages_id, offset },
            });
        }
        runs.sort_by_key(|run| run.start);
    }
    snapshot.parent_files = numbers.names;
    Ok(())
}

/// Numbers that page files of parents go by.
#[derive(Debug, Default)]
struct Numbers {
    known: BTreeMap<(usize, u32), u32>,
    names: BTreeMap<u32, String>,
    next: u32,
}

impl Numbers {
    fn of(
        &mut self,
        chain: &Chain,
        extent: &Extent,
        len: u64,
        files: &mut BTreeMap<u32, File>,
    ) -> Result<u32> {
        let key = (extent.level, extent.pages_id);
        if let Some(&number) = self.known.get(&key) {
            return Ok(number);
        }
        let name = format!("pages-{}.img", extent.pages_id);
        let words = within(extent.level, &name);
        let opened = chain.dir(extent.level).open_file(&name);
        let file = opened.map_err(|error| error.in_parent(extent.level))?;
        let file = file.ok_or_else(|| Error::Missing {
            file: words.clone(),
        })?;
        let meta = file.metadata();
        let has = meta
            .map_err(|source| failed("examine", &words, source))?
            .len();
        if has < len {
            let wrong = Wrong::new(format!(
                "it holds {has} bytes of the {len} that its runs name"
            ));
            return Err(wrong.at(&words, "pages"));
        }
        while files.contains_key(&self.next) {
            self.next += 1;
        }
        files.insert(self.next, file);
        self.names.insert(self.next, words);
        self.known.insert(key, self.next);
        Ok(self.next)
    }
}

/// The image set before the one that is being written: the parent that it will have.
#[derive(Debug)]
pub struct Previous {
    dir: Dir,
    /// Where the link of the new set will lead.
    pub link: PathBuf,
    /// Which dump wrote it.
    pub run_id: Vec<u8>,
}

impl Previous {
    /// Opens the set at `link`, which counts from the images folder at `dir`.
    ///
    /// # Errors
    /// There is no finished set, or it is the folder itself, or one whose parents lead to it.
    pub fn open(dir: &Path, link: &Path) -> Result<Self> {
        let own = Dir::open(dir)?.identity()?;
        let path = dir.join(link);
        let folder = Dir::open(&path)?;
        let inventory = read_optional::<pb::InventoryEntry>(&folder, INVENTORY, kinds::INVENTORY)?;
        let Some(inventory) = inventory else {
            return Err(Error::NoInventory { path });
        };
        check_version(&inventory)?;
        if is_packed(&inventory) {
            return Err(Error::PackedParent { path });
        }
        let parents = Chain::open(&folder)?;
        for parent in std::iter::once(&folder).chain(&parents.dirs) {
            if parent.identity()? == own {
                return Err(Error::OwnParent { path });
            }
        }
        Ok(Self {
            dir: folder,
            link: link.into(),
            run_id: inventory.dump_criu_run_id.unwrap_or_default(),
        })
    }

    /// Returns which pages of a process the set has, by itself or in its parents; none where it has no such process.
    ///
    /// # Errors
    /// The pagemap is damaged.
    pub fn pages_of(&self, pid: i32) -> Result<Vec<PageRun>> {
        // Of what went to a page server there is a note, and perhaps the server's own pagemap, in the same folder.
        let map = match pages::read(&self.dir, &note_name(pid))? {
            None => pages::read(&self.dir, &format!("pagemap-{pid}.img"))?,
            noted => noted,
        };
        let mut runs = map.map(|map| map.runs).unwrap_or_default();
        let is_had = |at| !matches!(at, PageLocation::ParentTask | PageLocation::Source);
        runs.retain(|run| is_had(run.at));
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const NAME: &str = "pagemap-7.img";

    fn run(start: u64, pages: u64, at: PageLocation) -> PageRun {
        PageRun { start, pages, at }
    }

    fn here(offset: u64) -> PageLocation {
        PageLocation::Here {
            pages_id: 1,
            offset,
        }
    }

    /// Makes set number `number` below `dir`, with the set before it as its parent.
    fn make(dir: &Path, number: usize, runs: &[PageRun]) -> PathBuf {
        let own = dir.join(number.to_string());
        std::fs::create_dir(&own).expect("a folder");
        if number > 0 {
            symlink(format!("../{}", number - 1), own.join(PARENT)).expect("a link");
        }
        let map = pages::encode(runs, 1, &[]).expect("encoded");
        std::fs::write(own.join(NAME), map.bytes).expect("written");
        let stored = runs.iter().filter(|run| run.at != PageLocation::Parent);
        let len: u64 = stored.map(|run| run.pages * PAGE_SIZE).sum();
        std::fs::write(own.join("pages-1.img"), vec![number as u8; len as usize]).expect("written");
        own
    }

    fn found(dir: &Path, runs: &[PageRun]) -> Result<Found> {
        let dir = Dir::open(dir)?;
        Chain::open(&dir)?.find(NAME, runs)
    }

    #[test]
    fn a_page_is_found_where_it_lies() {
        let dir = tempfile::tempdir().expect("a folder");
        make(dir.path(), 0, &[run(0x1000, 8, here(0))]);
        let middle = [
            run(0x1000, 2, PageLocation::Parent),
            run(0x3000, 1, here(0)),
            run(0x4000, 4, PageLocation::Parent),
        ];
        make(dir.path(), 1, &middle);
        let last = [
            run(0x2000, 3, PageLocation::Parent),
            run(0x6000, 1, here(0)),
            run(0x7000, 1, PageLocation::Parent),
        ];
        let own = make(dir.path(), 2, &last);
        let found = found(&own, &last).expect("found");
        let needed: Vec<_> = found
            .needed
            .iter()
            .map(|extent| (extent.level, extent.start, extent.pages, extent.offset))
            .collect();
        let wanted = [
            (0, 0x3000, 1, 0),
            (1, 0x2000, 1, 0x1000),
            (1, 0x4000, 1, 0x3000),
            (1, 0x7000, 1, 0x6000),
        ];
        assert_eq!(needed, wanted);
        let superseded: Vec<_> = found
            .superseded
            .iter()
            .map(|extent| (extent.level, extent.start, extent.pages))
            .collect();
        assert_eq!(
            superseded,
            [
                (1, 0x1000, 1),
                (1, 0x3000, 1),
                (1, 0x5000, 2),
                (1, 0x8000, 1)
            ]
        );
    }

    #[test]
    fn a_page_that_no_parent_has_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        make(
            dir.path(),
            0,
            &[run(0x1000, 2, here(0)), run(0x4000, 1, here(0x2000))],
        );
        for start in [0x3000, 0x5000, 0] {
            let last = [run(start, 2, PageLocation::Parent)];
            let own = make(dir.path(), 1, &last);
            let error = found(&own, &last).expect_err("a gap").to_string();
            assert!(error.contains("has not got page"), "{error}");
            std::fs::remove_dir_all(own).expect("removed");
        }
        let alone = dir.path().join("0");
        let error = found(&alone, &[run(0, 1, PageLocation::Parent)]).expect_err("no parent");
        assert!(error.to_string().contains("there is none"), "{error}");
    }

    #[test]
    fn a_chain_that_leads_back_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let own = make(dir.path(), 0, &[]);
        symlink("../1", own.join(PARENT)).expect("a link");
        make(dir.path(), 1, &[]);
        let error = found(&own, &[]).expect_err("a loop");
        assert!(error.to_string().contains("leads back"), "{error}");
    }

    #[test]
    fn a_long_chain_is_no_trouble() {
        let dir = tempfile::tempdir().expect("a folder");
        make(dir.path(), 0, &[run(0x1000, 8, here(0))]);
        let last = [run(0x1000, 8, PageLocation::Parent)];
        let owns: Vec<PathBuf> = (1..300)
            .map(|number| make(dir.path(), number, &last))
            .collect();
        let found = found(&owns[owns.len() - 1], &last).expect("found");
        assert_eq!(found.needed.len(), 1);
        assert_eq!(found.needed[0].level, 298);
    }
}
