//! The frame from which `rt_sigreturn` brings a thread back (`arch/x86/include/asm/sigframe.h`, `struct rt_sigframe`).
//!
//! The kernel takes extended state from the frame only if the two magic words and the size agree; a size larger than what
//! the thread has room for makes it take the legacy part alone, without an error. So the size is that of the components
//! that every thread has: all but AMX tiles, unless the state has some (Intel SDM; `check_xstate_in_sigframe`).

use super::regs::Regs;
use super::xstate;

/// Offsets in the frame: return address, then `struct ucontext` with `struct sigcontext_64` in it.
const UC_FLAGS: usize = 8;
const UC_STACK_FLAGS: usize = 32;
const MCONTEXT: usize = 48;
const UC_SIGMASK: usize = MCONTEXT + 256;
/// Return address, `ucontext`, `siginfo`.
const FRAME_LEN: usize = 8 + 304 + 128;
/// Alignment of an XSAVE area.
const XSTATE_ALIGN: usize = 64;
/// Most bytes that the extended state of a frame takes, with the closing magic word.
const XSTATE_ROOM: usize = 12 << 10;
/// Room for a frame with all of it.
pub const ROOM: usize = FRAME_LEN.next_multiple_of(XSTATE_ALIGN) + XSTATE_ROOM;

/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const UC_FLAGS_VALUE: u64 = 7;
/// A flag that `sigaltstack` refuses, so that `rt_sigreturn` leaves the alternate stack as it is (`restore_altstack`).
const NO_ALTSTACK: u32 = 0x7fff_0000;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// `sw_reserved` of the legacy area.
const SW_RESERVED: usize = 464;
const XSTATE_BV: usize = 512;
/// Components 17 and 18: AMX.
const AMX: u64 = 3 << 17;

/// How much of an XSAVE area belongs in a frame on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Of a thread that uses no tiles.
    plain: usize,
    /// Of one that does.
    with_tiles: usize,
    /// Of the whole area, as `NT_X86_XSTATE` gives and takes it.
    area: usize,
}

impl Sizes {
    /// Returns those of this machine. Ask once: under virtualization each question to the processor leaves the guest.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let mut sizes = Self {
            plain: XSTATE_BV + 64,
            with_tiles: XSTATE_BV + 64,
            area: xstate::area_len(),
        };
        for (number, place) in xstate::components() {
            let end = place.offset + place.len;
            sizes.with_tiles = sizes.with_tiles.max(end);
            if AMX >> number & 1 == 0 {
                sizes.plain = sizes.plain.max(end);
            }
        }
        sizes
    }

    /// Returns the length of the whole area.
    #[must_use]
    pub fn area(&self) -> usize {
        self.area
    }

    /// Returns how much of an area says something: what comes after it is in its initial state.
    #[must_use]
    pub fn used(&self, state: &[u8]) -> usize {
        let has_tiles = xstate_bv(state) & AMX != 0;
        let used = if has_tiles {
            self.with_tiles
        } else {
            self.plain
        };
        used.min(state.len())
    }

    /// Returns the length in bytes of the frame for a thread with this extended state.
    #[must_use]
    pub fn frame(&self, state: &[u8]) -> usize {
        FRAME_LEN.next_multiple_of(XSTATE_ALIGN) + self.used(state) + 4
    }
}

/// Writes the frame for a thread with this state at the start of `out`, which lies at address `at` of the target (aligned
/// to 64), and returns the stack pointer with which `rt_sigreturn` finds it. `None` if there is no room.
#[must_use]
pub fn build(
    at: u64,
    regs: &Regs,
    blocked: u64,
    (sizes, state): (&Sizes, &[u8]),
    out: &mut [u8],
) -> Option<u64> {
    let state_at = FRAME_LEN.next_multiple_of(XSTATE_ALIGN);
    let size = sizes.used(state);
    if out.len() < state_at + size + 4 || size < XSTATE_BV + 64 {
        return None;
    }
    out[..state_at].fill(0);
    put(out, UC_FLAGS, UC_FLAGS_VALUE);
    out[UC_STACK_FLAGS..UC_STACK_FLAGS + 4].copy_from_slice(&NO_ALTSTACK.to_le_bytes());
    let words = [
        regs.r8,
        regs.r9,
        regs.r10,
        regs.r11,
        regs.r12,
        regs.r13,
        regs.r14,
        regs.r15,
        regs.rdi,
        regs.rsi,
        regs.rbp,
        regs.rbx,
        regs.rdx,
        regs.rax,
        regs.rcx,
        regs.rsp,
        regs.rip,
        regs.eflags,
        (regs.cs & 0xffff) | (regs.ss & 0xffff) << 48,
    ];
    for (index, word) in words.into_iter().enumerate() {
        put(out, MCONTEXT + 8 * index, word);
    }
    put(out, MCONTEXT + 23 * 8, at + state_at as u64);
    put(out, UC_SIGMASK, blocked);
    put_state(&mut out[state_at..], &state[..size]);
    Some(at + 8)
}

fn put(out: &mut [u8], at: usize, value: u64) {
    out[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn put_state(out: &mut [u8], state: &[u8]) {
    let size = state.len();
    out[..size].copy_from_slice(state);
    let features = xstate_bv(state) | 3;
    out[SW_RESERVED..SW_RESERVED + 48].fill(0);
    out[SW_RESERVED..SW_RESERVED + 4].copy_from_slice(&FP_XSTATE_MAGIC1.to_le_bytes());
    out[SW_RESERVED + 4..SW_RESERVED + 8].copy_from_slice(&(size as u32 + 4).to_le_bytes());
    put(out, SW_RESERVED + 8, features);
    out[SW_RESERVED + 16..SW_RESERVED + 20].copy_from_slice(&(size as u32).to_le_bytes());
    out[size..size + 4].copy_from_slice(&FP_XSTATE_MAGIC2.to_le_bytes());
}

fn xstate_bv(state: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    if let Some(found) = state.get(XSTATE_BV..XSTATE_BV + 8) {
        bytes.copy_from_slice(found);
    }
    u64::from_le_bytes(bytes)
}
