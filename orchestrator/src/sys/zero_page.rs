//! The kernel's zero pages, mapped: which frames they are can be read from our own pagemap while the mapping is held.

use super::{RemoteAddr, Result, check};
use std::ptr::NonNull;

/// Size of a huge page.
const HUGE: usize = 2 << 20;
/// Room for one huge page wherever the mapping begins, and for a small one.
const LEN: usize = 2 * HUGE;

/// A mapping that shows the zero page and, where the kernel has one, the huge zero page.
#[derive(Debug)]
pub struct ZeroPages {
    start: NonNull<u8>,
}

impl ZeroPages {
    /// Maps and reads them.
    pub fn map() -> Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, at a place of the kernel's choice.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), LEN, libc::PROT_READ, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            check("mmap", -1)?;
        }
        let pages = Self {
            start: NonNull::new(at.cast()).expect("no mapping lies at 0"),
        };
        // SAFETY: the range is ours; advice changes no content. Kernels without huge pages refuse it.
        unsafe { libc::madvise(at, LEN, libc::MADV_HUGEPAGE) };
        for addr in pages.ranges().map(|[start, _]| start as usize) {
            let byte = std::ptr::with_exposed_provenance::<u8>(addr);
            // SAFETY: `addr` is in the mapping, which is readable.
            unsafe { byte.read_volatile() };
        }
        Ok(pages)
    }

    /// Returns where the huge one is, if there is one (512 pages), and where there is room for small ones alone.
    pub fn ranges(&self) -> [[u64; 2]; 2] {
        let start = self.start.expose_provenance().get();
        let huge = start.next_multiple_of(HUGE);
        let small = match huge - start {
            0 => huge + HUGE,
            _ => start,
        };
        [
            [huge as u64, (huge + HUGE) as u64],
            [small as u64, small as u64 + 4096],
        ]
    }

    /// Returns the address of the mapping.
    pub fn addr(&self) -> RemoteAddr {
        RemoteAddr(self.start.expose_provenance().get() as u64)
    }
}

impl Drop for ZeroPages {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map`, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), LEN) };
    }
}
