//! Taking out of page files what is not needed any more, by holes: of parents, what a later set supersedes; of a set that was
//! restored, what was read.
//!
//! A hole is made only for what the set at hand does not read, and all of it is found before the first is made. So the set can
//! be restored whenever this is interrupted, and going on later does the rest. What is lost is the parent as a set of its own, and
//! for other sets that have it as their parent: that is what is asked for.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;

use super::dir::Dir;
use super::error::{Error, Result};
use super::pages;
use super::parents::{Chain, Extent, within};
use super::read::ImageSet;
use super::write::INVENTORY;
use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun};
use crate::sys::file::punch_hole;

/// Makes holes in the page files of all parents of the set at `dir` where that needs nothing, and returns how many pages they
/// are.
///
/// # Errors
/// There is no finished set, it or a parent is damaged (nothing was changed then), or holes cannot be made.
pub fn dedup(dir: &Path) -> Result<u64> {
    let folder = Dir::open(dir)?;
    if folder.open_file(INVENTORY)?.is_none() {
        return Err(Error::NoInventory { path: dir.into() });
    }
    take_out(&folder, &Chain::open(&folder)?)
}

/// Takes out of parents what the pagemaps in a folder do not need of them.
pub(super) fn take_out(folder: &Dir, chain: &Chain) -> Result<u64> {
    let mut superseded = Vec::new();
    for name in folder.names()?.iter().filter(|name| is_pagemap(name)) {
        if let Some(map) = pages::read(folder, name)? {
            superseded.extend(chain.find(name, &map.runs)?.superseded);
        }
    }
    // One page file after the other, each opened once.
    superseded.sort_by_key(|extent: &Extent| (extent.level, extent.pages_id, extent.offset));
    let mut open: Option<((usize, u32), File)> = None;
    let mut count = 0;
    for extent in &superseded {
        let key = (extent.level, extent.pages_id);
        let name = format!("pages-{}.img", extent.pages_id);
        if open.as_ref().is_none_or(|(known, _)| *known != key) {
            let opened = chain.dir(extent.level).open_to_change(&name);
            let opened = opened.map_err(|error| error.in_parent(extent.level))?;
            let file = opened.ok_or_else(|| Error::Missing {
                file: within(extent.level, &name),
            })?;
            open = Some((key, file));
        }
        if let Some((_, file)) = &open {
            punch_hole(file, extent.offset, extent.pages * PAGE_SIZE)
                .map_err(|error| not_punched(&within(extent.level, &name), error))?;
        }
        count += extent.pages;
    }
    Ok(count)
}

fn is_pagemap(name: &str) -> bool {
    name.starts_with("pagemap-") && name.ends_with(".img")
}

fn not_punched(file: &str, error: crate::sys::Error) -> Error {
    Error::Io {
        verb: "make a hole in",
        file: file.into(),
        source: error.errno.into(),
    }
}

/// Makes holes in all page files of a set, its own and its parents', where the pages lie that a restore of it has read.
///
/// # Errors
/// Holes cannot be made.
pub fn punch(set: &ImageSet) -> Result<()> {
    let spaces = set
        .snapshot
        .tasks
        .iter()
        .filter_map(|task| task.mm.as_ref());
    let private = spaces.flat_map(|mm| &mm.pages);
    let shared = set.snapshot.shared.iter().flat_map(|memory| &memory.pages);
    let mut runs: Vec<&PageRun> = private.chain(shared).collect();
    let place = |run: &PageRun| match run.at {
        PageLocation::Here { pages_id, offset } => Some((pages_id, offset)),
        _ => None,
    };
    runs.sort_by_key(|run| place(run));
    let mut open: Option<(u32, File)> = None;
    for run in runs {
        let Some((id, offset)) = place(run) else {
            continue;
        };
        let name = match set.snapshot.parent_files.get(&id) {
            Some(words) => words.clone(),
            None => format!("pages-{id}.img"),
        };
        if open.as_ref().is_none_or(|(known, _)| *known != id) {
            open = set
                .pages
                .get(&id)
                .map(|file| reopen(file).map(|file| (id, file)))
                .transpose()
                .map_err(|source| Error::Io {
                    verb: "open to change",
                    file: name.clone(),
                    source,
                })?;
        }
        if let Some((_, file)) = &open {
            punch_hole(file, offset, run.pages * PAGE_SIZE)
                .map_err(|error| not_punched(&name, error))?;
        }
    }
    Ok(())
}

/// Opens a file again, to change it: the one that was read, whatever has its name now.
fn reopen(file: &File) -> std::io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().write(true).open(path)
}
