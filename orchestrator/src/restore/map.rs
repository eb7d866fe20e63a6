//! Warm starts: memory mapped from the page files of a set ([`mapped`]), and the record of what of it a run uses.

use super::error::{Error, Result};
use super::run::descendants;
use super::{Mapped, Refusal};
use crate::image::{self, ImageSet};
use crate::kernel;
use crate::memory::scan;
use crate::plan::mapped::{self, WorkingSet};
use crate::procfs::smaps;
use crate::snapshot::{PAGE_SIZE, PageRun, Snapshot};
use crate::sys::{self, Pid};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;

/// Ranges of the working set that are so near are one, in bytes: the kernel maps that much around a fault.
const NEAR: u64 = 64 << 10;

/// Has memory be mapped from the page files of a set, and the kernel begin to read what was used before.
pub fn map(images: &mut ImageSet, dir: &Path) -> Result<()> {
    if images.is_packed {
        return Err(Error::Refused(vec![Refusal {
            task: images.snapshot.root().map_or(0, |task| task.pid),
            object: "memory".into(),
            reason: "its page files are packed (--compress, --checksum), and cannot be mapped"
                .into(),
            remedy: "restore without --map-images, or make a set of plain pages first: orchestrator convert --native"
                .into(),
        }]));
    }
    image::resolve_inherited(&mut images.snapshot)?;
    let mut used = WorkingSet::new();
    for (&pages_id, file) in &images.pages {
        let ranges = image::read_working_set(dir, pages_id).unwrap_or_else(|error| {
            tracing::warn!("what was used before is not known: {error}");
            Vec::new()
        });
        for [start, end] in &ranges {
            // It is only sooner by that.
            let _ = sys::file::advise_will_need(file, *start, end - start);
        }
        used.insert(pages_id, ranges);
    }
    mapped::split(&mut images.snapshot, kernel::most_areas()?, &used);
    Ok(())
}

/// Returns what of a snapshot is mapped.
pub fn mapped(snapshot: &Snapshot) -> Mapped {
    let spaces = || snapshot.tasks.iter().filter_map(|task| task.mm.as_ref());
    let runs = || spaces().flat_map(|mm| &mm.mapped);
    let wanted = spaces().flat_map(|mm| &mm.wanted);
    Mapped {
        areas: runs().count() as u64,
        pages: runs().map(|run: &PageRun| run.pages).sum(),
        prefetched: wanted.map(|[start, end]| (end - start) / PAGE_SIZE).sum(),
    }
}

/// Records which pages of the set in `dir` a restored tree has used; returns how many.
///
/// # Errors
/// There is no such tree or set, or the record cannot be written.
pub fn record_working_set(root: Pid, dir: &Path) -> Result<u64> {
    let images = image::read(dir)?;
    let mut ids = BTreeMap::new();
    for (&pages_id, file) in &images.pages {
        let stat =
            sys::file::statx(file).map_err(|source| failed("examine a page file", source))?;
        ids.insert((stat.dev, stat.ino), pages_id);
    }
    let mut used: BTreeMap<u32, Vec<[u64; 2]>> = BTreeMap::new();
    for pid in std::iter::once(root).chain(descendants(root)) {
        for (pages_id, range) in used_by(pid, &ids)? {
            used.entry(pages_id).or_default().push(range);
        }
    }
    let mut pages = 0;
    for &pages_id in images.pages.keys() {
        let ranges = near(used.remove(&pages_id).unwrap_or_default());
        pages += ranges
            .iter()
            .map(|[start, end]| (end - start) / PAGE_SIZE)
            .sum::<u64>();
        image::write_working_set(dir, pages_id, &ranges)?;
    }
    Ok(pages)
}

fn failed(doing: &'static str, source: sys::Error) -> Error {
    Error::Call { doing, source }
}

/// Page files by their devices and inodes.
type Files = BTreeMap<((u32, u32), u64), u32>;

/// Returns the offsets into page files that a process has pages of, written or not.
fn used_by(pid: Pid, ids: &Files) -> Result<Vec<(u32, [u64; 2])>> {
    let areas = smaps::read_maps(pid)?;
    let mut mapped = Vec::new();
    for area in areas
        .vmas
        .iter()
        .filter(|area| area.inode != 0 && !area.shared)
    {
        let path = areas.path(area);
        let is_page_file = path.ends_with(b".img");
        let stat = CString::new(path.into_owned())
            .ok()
            .filter(|_| is_page_file);
        let stat = stat.and_then(|path| sys::file::statx_path(&path).ok());
        if let Some(&id) = stat.and_then(|stat| ids.get(&(stat.dev, stat.ino))) {
            mapped.push((id, area));
        }
    }
    let ranges: Vec<[u64; 2]> = mapped
        .iter()
        .map(|(_, area)| [area.start, area.end])
        .collect();
    let pages = scan::pages_in(pid, &ranges)?;
    let mut used = Vec::new();
    for (id, area) in mapped {
        let first = pages.partition_point(|run| run.end <= area.start);
        for run in pages[first..].iter().take_while(|run| run.start < area.end) {
            let offset = |at: u64| area.offset + (at.clamp(area.start, area.end) - area.start);
            used.push((id, [offset(run.start), offset(run.end)]));
        }
    }
    Ok(used)
}

/// Returns ranges in order, those that are near each other as one.
fn near(mut ranges: Vec<[u64; 2]>) -> Vec<[u64; 2]> {
    ranges.sort_unstable();
    let mut all: Vec<[u64; 2]> = Vec::new();
    for [start, end] in ranges {
        match all.last_mut() {
            Some(last) if start <= last[1] + NEAR => last[1] = last[1].max(end),
            _ => all.push([start, end]),
        }
    }
    all
}
