//! A program as data: a list of 64-byte operations, each a system call or a special operation, with the kinds of its
//! arguments, the check on its result and the object it is for.
//!
//! The same operations serve both blobs: the restorer runs a whole task's restore, the parasite runs short batches of
//! questions. Results stand apart from the operations, one `i64` each, so that an operation is one cache line.

use static_assertions::const_assert_eq;

/// Most arguments that a Linux system call takes.
pub const ARGS: usize = 6;

/// One operation of a program. 64 bytes, one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// System-call number, or a number of [`special`].
    pub nr: u16,
    /// Two bits per argument ([`ArgKind`]), argument 0 lowest; the upper four bits are the [`Check`].
    pub kinds: u16,
    /// Number of the object that the operation is for; only the host knows names for it.
    pub obj: u32,
    /// Arguments, to be read by their kinds.
    pub args: [u64; ARGS],
    /// What [`Check`] compares the result with.
    pub expect: i64,
}

const_assert_eq!(size_of::<Op>(), 64);
const_assert_eq!(memoffset::offset_of!(Op, args), 8);
const_assert_eq!(memoffset::offset_of!(Op, expect), 56);

/// How an argument is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ArgKind {
    /// The argument itself.
    Immediate = 0,
    /// The result of an earlier operation of the same program: the argument is its index.
    Result = 1,
    /// The `u32` at the address in the argument, zero-extended (a descriptor that `pipe2` wrote, say).
    Load32 = 2,
    /// The `u64` at the address in the argument.
    Load64 = 3,
}

/// What result lets the program go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Check {
    /// Any result that is no error (outside of -4095..=-1).
    Success = 0,
    /// Exactly `expect`.
    Equal = 1,
    /// A success, or exactly the error `expect` (a negative errno).
    SuccessOr = 2,
    /// Whatever comes.
    Ignore = 3,
}

/// Special operations: numbers above every system call.
pub mod special {
    /// First number that is not a system call.
    pub const FIRST: u16 = 0x8000;
    /// Does nothing; a place for a comment in a printed plan.
    pub const NOP: u16 = 0x8000;
    /// Waits until `args[1]` contexts have arrived at the barrier whose counter is the `u32` at `args[0]`. The host is
    /// told of this one's arrival where `args[2]` is not 0.
    pub const BARRIER: u16 = 0x8001;
    /// Parks: counts itself in [`super::super::restore::Head::parked`], wakes the host, and waits to be taken by ptrace.
    pub const PARK: u16 = 0x8002;
    /// Copies `args[2]` bytes from `args[1]` to `args[0]`.
    pub const COPY: u16 = 0x8003;
    /// Reads into the `args[2]` vectors at `args[1]` from descriptor `args[0]` at offset `args[3]` until all is there
    /// (short reads and EINTR go on); the vectors are used up. Result: bytes read; -ENODATA at an early end of file.
    pub const READ_FULL: u16 = 0x8004;
    /// Makes the AMX tile registers usable in this thread (`ldtilecfg; tilezero; tilerelease`), once permission was asked.
    pub const AMX: u16 = 0x8005;
    /// Looks at `args[1]` pages from `args[0]` on: bit n of the bitmap at `args[2]` becomes 1 where page n is all zeros.
    /// Result: number of such pages. Reads the pages: only for pages known to be present.
    pub const ZERO_SCAN: u16 = 0x8006;
    /// Stores result number `args[1]` (always kind `Result`) as `u32` at the address `args[0]`.
    pub const STORE32: u16 = 0x8007;
    /// Ends this task with the status in `args[0]` (zombies), without a report.
    pub const EXIT: u16 = 0x8008;
    /// Opens the node at `args[0]`, which makes masters of pseudo-terminals, until one has the index `args[1]`, and moves that
    /// to the descriptor `args[2]`; those before it stand at `args[3]` and above meanwhile. Result: the descriptor; -EEXIST
    /// where the index is in use.
    pub const PTY: u16 = 0x8009;
    /// Makes reads that others make too: the `args[2]` reads at `args[1]`, each four words that are the arguments of a
    /// [`READ_FULL`], are taken one by one by the number at `args[0]`, a `u32` that all share. Result: bytes read here.
    pub const READ_SHARED: u16 = 0x800a;
    /// Copies the address space of this process into a process that is a child of nobody here, and serves the slot at
    /// `args[0]`. Its maker stands on the stack whose upper end is `args[1]`, and it on that of `args[2]`. Result: its number.
    pub const COPY_SPACE: u16 = 0x800b;
    /// Name of a special operation, for printed plans.
    pub const fn name(nr: u16) -> &'static str {
        match nr {
            NOP => "nop",
            BARRIER => "barrier",
            PARK => "park",
            COPY => "copy",
            READ_FULL => "read_full",
            AMX => "amx",
            ZERO_SCAN => "zero_scan",
            STORE32 => "store32",
            EXIT => "exit",
            PTY => "pty",
            READ_SHARED => "read_shared",
            COPY_SPACE => "copy_space",
            _ => "unknown",
        }
    }
}

/// Largest errno as the kernel returns it, negated, from a system call (`include/linux/err.h`).
pub const MAX_ERRNO: i64 = 4095;

/// Returns whether a raw result is an error number.
pub const fn is_error(result: i64) -> bool {
    result < 0 && result >= -MAX_ERRNO
}

impl Op {
    /// Returns a system call with immediate arguments that has to succeed.
    pub const fn call(nr: u32, args: [u64; ARGS]) -> Self {
        Self {
            nr: nr as u16,
            kinds: 0,
            obj: 0,
            args,
            expect: 0,
        }
    }

    /// Returns a special operation with immediate arguments that has to succeed.
    pub const fn special(nr: u16, args: [u64; ARGS]) -> Self {
        Self {
            nr,
            kinds: 0,
            obj: 0,
            args,
            expect: 0,
        }
    }

    /// Returns the operation with argument `index` read as `kind`.
    #[must_use]
    pub const fn arg(mut self, index: usize, kind: ArgKind) -> Self {
        self.kinds = (self.kinds & !(3 << (2 * index))) | ((kind as u16) << (2 * index));
        self
    }

    /// Returns the operation with this check on its result.
    #[must_use]
    pub const fn check(mut self, check: Check, expect: i64) -> Self {
        self.kinds = (self.kinds & 0x0fff) | ((check as u16) << 12);
        self.expect = expect;
        self
    }

    /// Returns the operation as done for this object.
    #[must_use]
    pub const fn object(mut self, obj: u32) -> Self {
        self.obj = obj;
        self
    }

    /// Returns how argument `index` is to be read.
    pub const fn arg_kind(&self, index: usize) -> ArgKind {
        match (self.kinds >> (2 * index)) & 3 {
            0 => ArgKind::Immediate,
            1 => ArgKind::Result,
            2 => ArgKind::Load32,
            _ => ArgKind::Load64,
        }
    }

    /// Returns the check on the result; an unknown one is the strictest.
    pub const fn result_check(&self) -> Check {
        match self.kinds >> 12 {
            0 => Check::Success,
            2 => Check::SuccessOr,
            3 => Check::Ignore,
            _ => Check::Equal,
        }
    }

    /// Returns whether this result lets the program go on.
    pub const fn accepts(&self, result: i64) -> bool {
        match self.result_check() {
            Check::Success => !is_error(result),
            Check::Equal => result == self.expect,
            Check::SuccessOr => !is_error(result) || result == self.expect,
            Check::Ignore => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_checks_are_kept_apart() {
        let op = Op::call(9, [0; ARGS])
            .arg(5, ArgKind::Load64)
            .arg(1, ArgKind::Result)
            .check(Check::SuccessOr, -17);
        assert_eq!(op.arg_kind(0), ArgKind::Immediate);
        assert_eq!(op.arg_kind(1), ArgKind::Result);
        assert_eq!(op.arg_kind(5), ArgKind::Load64);
        assert_eq!(op.result_check(), Check::SuccessOr);
        assert!(op.accepts(-17) && op.accepts(3) && !op.accepts(-1));
    }

    #[test]
    fn addresses_in_the_upper_half_are_no_errors() {
        assert!(!is_error(-4096));
        assert!(is_error(-4095) && is_error(-1));
        assert!(!is_error(0));
    }
}
