//! Signals: sending them, and keeping them away from ourselves.

use super::{Named, Pid, Result, Tid, check};
use std::marker::PhantomData;

/// Size of the kernel's signal set in bytes.
const SIGSET_SIZE: usize = 8;

/// Sends signal `sig` to a process; 0 only asks whether it exists.
pub fn kill(pid: Pid, sig: i32) -> Result<()> {
    // SAFETY: `kill` takes two numbers.
    check("kill", unsafe { libc::kill(pid.0, sig) }.into()).map(drop)
}

/// Sends signal `sig` to thread `tid` of process `pid`.
pub fn tgkill(pid: Pid, tid: Tid, sig: i32) -> Result<()> {
    // SAFETY: `tgkill` takes three numbers.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, pid.0, tid.0, sig) };
    check("tgkill", result).map(drop)
}

/// Replaces the calling thread's mask of blocked signals (bit n-1 = signal n) and returns the one before. It is the kernel's
/// call, not the C library's: that one leaves its own two signals unblocked.
pub fn set_mask(mask: u64) -> Result<u64> {
    let mut old = 0u64;
    // SAFETY: the kernel reads SIGSET_SIZE bytes of `mask` and writes as many to `old`, both of that size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut old,
            SIGSET_SIZE,
        )
    };
    check("rt_sigprocmask", result)?;
    Ok(old)
}

/// While it lives, no signal reaches the calling thread but SIGKILL and SIGSTOP.
#[derive(Debug)]
pub struct SignalsBlocked {
    before: u64,
    /// The mask is the thread's: the guard must not leave it.
    on_this_thread: PhantomData<*const ()>,
}

impl SignalsBlocked {
    /// Blocks all signals.
    pub fn new() -> Result<Self> {
        Ok(Self {
            before: set_mask(u64::MAX)?,
            on_this_thread: PhantomData,
        })
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // It cannot fail: the arguments are the same as those that succeeded in `new`.
        let _ = set_mask(self.before);
    }
}

/// Raises SIGKILL in the calling process.
pub fn kill_self() -> Result<()> {
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).named("raise")
}

/// Has a write beyond `RLIMIT_FSIZE` fail with `EFBIG`, and not end the process by SIGXFSZ. A handler, as what is ignored stays
/// ignored by programs that are executed.
pub fn outlive_file_limit() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: the handler does nothing, so it may run at any moment.
    unsafe { libc::signal(libc::SIGXFSZ, handler as libc::sighandler_t) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_blocks_and_puts_back() {
        let before = set_mask(0).expect("mask");
        let guard = SignalsBlocked::new().expect("block");
        let unblockable = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
        let during = set_mask(u64::MAX).expect("mask");
        assert_eq!(during, !unblockable);
        drop(guard);
        assert_eq!(set_mask(before), Ok(0));
    }

    #[test]
    fn a_process_that_does_not_exist_is_refused() {
        let error = kill(Pid(i32::MAX), 0).expect_err("no such process");
        assert_eq!(error.to_string(), "kill: No such process");
    }
}
