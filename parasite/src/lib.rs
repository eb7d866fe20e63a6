//! The parasite: what runs inside of a frozen task while it is dumped.
#![no_std]

/// Serves the slot until the orchestrator takes the thread back.
///
/// # Safety
/// `slot` is the address of this thread's [`arch::abi::injection::Slot`], in memory that lives as long as the blob.
#[expect(unsafe_code, reason = "calls the gate")]
pub unsafe extern "C" fn run(slot: *mut u8) -> ! {
    let _ = slot;
    loop {
        // SAFETY: exit_group ends the process.
        unsafe { arch::native::gate::syscall(231, 0, 0, 0, 0, 0, 0) };
    }
}
