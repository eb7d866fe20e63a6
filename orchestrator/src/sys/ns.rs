//! Namespaces: leaving and entering them, and the clocks of a time namespace.

use super::clone::CloneFlags;
use super::{Error, Named, Pid, Result};
use nix::errno::Errno;
use nix::sched;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

/// Moves the calling thread (its children, for `NEWPID` and `NEWTIME`) into new namespaces, or gives it its own share of
/// what `FS` and `FILES` name.
pub fn unshare(flags: CloneFlags) -> Result<()> {
    sched::unshare(for_nix("unshare", flags)?).named("unshare")
}

/// Moves the calling thread into the namespace behind a descriptor, or into those that `flags` name of the process behind a
/// pidfd.
pub fn setns(namespace: impl AsFd, flags: CloneFlags) -> Result<()> {
    sched::setns(namespace, for_nix("setns", flags)?).named("setns")
}

fn for_nix(call: &'static str, flags: CloneFlags) -> Result<sched::CloneFlags> {
    let bits = u32::try_from(flags.bits()).map_err(|_| Error::new(call, Errno::EINVAL))?;
    Ok(sched::CloneFlags::from_bits_retain(bits as i32))
}

/// A network namespace, which is there as long as this is.
#[derive(Debug)]
pub struct Network {
    file: File,
}

impl Network {
    /// Returns that of a process.
    pub fn of(pid: Pid) -> Result<Self> {
        Self::open(&format!("/proc/{pid}/ns/net"))
    }

    /// Opens one by a path.
    pub fn open(path: &str) -> Result<Self> {
        let file = File::open(path).map_err(|error| failed("open(ns/net)", &error))?;
        Ok(Self { file })
    }

    /// Makes a new one; the caller stays where it is.
    pub fn new() -> Result<Self> {
        let make = || unshare(CloneFlags::NEWNET).and_then(|()| Self::here());
        std::thread::scope(|scope| scope.spawn(make).join().expect("no panic"))
    }

    /// Returns another handle.
    pub fn try_clone(&self) -> Result<Self> {
        let file = self.file.try_clone();
        let file = file.map_err(|error| failed("dup(ns/net)", &error))?;
        Ok(Self { file })
    }

    /// Returns that of the calling thread.
    pub fn here() -> Result<Self> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// Does something inside of it.
    ///
    /// # Panics
    /// Where there is no way back, which is always open to who could enter.
    pub fn within<R>(&self, act: impl FnOnce() -> R) -> Result<R> {
        let ours = Self::here()?;
        setns(&self.file, CloneFlags::NEWNET)?;
        let done = act();
        setns(&ours.file, CloneFlags::NEWNET).expect("we were there before");
        Ok(done)
    }
}

impl AsFd for Network {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn failed(call: &'static str, error: &std::io::Error) -> Error {
    let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    Error::new(call, errno)
}

/// How far a clock of a time namespace is ahead of the initial one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockOffset {
    /// Seconds, negative for behind.
    pub secs: i64,
    /// Nanoseconds, 0..1_000_000_000.
    pub nanos: u32,
}

impl ClockOffset {
    /// Returns the offset of this many nanoseconds.
    pub fn from_nanos(nanos: i128) -> Option<Self> {
        let second = 1_000_000_000;
        Some(Self {
            secs: nanos.div_euclid(second).try_into().ok()?,
            nanos: nanos.rem_euclid(second) as u32,
        })
    }

    /// Returns the offset in nanoseconds.
    pub fn as_nanos(self) -> i128 {
        i128::from(self.secs) * 1_000_000_000 + i128::from(self.nanos)
    }
}

/// Sets the clocks of the time namespace that the calling process's children will be in, after `unshare(NEWTIME)` and before
/// its first child: `ERANGE` where a clock would be negative or too large.
pub fn set_clock_offsets(monotonic: ClockOffset, boottime: ClockOffset) -> Result<()> {
    let call = "write(timens_offsets)";
    let text = format!(
        "monotonic {} {}\nboottime {} {}\n",
        monotonic.secs, monotonic.nanos, boottime.secs, boottime.nanos
    );
    let failed = |error: std::io::Error| failed(call, &error);
    let path = "/proc/self/timens_offsets";
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(failed)?;
    // The kernel takes both lines in one write only.
    file.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Tid;
    use crate::sys::wait::{WaitStatus, wait_tid};

    #[test]
    fn offsets_keep_their_nanoseconds_positive() {
        let offset = ClockOffset::from_nanos(-1).expect("fits");
        assert_eq!((offset.secs, offset.nanos), (-1, 999_999_999));
        assert_eq!(offset.as_nanos(), -1);
        assert_eq!(ClockOffset::from_nanos(i128::MAX), None);
    }

    #[test]
    fn a_namespace_gets_its_clocks() {
        if !nix::unistd::geteuid().is_root() {
            let refused = unshare(CloneFlags::NEWTIME).expect_err("not root");
            assert_eq!(refused.errno, Errno::EPERM);
            return;
        }
        // SAFETY: the child only makes system calls and allocates, which glibc allows after a fork.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let offset = ClockOffset {
                secs: 1000,
                nanos: 5,
            };
            let done =
                unshare(CloneFlags::NEWTIME).and_then(|()| set_clock_offsets(offset, offset));
            let read = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
            let words: Vec<&str> = read.split_whitespace().collect();
            let right = words == ["monotonic", "1000", "5", "boottime", "1000", "5"];
            std::process::exit(i32::from(done.is_err() || !right));
        }
        assert_eq!(wait_tid(Tid(child)), Ok(WaitStatus::Exited(0)));
    }
}
