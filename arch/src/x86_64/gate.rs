//! The one way into the kernel: a single `syscall` instruction. Everything that a blob asks of the kernel goes through it,
//! so that the audit of the blob builder can insist on exactly one.
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
/// Keeps nothing on the stack: after a `clone3` with a new stack, the child's `ret` takes the address at the top of that
/// stack ([`crate::abi::restore::StackTop`]), so that `clone3` needs no gate of its own.
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
    // From the C convention (rdi rsi rdx rcx r8 r9, then the stack) to the kernel's (rax; rdi rsi rdx r10 r8 r9). rcx and
    // r11, which the instruction overwrites, belong to the callee in C too.
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

#[cfg(test)]
mod tests {
    use super::*;
    use linux_raw_sys::general::{__NR_close, __NR_mmap, __NR_munmap};

    #[test]
    fn errors_come_back_as_negative_numbers() {
        // SAFETY: no process has this descriptor: closing it does nothing.
        let result = unsafe { syscall(u64::from(__NR_close), u64::MAX, 0, 0, 0, 0, 0) };
        assert_eq!(result, -9);
    }

    #[test]
    fn all_six_arguments_arrive() {
        let (private_anonymous, read) = (0x22, 1);
        // SAFETY: a new anonymous mapping, nobody else's memory is named.
        let misaligned = unsafe {
            syscall(
                u64::from(__NR_mmap),
                0,
                4096,
                read,
                private_anonymous,
                u64::MAX,
                1,
            )
        };
        assert_eq!(
            misaligned, -22,
            "the sixth argument, an offset, is not a multiple of a page"
        );
        // SAFETY: as above.
        let at = unsafe {
            syscall(
                u64::from(__NR_mmap),
                0,
                4096,
                read,
                private_anonymous,
                u64::MAX,
                4096,
            )
        };
        assert!(at > 0 && at % 4096 == 0, "{at}");
        // SAFETY: the page mapped above, which nobody uses.
        let result = unsafe { syscall(u64::from(__NR_munmap), at as u64, 4096, 0, 0, 0, 0) };
        assert_eq!(result, 0);
    }
}
