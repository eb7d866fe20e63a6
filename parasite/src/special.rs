//! Special operations.

/// Words of 8 bytes in a page.
const PAGE_WORDS: usize = 512;
/// Words looked at between two decisions: a cache line.
const LINE_WORDS: usize = 8;

/// Marks pages that are all zeros in a bitmap of bytes, and returns their number.
///
/// # Safety
/// `pages` pages from `start` are readable, and the bitmap has a bit for each.
pub unsafe fn zero_scan(start: u64, pages: u64, bitmap: u64) -> i64 {
    let mut found = 0;
    for page in 0..pages {
        let at = (start + page * 4096) as *const u64;
        // SAFETY: the page is one of those that the caller promises.
        if !unsafe { is_zero(at) } {
            continue;
        }
        let byte = (bitmap + page / 8) as *mut u8;
        // SAFETY: the bitmap has a bit for each page.
        let old = unsafe { byte.read() };
        // SAFETY: as above.
        unsafe { byte.write(old | 1 << (page % 8)) };
        found += 1;
    }
    found
}

/// # Safety
/// A page is readable at `at`.
unsafe fn is_zero(at: *const u64) -> bool {
    let mut word = 0;
    while word < PAGE_WORDS {
        let mut all = 0;
        for next in 0..LINE_WORDS {
            // SAFETY: below the end of the page.
            let place = unsafe { at.add(word + next) };
            // SAFETY: readable by the caller's promise; volatile, as its owner's other threads stand still but are not ours.
            all |= unsafe { place.read_volatile() };
        }
        if all != 0 {
            return false;
        }
        word += LINE_WORDS;
    }
    true
}

/// Copies bytes.
///
/// # Safety
/// Both ranges are what they are meant for and do not overlap.
pub unsafe fn copy(to: u64, from: u64, len: u64) -> i64 {
    // SAFETY: the caller promises both ranges.
    unsafe { core::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, len as usize) };
    0
}

/// Stores the low half of a value.
///
/// # Safety
/// Four bytes are writable at `to`.
pub unsafe fn store32(to: u64, value: u64) -> i64 {
    // SAFETY: the caller promises the place.
    unsafe { (to as *mut u32).write_unaligned(value as u32) };
    0
}
