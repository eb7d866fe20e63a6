//! The restorer: what each task is while it is being restored.
#![no_std]

/// Runs the program of the context and parks.
///
/// # Safety
/// `ctx` is the address of this thread's [`arch::abi::restore::Ctx`], in memory that lives as long as the blob.
#[expect(unsafe_code, reason = "calls the gate")]
pub unsafe extern "C" fn run(ctx: *mut u8) -> ! {
    let _ = ctx;
    loop {
        // SAFETY: exit_group ends the process.
        unsafe { arch::native::gate::syscall(231, 0, 0, 0, 0, 0, 0) };
    }
}
