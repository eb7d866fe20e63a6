//! The parasite as a blob: its entry, and the runtime that the library expects.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the entry of a program without a loader")]

arch::blob_runtime!();

/// Where the orchestrator lets a hijacked thread begin: the address of its slot in the first argument register, and the
/// stack pointer somewhere in the blob's own stack.
///
/// # Safety
/// As [`parasite::run`].
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __export_entry(slot: *mut u8) -> ! {
    core::arch::naked_asm!("and rsp, -16", "call {run}", "ud2", run = sym parasite::run)
}
