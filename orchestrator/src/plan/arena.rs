//! Where the parts of the arena lie. The arena has the same address in every task, so all addresses are known while the
//! programs are made, and an operation needs no relocation.
//!
//! ```text
//! base  [ blob ][ Head ][ Ctx per thread ][ stack per thread ][ data: paths, vectors, structures ][ operations ][ results ]
//! ```
//!
//! The data grows while programs are made, so what depends on its length (operations and results) stands behind it.

use arch::abi::program::Op;
use arch::abi::restore::{Ctx, Head, StackTop};

use crate::snapshot::PAGE_SIZE;

/// Bytes of stack for each context. The machine of the blob uses a few hundred; no signal is ever delivered on it.
pub const STACK_LEN: u64 = PAGE_SIZE;

/// Place of an arena and of its parts that do not depend on the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arena {
    /// First address: that of the blob's first byte.
    pub base: u64,
    /// Bytes of the blob, whole pages.
    pub blob_len: u64,
    /// Number of contexts.
    pub contexts: u32,
}

impl Arena {
    /// Returns the address of the [`Head`].
    pub fn head(&self) -> u64 {
        self.base + round_up(self.blob_len)
    }

    /// Returns the address of the [`Ctx`] of context `index`.
    pub fn ctx(&self, index: u32) -> u64 {
        self.head() + size_of::<Head>() as u64 + u64::from(index) * size_of::<Ctx>() as u64
    }

    /// Returns the lowest address of the stack of context `index`.
    pub fn stack(&self, index: u32) -> u64 {
        round_up(self.ctx(self.contexts)) + u64::from(index) * STACK_LEN
    }

    /// Returns the bytes of a stack below its [`StackTop`], as `clone3` wants them.
    pub fn stack_len(&self) -> u64 {
        STACK_LEN - size_of::<StackTop>() as u64
    }

    /// Returns the address of the [`StackTop`] of context `index`, which is what its stack pointer starts with.
    pub fn stack_top(&self, index: u32) -> u64 {
        self.stack(index) + self.stack_len()
    }

    /// Returns the address of the first byte of data.
    pub fn data(&self) -> u64 {
        self.stack(self.contexts)
    }
}

/// Places of the parts that depend on the programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// For each program the addresses of its first operation and of its first result.
    pub programs: Vec<ProgramPlace>,
    /// Bytes of the whole arena, whole pages.
    pub len: u64,
}

/// Where one program lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramPlace {
    /// Address of the first operation.
    pub ops: u64,
    /// Address of the first result.
    pub results: u64,
}

impl Arena {
    /// Returns where programs of these numbers of operations lie behind `data_len` bytes of data.
    pub fn layout(&self, data_len: u64, counts: impl Iterator<Item = usize>) -> Layout {
        let mut at = (self.data() + data_len).next_multiple_of(align_of::<Op>() as u64);
        let mut programs: Vec<(ProgramPlace, u64)> = counts
            .map(|count| {
                let ops = at;
                at += (count * size_of::<Op>()) as u64;
                (ProgramPlace { ops, results: 0 }, count as u64)
            })
            .collect();
        for (place, count) in &mut programs {
            place.results = at;
            at += *count * size_of::<i64>() as u64;
        }
        Layout {
            programs: programs.into_iter().map(|(place, _)| place).collect(),
            len: round_up(at) - self.base,
        }
    }
}

/// Returns `addr` rounded up to a page.
pub fn round_up(addr: u64) -> u64 {
    addr.next_multiple_of(PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_one_another_without_overlap() {
        let arena = Arena {
            base: 0x10_0000_0000,
            blob_len: 0x1800,
            contexts: 100,
        };
        assert_eq!(arena.head(), arena.base + 0x2000);
        assert!(arena.ctx(99) + 64 <= arena.stack(0));
        assert_eq!(arena.stack(1) - arena.stack(0), STACK_LEN);
        assert_eq!(arena.stack_top(3) + 16, arena.stack(4));
        assert_eq!(arena.stack(100), arena.data());
        let layout = arena.layout(7, [3, 5].into_iter());
        assert_eq!(layout.programs[0].ops, arena.data() + 64);
        assert_eq!(layout.programs[1].ops, layout.programs[0].ops + 3 * 64);
        assert_eq!(layout.programs[0].results, layout.programs[1].ops + 5 * 64);
        assert_eq!(layout.programs[1].results, layout.programs[0].results + 24);
        assert!(layout.programs[1].results + 40 <= arena.base + layout.len);
    }
}
