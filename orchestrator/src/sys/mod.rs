//! The host's only gate to the kernel: one file per topic, thin typed wrappers, no policy.
//!
//! It is the only module of this crate that may be `unsafe` and the only one that calls `libc` functions. Each wrapper makes
//! one system call, takes and returns types that cannot be mistaken for each other, and fails with [`Error`], which names
//! the call. What an error means, and whether to try again, is decided by the caller.
#![expect(
    unsafe_code,
    reason = "system calls; the rest of the crate goes through these wrappers"
)]

pub mod aio;
pub mod at_end;
pub mod bpf;
pub mod clock;
pub mod clone;
pub mod fd;
pub mod file;
pub mod folder;
pub mod futex;
pub mod handle;
pub mod ipc;
pub mod lifeline;
pub mod mem;
pub mod mqueue;
pub mod ns;
pub mod pagemap_scan;
pub mod pipe;
pub mod poll;
pub mod process;
pub mod ptrace;
pub mod sched;
pub mod shared;
pub mod signal;
pub mod socket;
pub mod tmpfs;
pub mod tty;
pub mod tun;
pub mod types;
pub mod uffd;
pub mod wait;
pub mod zero_page;

pub use types::{Pid, RemoteAddr, RemoteFd, Tid};

use nix::errno::Errno;

/// What every wrapper of this module returns.
pub type Result<T> = std::result::Result<T, Error>;

/// A system call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {}", errno.desc())]
pub struct Error {
    /// The call's name, with its request where it has many: `ptrace(PTRACE_SEIZE)`.
    pub call: &'static str,
    /// Why the kernel refused.
    pub errno: Errno,
}

impl Error {
    /// Returns the error `errno` of `call`.
    pub fn new(call: &'static str, errno: Errno) -> Self {
        Self { call, errno }
    }
}

/// Names the call that nix made.
trait Named<T> {
    /// Turns nix's error into ours.
    fn named(self, call: &'static str) -> Result<T>;
}

impl<T> Named<T> for nix::Result<T> {
    fn named(self, call: &'static str) -> Result<T> {
        self.map_err(|errno| Error::new(call, errno))
    }
}

/// Makes system call `nr` and returns its result, or the error it left in `errno`.
///
/// # Safety
/// The caller answers for what the system call does with `args`: pointers among them are valid for it.
unsafe fn syscall(call: &'static str, nr: libc::c_long, args: [usize; 6]) -> Result<usize> {
    let [a0, a1, a2, a3, a4, a5] = args;
    // SAFETY: `syscall` takes six words whatever the call; what they do is the caller's to answer for.
    let result = unsafe { libc::syscall(nr, a0, a1, a2, a3, a4, a5) };
    check(call, result)
}

/// Returns the result of a libc call, or the error it left in `errno`.
fn check(call: &'static str, result: libc::c_long) -> Result<usize> {
    usize::try_from(result).map_err(|_| Error::new(call, Errno::last()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_call_and_reason() {
        let error = Error::new("ptrace(PTRACE_SEIZE)", Errno::EPERM);
        assert_eq!(
            error.to_string(),
            "ptrace(PTRACE_SEIZE): Operation not permitted"
        );
    }
}
