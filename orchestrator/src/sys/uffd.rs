//! userfaultfd, as far as it tells what was written: asynchronous write protection (`UFFD_FEATURE_WP_ASYNC`, 6.7 and up). The
//! kernel takes the protection off by itself at the first write to a page, and `PAGEMAP_SCAN` tells which pages have lost it.

use super::{RemoteAddr, Result, check};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `UFFD_USER_MODE_ONLY`: needs no privilege (5.11). It limits who is told of a fault; what is written is tracked all the same.
pub const USER_MODE_ONLY: u64 = 1;
/// `UFFD_API`.
const API: u64 = 0xaa;
/// `UFFD_FEATURE_WP_ASYNC`.
const WP_ASYNC: u64 = 1 << 15;
/// `UFFDIO_REGISTER_MODE_WP`.
const MODE_WP: u64 = 1 << 1;
/// `_IOWR(0xaa, 0x3f, struct uffdio_api)`.
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
/// `_IOWR(0xaa, 0, struct uffdio_register)`.
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;

/// Returns a userfaultfd for our own memory.
pub fn userfaultfd() -> Result<OwnedFd> {
    let flags = libc::O_CLOEXEC as u64 | libc::O_NONBLOCK as u64 | USER_MODE_ONLY;
    // SAFETY: `userfaultfd` takes a number.
    let result = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
    let fd = check("userfaultfd", result)?;
    // SAFETY: the kernel just made this descriptor for us; nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Begins to use a new userfaultfd for asynchronous write protection; `EINVAL` where the kernel has none.
pub fn enable_async(uffd: impl AsFd) -> Result<()> {
    let mut api = [API, WP_ASYNC, 0u64];
    // SAFETY: the kernel reads and writes one `struct uffdio_api`, which is three words.
    let result = unsafe { libc::ioctl(uffd.as_fd().as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) };
    check("ioctl(UFFDIO_API)", result.into()).map(drop)
}

/// Registers a range of the process that the userfaultfd belongs to. What is registered with it already stays so; `EBUSY`
/// where another has it, `ESRCH` where the address space is gone.
pub fn register(uffd: impl AsFd, range: Range<RemoteAddr>) -> Result<()> {
    let mut register = [range.start.0, range.end.0 - range.start.0, MODE_WP, 0];
    let fd = uffd.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes one `struct uffdio_register`, which is four words.
    let result = unsafe { libc::ioctl(fd, UFFDIO_REGISTER, register.as_mut_ptr()) };
    check("ioctl(UFFDIO_REGISTER)", result.into()).map(drop)
}
