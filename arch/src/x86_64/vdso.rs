//! The vDSO: how the kernel is asked to map it, and code that stands in for a function of it.

/// System call that maps the vDSO: `arch_prctl`.
pub const SYS_MAP_VDSO: i64 = 158;
/// Its first argument: `ARCH_MAP_VDSO_64` (`arch/x86/include/uapi/asm/prctl.h`); the second is the address.
pub const MAP_VDSO: u64 = 0x2003;
/// Bytes of [`jump_to`], the longest piece of code made here.
pub const PATCH_LEN: u64 = 12;

/// Returns code that goes on at `target`, wherever it stands: `movabs rax, target; jmp rax`. rax is free at the entry of a
/// function that takes no variable arguments (System V ABI, 3.2.3).
#[must_use]
pub fn jump_to(target: u64) -> [u8; 12] {
    let mut code = [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0];
    code[2..10].copy_from_slice(&target.to_le_bytes());
    code
}

/// Returns code that makes the system call and returns, for a function whose arguments are those of the system call:
/// `mov eax, nr; syscall; ret`. The fourth argument is not moved to where the kernel takes it; no such function has one.
#[must_use]
pub fn system_call(nr: u32) -> [u8; 8] {
    let mut code = [0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0xc3];
    code[1..5].copy_from_slice(&nr.to_le_bytes());
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_little_endian() {
        assert_eq!(
            jump_to(0x1122_3344_5566_7788),
            *b"\x48\xb8\x88\x77\x66\x55\x44\x33\x22\x11\xff\xe0"
        );
        assert_eq!(system_call(228), *b"\xb8\xe4\0\0\0\x0f\x05\xc3");
    }
}
