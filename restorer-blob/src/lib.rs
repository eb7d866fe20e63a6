//! The restorer: what each task is while it is being restored. It fetches an operation, runs it, looks at the result, and
//! goes on or reports; what the operations are for is the orchestrator's knowledge.
//!
//! The same code runs before the launch of a tree, as a library of the orchestrator, in a child that shares its memory.
//! So it keeps nothing outside of its stack and of what the context points to, and has no way to return.
#![no_std]

mod special;

use core::sync::atomic::Ordering::SeqCst;

use arch::abi::program::{Op, special::FIRST};
use arch::abi::restore::{ABORTED, Ctx, Head, state};
use arch::{machine, native::gate};
use linux_raw_sys::general::{__NR_exit_group, __NR_futex, FUTEX_WAIT, FUTEX_WAKE};

/// Runs the program of the context, which ends by parking, leaving or failing.
///
/// # Safety
/// `ctx` is the address of this thread's [`Ctx`], which nobody else runs. It and what it points to (the head, `count`
/// operations and as many results) stay mapped as long as this runs, and the operations do what their author wants.
#[expect(unsafe_code, reason = "addresses come as data")]
pub unsafe extern "C" fn run(ctx: *const Ctx) -> ! {
    // SAFETY: the caller promises a context that stays; what changes in it is atomic.
    let ctx = unsafe { &*ctx };
    // SAFETY: as above; all of the head is atomic.
    let head = unsafe { &*(ctx.head as *const Head) };
    ctx.state.store(state::RUNNING, SeqCst);
    for pc in 0..ctx.count {
        ctx.pc.store(pc, SeqCst);
        // SAFETY: `pc` is below `count`, and the caller promises that many operations.
        let op = unsafe { (ctx.ops as *const Op).add(pc as usize) };
        // SAFETY: as above; nobody changes an operation while its program runs.
        let op = unsafe { &*op };
        // SAFETY: the caller answers for the operation.
        let result = unsafe { step(op, ctx, head) };
        // SAFETY: as for the operation: there are as many results.
        let slot = unsafe { (ctx.results as *mut i64).add(pc as usize) };
        // SAFETY: as above; only this thread writes its results.
        unsafe { slot.write_volatile(result) };
        if !op.accepts(result) {
            fail(op, pc, result, ctx, head);
        }
    }
    // Every program ends by an operation that does not come back.
    exit(ABORTED)
}

/// Runs one operation and returns its result.
///
/// # Safety
/// As [`run`] demands of operations.
#[expect(unsafe_code, reason = "an operation may do anything")]
unsafe fn step(op: &Op, ctx: &Ctx, head: &Head) -> i64 {
    // SAFETY: results and addresses in arguments are as the author of the program wants.
    let args = unsafe { machine::arguments(op, ctx.results as *const i64) };
    if op.nr < FIRST {
        // SAFETY: the author of the program answers for the system call.
        unsafe { machine::call(op, &args) }
    } else {
        // SAFETY: the author of the program answers for the addresses.
        unsafe { special::run(op.nr, &args, ctx, head) }
    }
}

/// Reports a failed operation, unless another was first, and ends the process.
fn fail(op: &Op, pc: u32, result: i64, ctx: &Ctx, head: &Head) -> ! {
    ctx.state.store(state::FAILED, SeqCst);
    let claimed = head
        .fail_ctx
        .compare_exchange(0, ctx.id + 1, SeqCst, SeqCst);
    if claimed.is_err() {
        // The first may be in the middle of its report: ending the process now would cut it off.
        wait_for_end(head);
    }
    head.fail_pc.store(pc, SeqCst);
    head.fail_obj.store(op.obj, SeqCst);
    head.fail_result.store(result, SeqCst);
    head.abort.store(1, SeqCst);
    tell(head);
    futex(head.abort.as_ptr(), FUTEX_WAKE, i32::MAX as u32);
    exit(ABORTED)
}

/// Tells the orchestrator that there is something to see.
fn tell(head: &Head) {
    head.events.fetch_add(1, SeqCst);
    futex(head.events.as_ptr(), FUTEX_WAKE, i32::MAX as u32);
}

/// Waits until the restore is given up; a tracer may take the thread out of here before.
fn wait_for_end(head: &Head) -> ! {
    while head.abort.load(SeqCst) == 0 {
        futex(head.abort.as_ptr(), FUTEX_WAIT, 0);
    }
    exit(ABORTED)
}

/// Waits on a word that processes share while it has this value, or wakes as many who do.
#[expect(unsafe_code, reason = "calls the gate")]
fn futex(word: *const u32, operation: u32, value: u32) {
    let (word, operation, value) = (word as u64, u64::from(operation), u64::from(value));
    // SAFETY: both operations only read the word, and fail where there is none.
    unsafe { gate::syscall(u64::from(__NR_futex), word, operation, value, 0, 0, 0) };
}

/// Ends the process.
#[expect(unsafe_code, reason = "calls the gate")]
fn exit(status: u32) -> ! {
    loop {
        // SAFETY: exit_group touches no memory.
        unsafe { gate::syscall(u64::from(__NR_exit_group), u64::from(status), 0, 0, 0, 0, 0) };
    }
}
