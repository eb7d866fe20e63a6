//! The restorer as a blob: its two entries, and the runtime that the library expects.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the entries of a program without a loader")]

arch::blob_runtime!();

/// Where the first thread of a new tree begins: the address of its context in the first argument register, and the stack
/// pointer somewhere in its stack.
///
/// # Safety
/// As [`restorer_blob::run`].
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __export_entry(ctx: *mut u8) -> ! {
    core::arch::naked_asm!("and rsp, -16", "call {run}", "ud2", run = sym restorer_blob::run)
}

/// Where a thread or process made by an operation begins: the gate's `ret` has just taken this address off the new stack,
/// and the context is what stands there next ([`arch::abi::restore::StackTop`]).
///
/// # Safety
/// As [`restorer_blob::run`].
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __export_trampoline() -> ! {
    core::arch::naked_asm!("pop rdi", "and rsp, -16", "call {run}", "ud2", run = sym restorer_blob::run)
}
