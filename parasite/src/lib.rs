//! The parasite: what runs inside of a frozen task while it is dumped.
//!
//! It serves batches of operations out of its [`Slot`] and knows nothing of what they are for. While it waits it looks at
//! two words: the request, and the lifeline that the kernel marks when the orchestrator dies. Then it puts its thread back
//! by itself. It makes no system call that uses the thread's restart block (no sleep, no timeout), as the interrupted call
//! of the target still needs it.
#![no_std]
#![expect(
    unsafe_code,
    reason = "works on memory by addresses that the orchestrator wrote"
)]

mod copy;
mod cure;
mod special;

use arch::abi::injection::{Control, OWNER_DIED, Slot};
use arch::abi::program::{Op, special as number};
use arch::machine;
use core::sync::atomic::{AtomicU32, Ordering};

/// System-call numbers (`linux/unistd.h`).
mod nr {
    pub const RT_SIGRETURN: u64 = 15;
    pub const CLONE: u64 = 56;
    pub const EXIT: u64 = 60;
    pub const WAIT4: u64 = 61;
    pub const FUTEX: u64 = 202;
    pub const EXIT_GROUP: u64 = 231;
    pub const FUTEX_WAITV: u64 = 449;
}

const FUTEX_WAKE: u64 = 1;
/// A 32-bit word, shared between processes (`FUTEX2_SIZE_U32`).
const WAITER_FLAGS: u32 = 2;

/// `struct futex_waitv` of `linux/futex.h`.
#[repr(C)]
struct Waiter {
    value: u64,
    word: u64,
    flags: u32,
    reserved: u32,
}

/// Serves the slot until the orchestrator takes the thread back or dies.
///
/// # Safety
/// `slot` is the address of this thread's [`Slot`], in memory that lives as long as the blob, and all addresses in it are
/// of that memory too.
pub unsafe extern "C" fn run(slot: *mut u8) -> ! {
    // SAFETY: the caller promises a slot that lives on; what changes in it are atomics, and numbers that the host writes
    // before it bumps `request`.
    let slot = unsafe { &*slot.cast::<Slot>().cast_const() };
    // SAFETY: the caller promises that the address is that of a control block that lives on.
    let control = unsafe { &*(slot.control as *const Control) };
    loop {
        let done = slot.reply.load(Ordering::Acquire);
        let is_asked = slot.request.load(Ordering::Acquire) != done;
        let lives = match is_asked {
            true => is_held(slot),
            false => wait(slot, done),
        };
        if !lives {
            // SAFETY: the frame was prepared before the thread was sent here, by the caller's promise.
            unsafe { cure::cure(slot, control) };
        }
        let request = slot.request.load(Ordering::Acquire);
        if request == done {
            continue;
        }
        // SAFETY: the batch is in shared memory, by the caller's promise.
        if !unsafe { run_batch(slot) } {
            continue;
        }
        slot.reply.store(request, Ordering::Release);
        wake(&slot.reply);
    }
}

/// Waits for news and returns whether the orchestrator lives.
fn wait(slot: &Slot, done: u32) -> bool {
    let alive = slot.lifeline.load(Ordering::Acquire);
    if alive & OWNER_DIED != 0 {
        return false;
    }
    if slot.spin.load(Ordering::Acquire) != 0 {
        return spin(slot, done);
    }
    let waiters = [(&slot.request, done), (&slot.lifeline, alive)].map(|(word, value)| Waiter {
        value: u64::from(value),
        word: core::ptr::from_ref(word) as u64,
        flags: WAITER_FLAGS,
        reserved: 0,
    });
    // SAFETY: two waiters are read; no timeout. Whatever comes back, the words are looked at again.
    unsafe { arch::native::gate::syscall(nr::FUTEX_WAITV, waiters.as_ptr() as u64, 2, 0, 0, 0, 0) };
    is_held(slot)
}

/// Waits for news out of the kernel, until the thread is stopped.
fn spin(slot: &Slot, done: u32) -> bool {
    slot.spins.store(1, Ordering::Release);
    while is_held(slot) {
        if slot.request.load(Ordering::Acquire) != done {
            return true;
        }
        core::hint::spin_loop();
    }
    false
}

/// Returns whether the orchestrator lives.
fn is_held(slot: &Slot) -> bool {
    slot.lifeline.load(Ordering::Acquire) & OWNER_DIED == 0
}

/// Wakes all who wait for a word.
fn wake(word: &AtomicU32) {
    let word = core::ptr::from_ref(word) as u64;
    // SAFETY: FUTEX_WAKE writes nothing.
    unsafe { arch::native::gate::syscall(nr::FUTEX, word, FUTEX_WAKE, i32::MAX as u64, 0, 0, 0) };
}

/// Runs the batch up to the first operation whose result it does not accept, and returns whether the orchestrator lives: it
/// is looked for before each, as a thread under seccomp may make none once it is gone.
///
/// # Safety
/// Operations and results lie where the slot says, and addresses in the operations mean what they are meant for.
unsafe fn run_batch(slot: &Slot) -> bool {
    let results = slot.results as *mut i64;
    let mut index = 0;
    while index < slot.count {
        if !is_held(slot) {
            return false;
        }
        // SAFETY: `index` is below the number of operations there.
        let place = unsafe { (slot.ops as *const Op).add(index as usize) };
        // SAFETY: in bounds, as above, and written before the request was made.
        let op = unsafe { place.read() };
        // SAFETY: results cover all indices of the batch; the batch names only earlier ones.
        let args = unsafe { machine::arguments(&op, results) };
        // SAFETY: the batch's author answers for its operations.
        let result = unsafe { perform(&op, &args, results) };
        // SAFETY: as above, `index` is in bounds.
        let place = unsafe { results.add(index as usize) };
        // SAFETY: it lies in the shared mapping, aligned to 8.
        unsafe { place.write_volatile(result) };
        if !op.accepts(result) {
            slot.failure.store(result, Ordering::Relaxed);
            break;
        }
        index += 1;
    }
    slot.stopped_at.store(index, Ordering::Release);
    is_held(slot)
}

/// Makes one operation.
///
/// # Safety
/// As [`run_batch`].
unsafe fn perform(op: &Op, args: &[u64; 6], results: *mut i64) -> i64 {
    if op.nr < number::FIRST {
        // SAFETY: the batch's author answers for the system call.
        return unsafe { machine::call(op, args) };
    }
    match op.nr {
        number::NOP => 0,
        // SAFETY: the batch's author answers for the pages and the bitmap.
        number::ZERO_SCAN => unsafe { special::zero_scan(args[0], args[1], args[2]) },
        // SAFETY: the batch's author answers for both ranges.
        number::COPY => unsafe { special::copy(args[0], args[1], args[2]) },
        // SAFETY: the batch's author answers for the address.
        number::STORE32 => unsafe { special::store32(args[0], args[1]) },
        // SAFETY: the batch's author answers for the slot and both stacks.
        number::COPY_SPACE => unsafe { copy::copy_space(args[0], args[1], args[2]) },
        _ => {
            let _ = results;
            -38
        }
    }
}
