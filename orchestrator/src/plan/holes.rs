//! Free address space: where things go that the snapshot does not have.

use std::ops::Range;

use super::host::TASK_SIZE;
use crate::snapshot::{PAGE_SIZE, Vma};

/// Lowest address for the arena: above what programs without address randomisation use, below any mmap area.
const ARENA_FROM: u64 = 0x10_0000_0000;
/// Room for the arena; a program of 20 000 threads needs about a tenth of it.
const ARENA_ROOM: u64 = 1 << 30;
/// Distance kept from every area: the kernel's stack guard gap (`mm/mmap.c`, 256 pages) is the largest it asks for.
const GAP: u64 = 256 * PAGE_SIZE;

/// Address space that is spoken for.
#[derive(Debug, Default)]
pub struct Holes {
    /// Taken ranges, ascending.
    taken: Vec<Range<u64>>,
}

impl Holes {
    /// Returns the free space around these areas, which ascend.
    pub fn around(vmas: &[Vma]) -> Self {
        let taken = vmas.iter().map(|vma| vma.start..vma.end).collect();
        Self { taken }
    }

    /// Takes room for the arena.
    pub fn take_arena(&mut self) -> Option<u64> {
        self.take(ARENA_ROOM, PAGE_SIZE)
    }

    /// Takes `len` bytes at the lowest free place.
    pub fn take_anywhere(&mut self, len: u64) -> Option<u64> {
        self.take(len, PAGE_SIZE)
    }

    /// Takes `len` bytes at the lowest free place at a multiple of `align`.
    pub fn take_aligned(&mut self, len: u64, align: u64) -> Option<u64> {
        self.take(len, align)
    }

    fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        let mut start = ARENA_FROM.next_multiple_of(align);
        let mut place = self.taken.len();
        for (index, range) in self.taken.iter().enumerate() {
            if range.end.saturating_add(GAP) <= start {
                continue;
            }
            if range.start >= start.checked_add(len + GAP)? {
                place = index;
                break;
            }
            start = start.max(range.end.checked_add(GAP)?.next_multiple_of(align));
        }
        let end = start.checked_add(len)?;
        if end > TASK_SIZE {
            return None;
        }
        self.taken.insert(place, start..end);
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holes(ranges: &[Range<u64>]) -> Holes {
        Holes {
            taken: ranges.to_vec(),
        }
    }

    #[test]
    fn the_first_hole_that_is_wide_enough_is_taken() {
        let low = 0x1000..0x2000;
        let tight = ARENA_FROM + (1 << 20)..ARENA_FROM + (2 << 20);
        let mut holes = holes(&[low, tight.clone()]);
        let arena = holes.take_arena().unwrap();
        assert_eq!(arena, tight.end + GAP);
        let next = holes.take_anywhere(0x4000).unwrap();
        assert!(next >= arena + ARENA_ROOM + GAP);
        assert!(holes.taken.is_sorted_by_key(|range| range.start));
    }

    #[test]
    fn a_full_address_space_has_no_hole() {
        let vsyscall = 0xffff_ffff_ff60_0000..0xffff_ffff_ff60_1000;
        let mut full = holes(&[ARENA_FROM..TASK_SIZE, vsyscall.clone()]);
        assert_eq!(full.take_anywhere(PAGE_SIZE), None);
        let mut free = holes(&[0x1000..0x2000, vsyscall]);
        assert_eq!(free.take_arena(), Some(ARENA_FROM));
    }
}
