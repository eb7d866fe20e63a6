//! What each page of a process is, behind one interface.
//!
//! Two ways to ask: one `PAGEMAP_SCAN` over everything, which tells runs (6.7), and the words of `/proc/PID/pagemap`, one
//! for each page. A process may have tens of thousands of small areas. A scan walks over them and the holes between in one
//! call; words are read over neighbours together as long as the holes between are smaller than what they have read for
//! ([`spans`]), so that neither costs a call for each area.
//!
//! A page that is not there may have an entry all the same: a marker, which a guard region consists of, and which is what is
//! left of a write-protected page that was dropped. Markers look like swapped pages, of type 31, and have no content.

use super::Error;
use super::select::{Pages, Take};
use crate::procfs::pagemap::{PageEntry, Pagemap};
use crate::procfs::smaps;
use crate::snapshot::{PAGE_SIZE, Vma, VmaKind};
use crate::sys::pagemap_scan::{PageIs, PageRegion, Query, scan};
use crate::sys::{Pid, RemoteAddr};

/// Runs taken at one call.
const REGIONS: usize = 8192;
/// Words of pagemap read at a time: 32 MiB of memory.
const WORDS: usize = 8192;
/// Words are read over areas within so many bytes, however little of it they are.
const LEAST_SPAN: u64 = 2 << 20;
/// Where areas may lie, but for the page of vsyscalls, which nobody asks for.
const EVERYWHERE: [u64; 2] = [PAGE_SIZE, 0x7fff_ffff_f000];

/// Areas of anonymous memory from this size on are asked for by themselves, in bytes.
const LARGE: u64 = 4 << 20;

/// How pages are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By runs.
    Scan,
    /// By words.
    Words,
}

/// Returns what the pages of these areas are, by address; pages without content are left out.
///
/// # Errors
/// The page map cannot be read.
pub fn pages(pid: Pid, vmas: &[Vma]) -> Result<Vec<Pages>, Error> {
    pages_in(pid, &ranges(vmas.iter()))
}

/// As [`pages`], of some of the areas, whose memory is that of the process `pid`.
///
/// # Errors
/// The page map cannot be read.
pub fn pages_of(pid: Pid, vmas: &[Vma], take: Take) -> Result<Vec<Pages>, Error> {
    if take != Take::NotCopied {
        return pages_in(pid, &ranges(vmas.iter().filter(|vma| take.takes(vma))));
    }
    // They are few, and what lies between them is not to be walked over while the process stands still.
    let mut all = Vec::new();
    for range in ranges(
        vmas.iter()
            .filter(|vma| take.takes(vma) && vma.is_private()),
    ) {
        all.extend(pages_in(pid, &[range])?);
    }
    Ok(all)
}

/// Returns what all pages of a process are, for who does not know its areas yet; `None` where the kernel would have to be asked
/// for each page of the address space.
///
/// # Errors
/// The page map cannot be read.
pub fn all_pages(pid: Pid) -> Result<Option<Vec<Pages>>, Error> {
    let pagemap = Pagemap::open(pid).map_err(|error| failed(pid, error))?;
    let areas = smaps::read_maps(pid).map_err(|error| failed(pid, error))?;
    let large = areas
        .vmas
        .iter()
        .filter(|vma| vma.end - vma.start >= LARGE && is_anonymous(vma, &areas.path(vma)))
        .map(|vma| [vma.start, vma.end]);
    match scan_parts(pid, &pagemap, &parts(EVERYWHERE, large)) {
        Err(error) if cannot_scan(&error) => Ok(None),
        other => other.map(Some),
    }
}

fn is_anonymous(vma: &smaps::Vma, path: &[u8]) -> bool {
    let is_named = !path.is_empty() && path != b"[heap]" && !path.starts_with(b"[anon:");
    vma.inode == 0 && !vma.shared && !is_named
}

/// What is walked over by one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    range: [u64; 2],
    /// Whether there may be pages of files.
    has_files: bool,
}

/// Parts a range by large areas of anonymous memory in it, which ascend.
fn parts([mut at, end]: [u64; 2], large: impl Iterator<Item = [u64; 2]>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut push = |range: [u64; 2], has_files| {
        if range[0] < range[1] {
            parts.push(Part { range, has_files });
        }
    };
    for [start, stop] in large.filter(|range| range[0] < end) {
        push([at, start], true);
        push([start.max(at), stop.min(end)], false);
        at = stop.max(at);
    }
    push([at, end], true);
    parts
}

/// Returns what the pages of these ranges are, by address; pages without content are left out.
///
/// # Errors
/// The page map cannot be read.
pub fn pages_in(pid: Pid, ranges: &[[u64; 2]]) -> Result<Vec<Pages>, Error> {
    match pages_by(Way::Scan, pid, ranges) {
        Err(error) if cannot_scan(&error) => pages_by(Way::Words, pid, ranges),
        other => other,
    }
}

fn cannot_scan(error: &Error) -> bool {
    matches!(error, Error::Scan { source, .. }
        if matches!(source.errno as i32, libc::ENOTTY | libc::EINVAL))
}

/// Returns what the pages of these ranges are, asked for in this way.
///
/// # Errors
/// The page map cannot be read.
pub fn pages_by(way: Way, pid: Pid, ranges: &[[u64; 2]]) -> Result<Vec<Pages>, Error> {
    let pagemap = Pagemap::open(pid).map_err(|error| failed(pid, error))?;
    match way {
        Way::Scan => scan_ranges(pid, &pagemap, ranges),
        Way::Words => read_ranges(pid, &pagemap, ranges),
    }
}

fn failed(pid: Pid, error: crate::procfs::Error) -> Error {
    Error::Read {
        pid: pid.0,
        start: 0,
        pages: 0,
        source: std::io::Error::other(error),
    }
}

/// Areas whose pages matter, neighbours taken together.
fn ranges<'a>(vmas: impl Iterator<Item = &'a Vma>) -> Vec<[u64; 2]> {
    let mut ranges: Vec<[u64; 2]> = Vec::new();
    for vma in vmas.filter(|vma| !matches!(vma.kind, VmaKind::Vvar | VmaKind::Vsyscall)) {
        match ranges.last_mut() {
            Some(last) if last[1] == vma.start => last[1] = vma.end,
            _ => ranges.push([vma.start, vma.end]),
        }
    }
    ranges
}

fn scan_ranges(pid: Pid, pagemap: &Pagemap, ranges: &[[u64; 2]]) -> Result<Vec<Pages>, Error> {
    // One walk over everything: holes between areas cost nothing.
    let all = ranges.first().zip(ranges.last());
    let all = all.map(|([first, _], [_, end])| Part {
        range: [*first, *end],
        has_files: true,
    });
    scan_parts(pid, pagemap, all.as_slice())
}

fn scan_parts(pid: Pid, pagemap: &Pagemap, parts: &[Part]) -> Result<Vec<Pages>, Error> {
    let mut tell = PageIs::PRESENT | PageIs::SWAPPED | PageIs::PFNZERO | PageIs::GUARD;
    let mut regions = Vec::with_capacity(REGIONS);
    let mut pages = Vec::new();
    for part in parts {
        let [mut at, end] = part.range.map(RemoteAddr);
        // To tell pages of files the kernel looks at each page's description, which takes four times as long.
        let files = match part.has_files {
            true => PageIs::FILE,
            false => PageIs::empty(),
        };
        while at.0 < end.0 {
            let query = Query {
                any_of: PageIs::PRESENT | PageIs::SWAPPED,
                tell: tell | files,
                ..Query::default()
            };
            match scan(pagemap, at..end, &query, &mut regions) {
                Ok(next) => at = next,
                // Kernels before 6.15 know no guard regions.
                Err(error)
                    if error.errno as i32 == libc::EINVAL && tell.contains(PageIs::GUARD) =>
                {
                    tell.remove(PageIs::GUARD);
                    continue;
                }
                Err(source) => return Err(Error::Scan { pid: pid.0, source }),
            }
            extend(&mut pages, &regions);
        }
    }
    without_markers(pid, pagemap, pages)
}

/// Takes markers out of what a scan found, which tells them as swapped pages; guard regions stay.
fn without_markers(pid: Pid, pagemap: &Pagemap, pages: Vec<Pages>) -> Result<Vec<Pages>, Error> {
    let is_doubtful = |run: &Pages| run.swapped && !run.present && !run.guard;
    if !pages.iter().any(is_doubtful) {
        return Ok(pages);
    }
    let mut sure = Vec::new();
    for run in pages {
        if is_doubtful(&run) {
            read_span(pid, pagemap, &[[run.start, run.end]], &mut sure)?;
        } else {
            sure.push(run);
        }
    }
    Ok(sure)
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

/// Ranges whose words are read together, holes between them included.
fn spans(ranges: &[[u64; 2]]) -> Vec<&[[u64; 2]]> {
    let mut spans = Vec::new();
    let (mut first, mut covered) = (0, 0);
    for (index, &[start, end]) in ranges.iter().enumerate() {
        if index > first {
            let hole = start - ranges[index - 1][1];
            if hole > covered && end - ranges[first][0] > LEAST_SPAN {
                spans.push(&ranges[first..index]);
                (first, covered) = (index, 0);
            }
        }
        covered += end - start;
    }
    if first < ranges.len() {
        spans.push(&ranges[first..]);
    }
    spans
}

fn read_ranges(pid: Pid, pagemap: &Pagemap, ranges: &[[u64; 2]]) -> Result<Vec<Pages>, Error> {
    let mut pages = Vec::new();
    for span in spans(ranges) {
        read_span(pid, pagemap, span, &mut pages)?;
    }
    Ok(pages)
}

/// Reads the words of neighbouring ranges, and adds what they tell.
fn read_span(
    pid: Pid,
    pagemap: &Pagemap,
    mut ranges: &[[u64; 2]],
    pages: &mut Vec<Pages>,
) -> Result<(), Error> {
    let Some(([first, _], [_, end])) = ranges.first().zip(ranges.last()) else {
        return Ok(());
    };
    let (mut at, end) = (*first, *end);
    let mut words = Vec::new();
    while at < end {
        let count = (((end - at) / PAGE_SIZE) as usize).min(WORDS);
        pagemap
            .read(RemoteAddr(at), count, &mut words)
            .map_err(|error| failed(pid, error))?;
        for (index, &word) in words.iter().enumerate() {
            let page = at + index as u64 * PAGE_SIZE;
            while ranges.first().is_some_and(|range| range[1] <= page) {
                ranges = &ranges[1..];
            }
            if ranges.first().is_some_and(|range| range[0] <= page) {
                push_word(pages, page, PageEntry(word));
            }
        }
        at += count as u64 * PAGE_SIZE;
    }
    Ok(())
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

    /// What both ways have to agree on: words do not tell the zero page from others.
    fn alike(pages: Vec<Pages>) -> Vec<Pages> {
        let mut all: Vec<Pages> = Vec::new();
        for run in pages {
            // Scans tell guards as swapped too.
            let swapped = run.swapped && !run.guard;
            let run = Pages {
                zero: false,
                swapped,
                ..run
            };
            match all.last_mut() {
                Some(last)
                    if last.end == run.start
                        && Pages {
                            start: last.start,
                            end: run.end,
                            ..run
                        } == Pages {
                            end: run.end,
                            ..*last
                        } =>
                {
                    last.end = run.end;
                }
                _ => all.push(run),
            }
        }
        all
    }

    #[test]
    fn words_tell_what_scans_tell() {
        let mut memory =
            crate::sys::mem::SharedMapping::anonymous(64 << 12, crate::sys::mem::Place::Anywhere)
                .expect("map");
        for page in [0, 1, 7, 8, 9, 40, 63] {
            memory.write_at(page << 12, b"x");
        }
        let start = memory.addr();
        // Small ranges with holes between, some of them without a page.
        let pieces = [[0, 2], [3, 8], [9, 20], [30, 41], [60, 64]];
        let ranges = pieces.map(|[from, to]| [start + (from << 12), start + (to << 12)]);
        let words = pages_by(Way::Words, Pid::this(), &ranges).expect("words");
        let found: Vec<_> = words
            .iter()
            .map(|run| [(run.start - start) >> 12, (run.end - start) >> 12])
            .collect();
        assert_eq!(found, [[0, 2], [7, 8], [9, 10], [40, 41], [63, 64]]);
        let whole = [[start, start + (64 << 12)]];
        let words = pages_by(Way::Words, Pid::this(), &whole).expect("words");
        match pages_by(Way::Scan, Pid::this(), &whole) {
            Ok(scanned) => assert_eq!(alike(words), alike(scanned)),
            Err(error) => assert!(cannot_scan(&error)),
        }
    }

    #[test]
    fn fifty_thousand_small_areas_are_few_reads() {
        let small: Vec<[u64; 2]> = (0..50_000_u64)
            .map(|index| [index * 0x3000, index * 0x3000 + 0x2000])
            .collect();
        assert_eq!(spans(&small).len(), 1);
        let far = [[0x1000, 0x2000], [0x10_0000_0000, 0x10_0000_1000]];
        assert_eq!(spans(&far).len(), 2);
        assert_eq!(spans(&[]).len(), 0);
    }

    #[test]
    fn large_areas_are_parted_from_the_rest() {
        let part = |start, end, has_files| Part {
            range: [start, end],
            has_files,
        };
        let found = parts(
            [1, 100],
            [[10, 20], [20, 30], [90, 120], [200, 300]].into_iter(),
        );
        let wanted = [
            part(1, 10, true),
            part(10, 20, false),
            part(20, 30, false),
            part(30, 90, true),
            part(90, 100, false),
        ];
        assert_eq!(found, wanted);
        assert_eq!(parts([1, 100], std::iter::empty()), [part(1, 100, true)]);
    }
}
