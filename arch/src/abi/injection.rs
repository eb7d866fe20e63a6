//! The memory an injection shares with its target: one [`Control`], and one [`Slot`] for each hijacked thread.
//!
//! ```text
//! mapping [ blob text R-X ][ blob data, Control, Slot*, stacks, signal frames, operations, results, data RW shared ]
//! ```
//!
//! The host writes a batch of operations, points a slot at it, bumps `request` and wakes; the parasite runs it, writes
//! `reply` and wakes. Waiting needs no descriptor: `futex_waitv` on the slot's `request` and on its `lifeline`, the
//! word that the kernel marks with `FUTEX_OWNER_DIED` when the orchestrator's thread dies (it stands in that thread's
//! robust list). A parasite that sees the mark puts its thread back by itself: `rt_sigreturn` on the prepared frame.

use core::sync::atomic::{AtomicI64, AtomicU32};
use static_assertions::const_assert_eq;

/// `FUTEX_OWNER_DIED` of `linux/futex.h`.
pub const OWNER_DIED: u32 = 0x4000_0000;

/// One per injection.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Control {
    /// Number of operations that undo what batches left in the target (open descriptors), run once by the first thread
    /// that cures itself; it takes the number by exchange with 0.
    pub cleanup_count: AtomicU32,
    /// Address of the first of them.
    pub cleanup_ops: u64,
}

const_assert_eq!(size_of::<Control>(), 64);

/// One per hijacked thread.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Slot {
    /// Number of the newest request; bumped by the host. A futex word.
    pub request: AtomicU32,
    /// Number of the newest request that is done; written by the parasite. A futex word.
    pub reply: AtomicU32,
    /// Index of the operation that failed the batch, or the count if none did.
    pub stopped_at: AtomicU32,
    /// Not 0 once the parasite has begun to cure itself.
    pub cured: AtomicU32,
    /// Address of the batch's first operation.
    pub ops: u64,
    /// Address of its first result.
    pub results: u64,
    /// Number of operations.
    pub count: u32,
    /// Not 0 for a thread under seccomp: left alone, it may make no call but `rt_sigreturn`.
    pub confined: u32,
    /// Address of [`Control`].
    pub control: u64,
    /// Address of the signal frame that brings the thread back (the stack pointer for `rt_sigreturn`); 0 for a copy of a
    /// process, which ends instead.
    pub frame: u64,
    /// Raw result of the operation that failed the batch.
    pub failure: AtomicI64,
    /// Robust-futex word: the orchestrator's thread id and `FUTEX_WAITERS` while it lives.
    pub lifeline: AtomicU32,
    /// Not 0 where the thread has to wait without a system call, as it is about to be stopped: the kernel would make an
    /// interrupted one again.
    pub spin: AtomicU32,
    /// Not 0 once it waits so.
    pub spins: AtomicU32,
    /// Spare, so that the node is 32 bytes after the word, as the C library's `futex_offset` (-32) says.
    pub spare: [u32; 5],
    /// Node of the orchestrator's robust list; means nothing to the parasite.
    pub node: [u64; 4],
}

const_assert_eq!(size_of::<Slot>(), 128);
const_assert_eq!(
    memoffset::offset_of!(Slot, node),
    memoffset::offset_of!(Slot, lifeline) + 32
);
