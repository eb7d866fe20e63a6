//! Between page runs and their pagemap: which pages of an address space or a shared segment have their bytes where.

use proto::frame::{Encoded, Writer};
use proto::{kinds, pb};

use std::collections::{BTreeMap, BTreeSet};

use super::codec::Decoder;
use super::dir::Dir;
use super::error::{Checked, Result, Wrong, wrong};
use super::limits::MAX_PAGES;
use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun, Vma};

/// `pagemap_entry.flags`: the bytes are in the parent image set.
const PARENT: u32 = 1;
/// Ours: the bytes are those of the parent task at the same addresses. A set that has such pages is of a version that the
/// peer refuses.
const PARENT_TASK: u32 = 1 << 16;
/// The pages may be filled lazily.
const LAZY: u32 = 2;
/// The bytes are here.
const PRESENT: u32 = 4;

/// Returns the files `pages-ID.img` that `runs` lie in.
pub(super) fn pages_ids(runs: &[PageRun]) -> BTreeSet<u32> {
    let ids = runs.iter().filter_map(|run| match run.at {
        PageLocation::Here { pages_id, .. } => Some(pages_id),
        PageLocation::Parent | PageLocation::ParentTask | PageLocation::Source => None,
    });
    ids.collect()
}

/// Encodes the pagemap of `runs`, whose bytes lie one after the other in `pages-ID.img`, or in other page files, which a set
/// that is for the peer has not; `vmas` are the areas they are in, none for a shared segment.
pub(super) fn encode(runs: &[PageRun], pages_id: u32, vmas: &[Vma]) -> Checked<Encoded> {
    let mut file = Writer::new(kinds::PAGEMAP);
    file.record(&pb::PagemapHead { pages_id });
    let mut at = 0;
    let mut stored: BTreeMap<u32, u64> = BTreeMap::new();
    // The peer asks the source for all that is lazy, where it asks at all.
    let is_left = runs.iter().any(|run| run.at == PageLocation::Source);
    for run in runs {
        check_order(run, at)?;
        at = run.start + run.pages * PAGE_SIZE;
        let mut ext = None;
        let flags = match run.at {
            PageLocation::Parent => PARENT,
            PageLocation::ParentTask => PARENT_TASK,
            PageLocation::Source => LAZY,
            PageLocation::Here {
                pages_id: id,
                offset,
            } => {
                let next = stored.entry(id).or_default();
                if offset != *next {
                    return wrong!(
                        "run {:#x} lies in pages-{id}.img at {offset:#x}, not at {next:#x}",
                        run.start,
                    );
                }
                *next += run.pages * PAGE_SIZE;
                ext = (id != pages_id).then_some(pb::ExtPagemap { pages_id: Some(id) });
                PRESENT
            }
        };
        if run.at == PageLocation::Source && parts(run, vmas).iter().any(|part| !part.is_lazy) {
            return wrong!("run {:#x} cannot be left to its source", run.start);
        }
        for part in parts(run, vmas) {
            file.record(&pb::PagemapEntry {
                vaddr: part.start,
                compat_nr_pages: 0,
                in_parent: None,
                flags: Some(match part.is_lazy && !is_left {
                    true => flags | LAZY,
                    false => flags,
                }),
                nr_pages: Some(part.pages),
                ext,
            });
        }
    }
    Ok(file.done())
}

/// Encodes the pagemap of `runs` that came from elsewhere, each with whether its pages may be filled lazily.
pub(super) fn encode_received(runs: &[(PageRun, bool)], pages_id: u32) -> Checked<Encoded> {
    let mut file = Writer::new(kinds::PAGEMAP);
    file.record(&pb::PagemapHead { pages_id });
    let mut at = 0;
    for (run, lazy) in runs {
        check_order(run, at)?;
        at = run.start + run.pages * PAGE_SIZE;
        let flags = match (run.at, lazy) {
            (PageLocation::Here { .. }, true) => PRESENT | LAZY,
            (PageLocation::Here { .. }, false) => PRESENT,
            (PageLocation::ParentTask, _) => PARENT_TASK,
            _ => PARENT,
        };
        file.record(&pb::PagemapEntry {
            vaddr: run.start,
            flags: Some(flags),
            nr_pages: Some(run.pages),
            ..pb::PagemapEntry::default()
        });
    }
    Ok(file.done())
}

/// Returns the ranges, ascending, whose pages may be filled lazily.
pub fn lazy_ranges(vmas: &[Vma]) -> Vec<[u64; 2]> {
    let lazy = vmas.iter().filter(|vma| vma.may_be_lazy());
    lazy.map(|vma| [vma.start, vma.end]).collect()
}

fn check_order(run: &PageRun, at: u64) -> Checked<()> {
    let is_long = run.pages == 0 || run.pages > MAX_PAGES;
    let end = run.start.checked_add(run.pages.wrapping_mul(PAGE_SIZE));
    if is_long || !run.start.is_multiple_of(PAGE_SIZE) || end.is_none() {
        return wrong!("run of {} pages at {:#x} is none", run.pages, run.start);
    }
    if run.start < at {
        return wrong!(
            "run {:#x} overlaps the run before it, or is out of order",
            run.start
        );
    }
    Ok(())
}

/// A part of a run whose pages are all lazy or all not.
struct Part {
    start: u64,
    pages: u64,
    is_lazy: bool,
}

/// Splits a run where laziness changes: the flag is the run's.
fn parts(run: &PageRun, vmas: &[Vma]) -> Vec<Part> {
    let end = run.start + run.pages * PAGE_SIZE;
    let first = vmas.partition_point(|vma| vma.end <= run.start);
    let mut parts: Vec<Part> = Vec::new();
    let mut at = run.start;
    for vma in vmas[first..].iter().take_while(|vma| vma.start < end) {
        let until = vma.end.min(end);
        let pages = (until - at) / PAGE_SIZE;
        match parts.last_mut() {
            Some(last) if last.is_lazy == vma.may_be_lazy() => last.pages += pages,
            _ => parts.push(Part {
                start: at,
                pages,
                is_lazy: vma.may_be_lazy(),
            }),
        }
        at = until;
    }
    if at < end {
        parts.push(Part {
            start: at,
            pages: (end - at) / PAGE_SIZE,
            is_lazy: false,
        });
    }
    parts
}

/// A pagemap as read.
pub(super) struct Runs {
    /// The file `pages-ID.img` that holds the bytes.
    pub(super) pages_id: u32,
    /// The runs, ascending.
    pub(super) runs: Vec<PageRun>,
    /// Bytes that each file must have.
    pub(super) lens: BTreeMap<u32, u64>,
}

/// Reads the pagemap `name`; `None` where it does not exist.
pub(super) fn read(dir: &Dir, name: &str) -> Result<Option<Runs>> {
    let Some(mut file) = Decoder::open(dir, name, kinds::PAGEMAP)? else {
        return Ok(None);
    };
    let head: pb::PagemapHead = file.first()?;
    let mut map = Runs {
        pages_id: head.pages_id,
        runs: Vec::new(),
        lens: BTreeMap::from([(head.pages_id, 0)]),
    };
    let mut at = 0;
    while let Some(entry) = file.record::<pb::PagemapEntry>()? {
        let run = run(&entry, &map).and_then(|run| check_order(&run, at).map(|()| run));
        let run = run.map_err(|wrong| wrong.at(file.name(), format!("run {:#x}", entry.vaddr)))?;
        at = run.start + run.pages * PAGE_SIZE;
        if let PageLocation::Here { pages_id, .. } = run.at {
            *map.lens.entry(pages_id).or_default() += run.pages * PAGE_SIZE;
        }
        push(&mut map.runs, run);
    }
    Ok(Some(map))
}

fn run(entry: &pb::PagemapEntry, map: &Runs) -> Checked<PageRun> {
    let old = if entry.in_parent == Some(true) {
        PARENT
    } else {
        PRESENT
    };
    let flags = entry.flags.unwrap_or(old);
    let named = entry.ext.and_then(|ext| ext.pages_id);
    let pages_id = named.unwrap_or(map.pages_id);
    let offset = map.lens.get(&pages_id).copied().unwrap_or_default();
    let at = match flags & !LAZY {
        PRESENT => PageLocation::Here { pages_id, offset },
        PARENT => PageLocation::Parent,
        PARENT_TASK => PageLocation::ParentTask,
        0 if flags == LAZY => PageLocation::Source,
        _ => return wrong!("flags {flags:#x} are not known"),
    };
    let pages = entry.nr_pages.unwrap_or(u64::from(entry.compat_nr_pages));
    if offset
        .checked_add(pages.saturating_mul(PAGE_SIZE))
        .is_none_or(|len| len > i64::MAX as u64)
    {
        return Err(Wrong::new("its pages are more than a file can hold"));
    }
    Ok(PageRun {
        start: entry.vaddr,
        pages,
        at,
    })
}

/// Appends a run, joined to the last where the pages and their bytes follow on.
fn push(runs: &mut Vec<PageRun>, run: PageRun) {
    if let Some(last) = runs.last_mut() {
        let len = last.pages * PAGE_SIZE;
        let follows = match (last.at, run.at) {
            (
                PageLocation::Here {
                    pages_id: before_id,
                    offset: before,
                },
                PageLocation::Here { pages_id, offset },
            ) => (before_id, before + len) == (pages_id, offset),
            (before, after) => before == after,
        };
        if last.start + len == run.start && follows {
            last.pages += run.pages;
            return;
        }
    }
    runs.push(run);
}
