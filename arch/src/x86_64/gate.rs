//! The one way into the kernel: a single `syscall` instruction.
#![expect(
    unsafe_code,
    reason = "the gate is what the rest of the workspace is kept safe by"
)]

/// Makes system call `nr` and returns its raw result.
///
/// # Safety
/// The caller answers for what the system call does.
pub unsafe fn syscall(nr: u64, a0: u64, a1: u64, a2: u64, a3: u64, a4: u64, a5: u64) -> i64 {
    // SAFETY: the C ABI of the gate is declared with it; the caller answers for the call itself.
    unsafe { __syscall_gate(nr, a0, a1, a2, a3, a4, a5) }
}

/// The gate: C ABI, the seventh argument on the stack.
///
/// # Safety
/// As [`syscall`].
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn __syscall_gate(
    nr: u64,
    a0: u64,
    a1: u64,
    a2: u64,
    a3: u64,
    a4: u64,
    a5: u64,
) -> i64 {
    core::arch::naked_asm!(
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "mov r10, r8",
        "mov r8, r9",
        "mov r9, [rsp + 8]",
        "syscall",
        "ret",
    )
}
