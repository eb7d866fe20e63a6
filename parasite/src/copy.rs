//! A copy of the process's memory: a process that is nobody's child here (`orchestrator/src/infect/copied.rs` says why).
//!
//! Whoever returns from `clone` with a new stack takes the address at its top for where to go on, and the word above it for its
//! argument. All stacks lie in memory that is shared with the process copied, so each has its own.

use crate::nr;
use arch::native::gate::syscall;
use core::sync::atomic::{AtomicI64, Ordering};

/// Flags of `clone` and `wait4` (`linux/sched.h`, `linux/wait.h`). The lowest byte is the signal that an end sends: none.
const CLONE_VM: u64 = 0x100;
const CLONE_FS: u64 = 0x200;
const CLONE_FILES: u64 = 0x400;
const WAIT_ALL: u64 = 0x4000_0000;
const EINTR: i64 = -4;

/// What the process between is to do.
struct Job {
    slot: u64,
    stack: u64,
    result: AtomicI64,
}

/// Makes a process that makes the copy and ends, waits for it, and returns the number of the copy.
///
/// # Safety
/// The slot is one that [`crate::run`] takes; both stacks, by their upper ends, are nobody else's.
pub unsafe fn copy_space(slot: u64, middle: u64, stack: u64) -> i64 {
    let job = Job {
        slot,
        stack,
        result: AtomicI64::new(0),
    };
    let entry = begin_middle as *const () as u64;
    // SAFETY: the caller promises the stack.
    let top = unsafe { push(middle, entry, &raw const job as u64) };
    let flags = CLONE_VM | CLONE_FS | CLONE_FILES;
    // SAFETY: it has a stack of its own, and what it looks at of ours stays until it has ended, below.
    let made = unsafe { syscall(nr::CLONE, flags, top, 0, 0, 0, 0) };
    if made < 0 {
        return made;
    }
    // SAFETY: nothing is written where nothing is asked for.
    while unsafe { syscall(nr::WAIT4, made as u64, 0, WAIT_ALL, 0, 0, 0) } == EINTR {}
    job.result.load(Ordering::Acquire)
}

/// Puts down where a new process begins, and with what, and returns the stack pointer that it begins with.
///
/// # Safety
/// Two words below `top` are writable.
unsafe fn push(top: u64, entry: u64, argument: u64) -> u64 {
    let at = (top - 16) as *mut u64;
    // SAFETY: the caller promises the words.
    unsafe { at.write_volatile(entry) };
    // SAFETY: the second of them.
    let above = unsafe { at.add(1) };
    // SAFETY: as above.
    unsafe { above.write_volatile(argument) };
    at as u64
}

/// # Safety
/// The address of a [`Job`] stands at the stack pointer.
#[unsafe(naked)]
unsafe extern "C" fn begin_middle() -> ! {
    core::arch::naked_asm!("pop rdi", "and rsp, -16", "call {go_on}", "ud2", go_on = sym middle)
}

/// # Safety
/// The address of a slot stands at the stack pointer.
#[unsafe(naked)]
unsafe extern "C" fn begin_copy() -> ! {
    core::arch::naked_asm!("pop rdi", "and rsp, -16", "call {go_on}", "ud2", go_on = sym crate::run)
}

/// Makes the copy, and ends.
///
/// # Safety
/// The job lives until this process has ended.
unsafe extern "C" fn middle(job: *const Job) -> ! {
    // SAFETY: the caller promises that it lives on.
    let job = unsafe { &*job };
    // SAFETY: the job's author promises the stack.
    let top = unsafe { push(job.stack, begin_copy as *const () as u64, job.slot) };
    // The table of descriptors is shared, so that none is held for a moment longer than the target holds it.
    // SAFETY: it begins on a stack of its own.
    let made = unsafe { syscall(nr::CLONE, CLONE_FILES, top, 0, 0, 0, 0) };
    job.result.store(made, Ordering::Release);
    loop {
        // SAFETY: it ends this process, which has one thread.
        unsafe { syscall(nr::EXIT, 0, 0, 0, 0, 0, 0) };
    }
}

/// Ends a copy.
pub fn end() -> ! {
    loop {
        // SAFETY: it ends this process, which is nobody's but ours.
        unsafe { syscall(nr::EXIT_GROUP, 0, 0, 0, 0, 0, 0) };
    }
}
