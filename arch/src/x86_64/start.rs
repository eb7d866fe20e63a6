//! Where a child of `clone3` with a stack of its own begins.

/// Number of words at the top of a new stack, as [`start_words`] gives them.
pub const START_WORDS: usize = 3;

/// Returns what has to stand at the address that a child's stack pointer begins with, a multiple of 16, for it to call
/// `entry(arg)` when the gate returns in it: the psABI wants the stack 8 below a multiple of 16 there.
pub fn start_words(entry: u64, arg: u64) -> [u64; START_WORDS] {
    [child_start as *const () as u64, arg, entry]
}

/// Takes the argument from the stack and goes on at the entry below it.
#[unsafe(naked)]
extern "C" fn child_start() {
    core::arch::naked_asm!("pop rdi", "xor ebp, ebp", "ret")
}
