//! What each page of a process is: one `PAGEMAP_SCAN` over the whole range where the kernel has it (6.7), else the words of
//! `/proc/PID/pagemap`, area by area.

use super::Error;
use super::select::Pages;
use crate::procfs::pagemap::{PageEntry, Pagemap};
use crate::snapshot::{PAGE_SIZE, Vma, VmaKind};
use crate::sys::pagemap_scan::{PageIs, PageRegion, Query, scan};
use crate::sys::{Pid, RemoteAddr};
use std::fs::File;

/// Runs taken at one call.
const REGIONS: usize = 8192;
/// Words of pagemap read at a time.
const WORDS: usize = 8192;

/// Returns what the pages of these areas are, by address; pages without content are left out.
///
/// # Errors
/// The page map cannot be read.
pub fn pages(pid: Pid, vmas: &[Vma]) -> Result<Vec<Pages>, Error> {
    let ranges = ranges(vmas);
    match scan_ranges(pid, &ranges) {
        Err(Error::Scan { source, .. })
            if matches!(source.errno as i32, libc::ENOTTY | libc::EINVAL) =>
        {
            read_ranges(pid, &ranges)
        }
        other => other,
    }
}

/// Areas whose pages matter, neighbours taken together.
fn ranges(vmas: &[Vma]) -> Vec<[u64; 2]> {
    let mut ranges: Vec<[u64; 2]> = Vec::new();
    for vma in vmas
        .iter()
        .filter(|vma| !matches!(vma.kind, VmaKind::Vvar | VmaKind::Vsyscall))
    {
        match ranges.last_mut() {
            Some(last) if last[1] == vma.start => last[1] = vma.end,
            _ => ranges.push([vma.start, vma.end]),
        }
    }
    ranges
}

fn scan_ranges(pid: Pid, ranges: &[[u64; 2]]) -> Result<Vec<Pages>, Error> {
    let failed = |source| Error::Scan { pid: pid.0, source };
    let pagemap = File::open(format!("/proc/{}/pagemap", pid.0)).map_err(|source| Error::Read {
        pid: pid.0,
        start: 0,
        pages: 0,
        source,
    })?;
    let mut tell =
        PageIs::PRESENT | PageIs::SWAPPED | PageIs::FILE | PageIs::PFNZERO | PageIs::GUARD;
    let mut regions = Vec::with_capacity(REGIONS);
    let mut pages = Vec::new();
    // One walk over everything: holes between areas cost nothing.
    let Some(([first, _], [_, end])) = ranges.first().zip(ranges.last()) else {
        return Ok(pages);
    };
    let mut at = RemoteAddr(*first);
    while at.0 < *end {
        let query = Query {
            any_of: PageIs::PRESENT | PageIs::SWAPPED,
            tell,
            ..Query::default()
        };
        match scan(&pagemap, at..RemoteAddr(*end), &query, &mut regions) {
            Ok(next) => at = next,
            // Kernels before 6.15 know no guard regions.
            Err(error) if error.errno as i32 == libc::EINVAL && tell.contains(PageIs::GUARD) => {
                tell.remove(PageIs::GUARD);
                continue;
            }
            Err(error) => return Err(failed(error)),
        }
        extend(&mut pages, &regions);
    }
    Ok(pages)
}

/// Adds what a call found. A call that ends early (its buffer of 512 runs filled up at the wrong moment) may have told a run
/// that the next call, which goes on from where the kernel says, tells again: seen on 6.18 with 4,000 runs.
fn extend(pages: &mut Vec<Pages>, regions: &[PageRegion]) {
    for region in regions {
        let mut run = of_region(region);
        run.start = pages.last().map_or(0, |last| last.end).max(run.start);
        if run.start < run.end {
            pages.push(run);
        }
    }
}

fn of_region(region: &PageRegion) -> Pages {
    let is = region.categories;
    Pages {
        start: region.start,
        end: region.end,
        present: is.contains(PageIs::PRESENT),
        swapped: is.contains(PageIs::SWAPPED),
        file: is.contains(PageIs::FILE),
        zero: is.contains(PageIs::PFNZERO),
        guard: is.contains(PageIs::GUARD),
    }
}

fn read_ranges(pid: Pid, ranges: &[[u64; 2]]) -> Result<Vec<Pages>, Error> {
    let failed = |error: crate::procfs::Error| Error::Read {
        pid: pid.0,
        start: 0,
        pages: 0,
        source: std::io::Error::other(error),
    };
    let pagemap = Pagemap::open(pid).map_err(failed)?;
    let mut words = Vec::new();
    let mut pages: Vec<Pages> = Vec::new();
    for &[start, end] in ranges {
        let mut at = start;
        while at < end {
            let count = (((end - at) / PAGE_SIZE) as usize).min(WORDS);
            pagemap
                .read(RemoteAddr(at), count, &mut words)
                .map_err(failed)?;
            for (index, &word) in words.iter().enumerate() {
                push_word(&mut pages, at + index as u64 * PAGE_SIZE, PageEntry(word));
            }
            at += count as u64 * PAGE_SIZE;
        }
    }
    Ok(pages)
}

fn push_word(pages: &mut Vec<Pages>, at: u64, entry: PageEntry) {
    let (present, swapped, guard) = (entry.is_present(), entry.is_swapped(), entry.is_guard());
    if !present && !swapped && !guard {
        return;
    }
    let page = Pages {
        start: at,
        end: at + PAGE_SIZE,
        present,
        swapped,
        file: entry.is_file(),
        zero: false,
        guard,
    };
    match pages.last_mut() {
        Some(last)
            if last.end == at
                && Pages {
                    start: at,
                    end: page.end,
                    ..*last
                } == page =>
        {
            last.end = page.end
        }
        _ => pages.push(page),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_told_twice_is_taken_once() {
        let region = |start, end| PageRegion {
            start,
            end,
            categories: PageIs::PRESENT,
        };
        let mut pages = Vec::new();
        extend(
            &mut pages,
            &[region(0x1000, 0x2000), region(0x5000, 0x7000)],
        );
        extend(
            &mut pages,
            &[region(0x5000, 0x8000), region(0x9000, 0xa000)],
        );
        let found: Vec<_> = pages.iter().map(|run| (run.start, run.end)).collect();
        assert_eq!(
            found,
            [
                (0x1000, 0x2000),
                (0x5000, 0x7000),
                (0x7000, 0x8000),
                (0x9000, 0xa000)
            ]
        );
    }
}
