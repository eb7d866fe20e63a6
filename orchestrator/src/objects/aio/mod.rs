//! Contexts of asynchronous I/O (`io_setup`). All that a program has of one is its ring, an area of memory whose address is the
//! id of the context: the kernel finds the context by a number that it wrote into the ring, and takes from the ring how far the
//! program has read.

pub mod plan;

use crate::snapshot::PAGE_SIZE;

/// Bytes of the ring's header, and of an event (`struct aio_ring`, `fs/aio.c`; `struct io_event`, `linux/aio_abi.h`).
pub const HEADER: usize = 32;
const EVENT: u64 = 32;
/// Where `head` is.
pub const HEAD: u64 = 8;
/// What a ring begins with: magic and features, after id, number of events, head and tail.
const MAGIC: u32 = 0xa10a_10a1;
const COMPATIBLE: u32 = 1;
/// Largest number of a context that is believed: a program may write what it likes into its ring. The kernel's own limit
/// of all contexts together is `fs.aio-max-nr`.
const MAX_INDEX: u32 = 1 << 12;
/// Bytes of the largest ring that is believed.
const MAX_LEN: u64 = 256 << 20;

/// How far a ring has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingState {
    /// Number of the context in its address space.
    pub index: u32,
    /// Next event that the program reads.
    pub head: u32,
    /// Next event that the kernel writes.
    pub tail: u32,
}

/// Returns how many events a ring of so many bytes has room for.
pub fn room(len: u64) -> u32 {
    ((len - HEADER as u64) / EVENT) as u32
}

/// Returns the largest number of events that `io_setup` makes such a ring for: it doubles the number, and adds two
/// (`ioctx_alloc`, `aio_setup_ring`). Which of those that lead to the same ring it was, the kernel tells nobody.
pub fn requests(len: u64) -> u32 {
    (room(len) - 2) / 2
}

/// Returns whether a ring may be so long.
pub fn is_length(len: u64) -> bool {
    len > 0 && len <= MAX_LEN && len.is_multiple_of(PAGE_SIZE)
}

/// Returns the state in the header of a ring of `len` bytes; `None` if the kernel would not have left it like that.
pub fn state(header: &[u8], len: u64) -> Option<RingState> {
    let words: Vec<u32> = header
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
        .collect();
    let &[
        index,
        events,
        head,
        tail,
        magic,
        compatible,
        incompatible,
        header_len,
    ] = &words[..]
    else {
        return None;
    };
    let is_sound = events == room(len)
        && index < MAX_INDEX
        && head < events
        && tail < events
        && [magic, compatible, incompatible] == [MAGIC, COMPATIBLE, 0]
        && header_len == HEADER as u32;
    is_sound.then_some(RingState { index, head, tail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_number_for_a_ring() {
        assert_eq!((room(4096), requests(4096)), (127, 62));
        assert_eq!((room(12288), requests(12288)), (383, 190));
    }

    #[test]
    fn a_header_that_the_program_has_overwritten() {
        let words = |head: u32| [3, 127, head, 5, MAGIC, COMPATIBLE, 0, 32u32];
        let bytes = |head| words(head).map(u32::to_le_bytes).concat();
        let wanted = RingState {
            index: 3,
            head: 4,
            tail: 5,
        };
        assert_eq!(state(&bytes(4), 4096), Some(wanted));
        assert_eq!(state(&bytes(127), 4096), None);
        assert_eq!(state(&bytes(4), 8192), None);
        assert_eq!(state(&bytes(4)[..16], 4096), None);
    }
}
