//! The parts of a blob's runtime that are instructions: the trap and the memory functions. Short rather than fast: the
//! string instructions are near the best there is for the page-sized pieces that blobs copy (ERMS, Ivy Bridge and up).

use core::arch::naked_asm;

/// Ends the task at this place with SIGILL.
#[unsafe(naked)]
pub extern "C" fn trap() -> ! {
    naked_asm!("ud2")
}

/// Defines the memory functions of C, each with the given attribute: `no_mangle` in a blob, none in their tests.
#[doc(hidden)]
#[macro_export]
macro_rules! memory_functions {
    ($(#[$attribute:meta])*) => {
        /// `memcpy` of C.
        #[unsafe(naked)]
        $(#[$attribute])*
        pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
            ::core::arch::naked_asm!("mov rax, rdi", "mov rcx, rdx", "rep movsb", "ret")
        }

        /// `memmove` of C: backwards if the start of `to` lies inside of `from`.
        #[unsafe(naked)]
        $(#[$attribute])*
        pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
            ::core::arch::naked_asm!(
                "mov rax, rdi",
                "mov rcx, rdx",
                "sub rax, rsi",
                "cmp rax, rdx",
                "mov rax, rdi",
                "jb 2f",
                "rep movsb",
                "ret",
                "2:",
                "lea rdi, [rdi + rcx - 1]",
                "lea rsi, [rsi + rcx - 1]",
                "std",
                "rep movsb",
                "cld",
                "ret",
            )
        }

        /// `memset` of C.
        #[unsafe(naked)]
        $(#[$attribute])*
        pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
            ::core::arch::naked_asm!(
                "mov r8, rdi",
                "mov eax, esi",
                "mov rcx, rdx",
                "rep stosb",
                "mov rax, r8",
                "ret",
            )
        }

        /// `memcmp` of C.
        #[unsafe(naked)]
        $(#[$attribute])*
        pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
            ::core::arch::naked_asm!(
                "xor eax, eax",
                "xor ecx, ecx",
                "2:",
                "cmp rcx, rdx",
                "je 3f",
                "movzx eax, byte ptr [rdi + rcx]",
                "movzx r8d, byte ptr [rsi + rcx]",
                "inc rcx",
                "sub eax, r8d",
                "je 2b",
                "3:",
                "ret",
            )
        }

        /// `bcmp` of C: not 0 if they differ.
        #[unsafe(naked)]
        $(#[$attribute])*
        pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
            ::core::arch::naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
        }

        /// `strlen` of C.
        #[unsafe(naked)]
        $(#[$attribute])*
        pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
            ::core::arch::naked_asm!(
                "xor eax, eax",
                "2:",
                "cmp byte ptr [rdi + rax], 0",
                "je 3f",
                "inc rax",
                "jmp 2b",
                "3:",
                "ret",
            )
        }
    };
}

#[cfg(test)]
#[expect(unsafe_code, reason = "the memory functions of C take raw pointers")]
mod tests {
    crate::memory_functions! {}

    #[test]
    fn copies_overlapping_either_way() {
        for (to, from) in [(0, 3), (3, 0), (2, 2), (0, 8), (8, 0)] {
            let mut bytes: [u8; 16] = core::array::from_fn(|i| i as u8);
            let mut expected = bytes;
            expected.copy_within(from..from + 8, to);
            let base = bytes.as_mut_ptr();
            // SAFETY: both ranges of 8 bytes lie inside of the array of 16.
            let returned = unsafe { memmove(base.wrapping_add(to), base.wrapping_add(from), 8) };
            assert_eq!(returned, base.wrapping_add(to));
            assert_eq!(bytes, expected, "from {from} to {to}");
        }
    }

    #[test]
    fn copies_and_fills_exactly_the_length() {
        let mut bytes = [1u8; 8];
        // SAFETY: 3 bytes from index 2 on lie inside of the array.
        let returned = unsafe { memset(bytes.as_mut_ptr().wrapping_add(2), 0x1ff, 3) };
        assert_eq!(returned, bytes.as_mut_ptr().wrapping_add(2));
        assert_eq!(bytes, [1, 1, 0xff, 0xff, 0xff, 1, 1, 1]);
        let from = [7u8, 8, 9];
        // SAFETY: 2 bytes lie inside of both arrays, which are apart.
        unsafe { memcpy(bytes.as_mut_ptr(), from.as_ptr(), 2) };
        assert_eq!(bytes, [7, 8, 0xff, 0xff, 0xff, 1, 1, 1]);
    }

    #[test]
    fn compares_as_unsigned_bytes_up_to_the_length() {
        let compare = |a: &[u8; 4], b: &[u8; 4], len: usize| {
            assert!(len <= 4);
            // SAFETY: `len` is at most the length of both arrays.
            let order = unsafe { memcmp(a.as_ptr(), b.as_ptr(), len) };
            // SAFETY: as above.
            let different = unsafe { bcmp(a.as_ptr(), b.as_ptr(), len) };
            assert_eq!(order == 0, different == 0);
            order.signum()
        };
        assert_eq!(compare(b"abcd", b"abcd", 4), 0);
        assert_eq!(compare(b"ab\xffd", b"ab\x01d", 4), 1);
        assert_eq!(compare(b"ab\x01d", b"ab\xffd", 4), -1);
        assert_eq!(compare(b"abcd", b"abce", 3), 0);
        assert_eq!(compare(b"abcd", b"xxxx", 0), 0);
    }

    #[test]
    fn strings_end_at_their_zero() {
        // SAFETY: a C string.
        assert_eq!(unsafe { strlen(c"four".as_ptr().cast()) }, 4);
        // SAFETY: a C string.
        assert_eq!(unsafe { strlen(c"".as_ptr().cast()) }, 0);
    }
}
