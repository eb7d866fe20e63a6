//! The arena of a restore: memory shared by the orchestrator and every task being restored.
//!
//! ```text
//! arena  [ blob text R-X | blob data RW ][ Head ][ Ctx per thread ][ operations ][ results ][ data: paths, iovecs ][ stacks ]
//! ```
//!
//! The blob knows only [`Head`] and [`Ctx`]; where the parts lie is decided by the orchestrator, which writes absolute
//! addresses (the arena has the same address in every task, and in the orchestrator where it is free).

use core::sync::atomic::{AtomicI64, AtomicU32};
use static_assertions::const_assert_eq;

/// State of one context, written by the blob, read by the orchestrator.
pub mod state {
    /// Not started.
    pub const NEW: u32 = 0;
    /// Running its program.
    pub const RUNNING: u32 = 1;
    /// At its `PARK`: ready for the final switch.
    pub const PARKED: u32 = 2;
    /// An operation failed; see [`super::Head`].
    pub const FAILED: u32 = 3;
}

/// One per arena: what concerns the whole restore.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Head {
    /// Number of contexts that have parked; a futex word for the orchestrator.
    pub parked: AtomicU32,
    /// Not 0 once a context failed or the orchestrator gave up: barriers end, contexts exit with status 111. A futex word.
    pub abort: AtomicU32,
    /// Counts every event that the orchestrator may wait for (the last park, a failure); its futex word.
    pub events: AtomicU32,
    /// Context of the first failure, plus 1; claimed by compare-exchange from 0, so that the first stays.
    pub fail_ctx: AtomicU32,
    /// Index of the failed operation.
    pub fail_pc: AtomicU32,
    /// Its object.
    pub fail_obj: AtomicU32,
    /// Its raw result.
    pub fail_result: AtomicI64,
    /// Number of contexts that are to park; whoever is the last of them tells the orchestrator.
    pub parking: AtomicU32,
    /// Spare, so that the head is one cache line.
    pub spare: [AtomicU32; 7],
}

const_assert_eq!(size_of::<Head>(), 64);

/// One per thread to be restored: what it runs and where it stands.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Ctx {
    /// Address of the first operation.
    pub ops: u64,
    /// Address of the first result (`i64` each).
    pub results: u64,
    /// Address of [`Head`].
    pub head: u64,
    /// Number of operations.
    pub count: u32,
    /// Number of this context, for failure reports.
    pub id: u32,
    /// Operation being run, written before each.
    pub pc: AtomicU32,
    /// A value of [`state`].
    pub state: AtomicU32,
    /// Spare, so that a context is one cache line.
    pub spare: [u64; 3],
}

const_assert_eq!(size_of::<Ctx>(), 64);

/// Exit status of a task whose restore was given up.
pub const ABORTED: u32 = 111;

/// What stands at the top of a context's stack, at the address its stack pointer starts with: the blob's trampoline
/// (where `ret` of the gate lands in a new thread) and the argument it takes from there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct StackTop {
    /// Address of the blob's trampoline (`__export_trampoline`).
    pub trampoline: u64,
    /// Address of the thread's [`Ctx`].
    pub ctx: u64,
}

const_assert_eq!(size_of::<StackTop>(), 16);
