//! The part of the interpreter that both blobs share: reads an operation's arguments by their kinds and makes its
//! system call. Special operations are the blobs' own.
#![expect(unsafe_code, reason = "operations read memory by addresses in data")]

use crate::abi::program::{ARGS, ArgKind, Op};

/// Resolves the arguments of `op`.
///
/// # Safety
/// The results at `results` cover every index that an argument of kind `Result` names, and every address of kind
/// `Load32` or `Load64` is readable and aligned.
#[must_use]
pub unsafe fn arguments(op: &Op, results: *const i64) -> [u64; ARGS] {
    let mut args = op.args;
    for (index, arg) in args.iter_mut().enumerate() {
        *arg = match op.arg_kind(index) {
            ArgKind::Immediate => *arg,
            ArgKind::Result => {
                // SAFETY: the caller promises that results cover the index.
                let slot = unsafe { results.add(*arg as usize) };
                // SAFETY: as above; results are initialised (zero-filled mapping) and aligned to 8.
                unsafe { slot.read_volatile() as u64 }
            }
            // SAFETY: the caller promises a readable, aligned address.
            ArgKind::Load32 => u64::from(unsafe { (*arg as *const u32).read_volatile() }),
            // SAFETY: the caller promises a readable, aligned address.
            ArgKind::Load64 => unsafe { (*arg as *const u64).read_volatile() },
        };
    }
    args
}

/// Makes the system call of `op` with resolved arguments and returns its raw result.
///
/// # Safety
/// Whatever the system call does to memory is what the author of the program wants.
pub unsafe fn call(op: &Op, a: &[u64; ARGS]) -> i64 {
    // SAFETY: the caller answers for the system call.
    unsafe { crate::native::gate::syscall(u64::from(op.nr), a[0], a[1], a[2], a[3], a[4], a[5]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::program::Check;

    #[test]
    fn arguments_are_read_by_their_kinds() {
        let results = [7i64, -3];
        let word = 5u32;
        let op = Op::call(1, [1, 0, &raw const word as u64, 9, 0, 0])
            .arg(0, ArgKind::Result)
            .arg(1, ArgKind::Result)
            .arg(2, ArgKind::Load32)
            .check(Check::Ignore, 0);
        // SAFETY: two results cover the indices 0 and 1; the address is that of `word`.
        let args = unsafe { arguments(&op, results.as_ptr()) };
        assert_eq!(args, [-3i64 as u64, 7, 5, 9, 0, 0]);
    }
}
