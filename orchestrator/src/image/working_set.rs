//! The working set of restores that map their memory: which pages of each page file were used. A file `working-set-ID.img` beside
//! `pages-ID.img`, in the format of a pagemap whose addresses are offsets into the page file. It only says what to have ready:
//! one that is of an older set, or lost, harms nobody.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use proto::frame::Writer;
use proto::{kinds, pb};

use super::dir::{Dir, failed};
use super::error::Result;
use super::pages;
use crate::snapshot::PAGE_SIZE;

/// Entry of a pagemap whose bytes are elsewhere.
const ELSEWHERE: u32 = 1;

fn name(pages_id: u32) -> String {
    format!("working-set-{pages_id}.img")
}

/// Writes ranges of offsets into page file `pages_id`, which ascend, into the folder of the set.
///
/// # Errors
/// The file cannot be written.
pub fn write_working_set(dir: &Path, pages_id: u32, ranges: &[[u64; 2]]) -> Result<()> {
    let mut file = Writer::new(kinds::PAGEMAP);
    file.record(&pb::PagemapHead { pages_id });
    for [start, end] in ranges {
        let pages = (end - start) / PAGE_SIZE;
        file.record(&pb::PagemapEntry {
            vaddr: *start,
            compat_nr_pages: pages as u32,
            nr_pages: Some(pages),
            flags: Some(ELSEWHERE),
            ..pb::PagemapEntry::default()
        });
    }
    let name = name(pages_id);
    let mut to: File = Dir::open(dir)?.create(&name)?;
    to.write_all(&file.done().bytes)
        .map_err(|source| failed("write", &name, source))
}

/// Returns what was recorded of page file `pages_id`; nothing where nothing was.
///
/// # Errors
/// It is damaged.
pub fn read_working_set(dir: &Path, pages_id: u32) -> Result<Vec<[u64; 2]>> {
    let map = pages::read(&Dir::open(dir)?, &name(pages_id))?;
    let runs = map.map(|map| map.runs).unwrap_or_default();
    let range = runs
        .iter()
        .map(|run| [run.start, run.start + run.pages * PAGE_SIZE]);
    Ok(range.collect())
}
