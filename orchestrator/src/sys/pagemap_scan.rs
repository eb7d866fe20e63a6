//! `PAGEMAP_SCAN` (6.7 and up): runs of pages by what they are, without a word per page.

use super::{RemoteAddr, Result, check};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

bitflags::bitflags! {
    /// `PAGE_IS_*`: what a page is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct PageIs: u64 {
        /// In an area whose writes can be tracked by userfaultfd.
        const WPALLOWED = 1;
        /// Written since it was write-protected.
        const WRITTEN = 1 << 1;
        /// Of a file, or shared.
        const FILE = 1 << 2;
        /// Present.
        const PRESENT = 1 << 3;
        /// In swap; also a marker without content.
        const SWAPPED = 1 << 4;
        /// The zero page.
        const PFNZERO = 1 << 5;
        /// Part of a huge page.
        const HUGE = 1 << 6;
        /// Soft-dirty.
        const SOFT_DIRTY = 1 << 7;
        /// In a guard region (6.15 and up).
        const GUARD = 1 << 8;
    }
}

bitflags::bitflags! {
    /// `PM_SCAN_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct ScanFlags: u64 {
        /// Write-protects what it reports.
        const WP_MATCHING = 1;
        /// `EPERM` where an area is not registered for asynchronous write protection.
        const CHECK_WPASYNC = 1 << 1;
    }
}

/// Which pages to report, and what of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Query {
    /// What else to do.
    pub flags: ScanFlags,
    /// Bits that are turned around before they are compared.
    pub inverted: PageIs,
    /// All of these.
    pub all_of: PageIs,
    /// At least one of these; empty = no matter.
    pub any_of: PageIs,
    /// What to tell of the pages, and so where runs end.
    pub tell: PageIs,
    /// At most this many pages; 0 = no limit.
    pub max_pages: u64,
}

/// A run of neighbouring pages that are alike: `struct page_region`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRegion {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// What they are, of what was asked for.
    pub categories: PageIs,
}

const _: () = assert!(size_of::<PageRegion>() == 24);

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Debug)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const _: () = assert!(size_of::<ScanArg>() == 96);

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;

/// Least number of runs that a vector gets room for.
const LEAST_REGIONS: usize = 512;

/// Scans `range` of the process whose `pagemap` this is, replaces what `regions` holds by what was found, as many as it has
/// room for, and returns where the walk ended: before the end of the range, the caller goes on from there.
pub fn scan(
    pagemap: impl AsFd,
    range: Range<RemoteAddr>,
    query: &Query,
    regions: &mut Vec<PageRegion>,
) -> Result<RemoteAddr> {
    regions.clear();
    if regions.capacity() < LEAST_REGIONS {
        regions.reserve(LEAST_REGIONS);
    }
    let mut arg = ScanArg {
        size: size_of::<ScanArg>() as u64,
        flags: query.flags.bits(),
        start: range.start.0,
        end: range.end.0,
        walk_end: 0,
        vec: regions.as_mut_ptr().expose_provenance() as u64,
        vec_len: regions.capacity() as u64,
        max_pages: query.max_pages,
        category_inverted: query.inverted.bits(),
        category_mask: query.all_of.bits(),
        category_anyof_mask: query.any_of.bits(),
        return_mask: query.tell.bits(),
    };
    let fd = pagemap.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes one `struct pm_scan_arg`, and writes at most `vec_len` regions, for which there is
    // room.
    let result = unsafe { libc::ioctl(fd, PAGEMAP_SCAN, &raw mut arg) };
    let found = check("ioctl(PAGEMAP_SCAN)", result.into())?;
    assert!(found <= regions.capacity(), "the kernel kept to the room");
    // SAFETY: 1. `found` is within the capacity.  2. The kernel wrote the first `found` regions; their fields are numbers.
    unsafe { regions.set_len(found) };
    Ok(RemoteAddr(arg.walk_end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mem::{Place, SharedMapping};
    use nix::errno::Errno;

    #[test]
    fn written_pages_are_found_in_runs() {
        let mut mapping = SharedMapping::anonymous(16 << 12, Place::Anywhere).expect("map");
        for page in [1, 2, 5] {
            mapping.write_at(page << 12, b"x");
        }
        let pagemap = std::fs::File::open("/proc/self/pagemap").expect("open");
        let start = RemoteAddr(mapping.addr());
        let range = start..start + (16 << 12);
        let query = Query {
            all_of: PageIs::PRESENT,
            tell: PageIs::PRESENT | PageIs::FILE | PageIs::GUARD,
            ..Query::default()
        };
        let mut regions = Vec::new();
        match scan(&pagemap, range.clone(), &query, &mut regions) {
            Ok(end) => assert_eq!(end, range.end),
            // Kernels before 6.7.
            Err(error) => return assert_eq!(error.errno, Errno::ENOTTY),
        }
        let runs: Vec<_> = regions
            .iter()
            .map(|run| ((run.start - start.0) >> 12, (run.end - start.0) >> 12))
            .collect();
        assert_eq!(runs, [(1, 3), (5, 6)]);
        let is = regions[0].categories;
        assert_eq!(is, PageIs::PRESENT | PageIs::FILE);
        let two = Query {
            max_pages: 2,
            ..query
        };
        let end = scan(&pagemap, range.clone(), &two, &mut regions).expect("scan");
        assert!(
            regions.len() == 1 && end < range.end,
            "it stopped after two pages"
        );
        let end = scan(&pagemap, end..range.end, &query, &mut regions).expect("scan");
        assert_eq!((regions.len(), end), (1, range.end));
    }
}
