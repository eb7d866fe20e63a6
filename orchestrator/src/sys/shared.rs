//! Which structures of `arch::abi` may lie in memory that the orchestrator and a blob share.

use arch::abi::{injection, program, restore};

/// A structure that may be looked at while a blob works on it.
///
/// # Safety
/// It is `repr(C)` without padding that matters, every byte pattern is a value of it, it needs no drop, and each field that
/// one side writes while the other may look is atomic.
pub unsafe trait Shared {}

// SAFETY: atomics and numbers; the numbers are written before the other side is told of them (`arch::abi::injection`).
unsafe impl Shared for injection::Control {}
// SAFETY: as above.
unsafe impl Shared for injection::Slot {}
// SAFETY: numbers only, written before the program starts; kinds and checks are `u16`, decoded totally.
unsafe impl Shared for program::Op {}
// SAFETY: all fields are atomics.
unsafe impl Shared for restore::Head {}
// SAFETY: atomics, and numbers that are written before the context starts.
unsafe impl Shared for restore::Ctx {}
// SAFETY: two numbers, written before the thread starts.
unsafe impl Shared for restore::StackTop {}
// SAFETY: a number; results are looked at after the program's counter says that they are there.
unsafe impl Shared for i64 {}
// SAFETY: a number, as above.
unsafe impl Shared for u64 {}
// SAFETY: a number, as above.
unsafe impl Shared for u32 {}
// SAFETY: a number, as above.
unsafe impl Shared for u8 {}
