//! The self-cure: the orchestrator died, so each hijacked thread goes back by itself.
//!
//! Each is woken by the kernel, at a word of its own. What batches left open is undone first, by whoever comes first and may:
//! a thread under seccomp makes no call but the last, by which nothing is left open in its process. Then `rt_sigreturn` brings back registers, extended state and mask at once. The mapping stays: a thread
//! cannot unmap the code it runs.

use crate::nr;
use arch::abi::injection::{Control, Slot};
use arch::abi::program::Op;
use arch::machine;
use core::sync::atomic::Ordering;

/// Puts this thread back.
///
/// # Safety
/// The slot's frame was prepared for this thread, or is none as this is a copy, and the cleanup operations of the control block are readable.
pub unsafe fn cure(slot: &Slot, control: &Control) -> ! {
    if slot.frame == 0 {
        crate::copy::end();
    }
    slot.cured.store(1, Ordering::Release);
    let count = match slot.confined {
        0 => control.cleanup_count.swap(0, Ordering::AcqRel),
        _ => 0,
    };
    for index in 0..count {
        // SAFETY: the control block says how many there are.
        let place = unsafe { (control.cleanup_ops as *const Op).add(index as usize) };
        // SAFETY: in bounds, as above, and written before the count was.
        let op = unsafe { place.read() };
        // SAFETY: cleanup operations have immediate arguments, and close what batches opened.
        unsafe { machine::call(&op, &op.args) };
    }
    // SAFETY: the frame is the one prepared for this thread.
    unsafe { sigreturn(slot.frame) }
}

/// Makes `rt_sigreturn` with this stack pointer, through the one gate.
///
/// # Safety
/// The signal frame lies there.
unsafe fn sigreturn(stack: u64) -> ! {
    // SAFETY: the gate reads its seventh argument from the stack: a word of the frame, which is readable; it does not return.
    unsafe {
        core::arch::asm!(
            "mov rsp, {stack}",
            "jmp {gate}",
            stack = in(reg) stack,
            gate = sym arch::native::gate::__syscall_gate,
            in("rdi") nr::RT_SIGRETURN,
            options(noreturn),
        )
    }
}
