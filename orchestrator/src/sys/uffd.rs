//! userfaultfd. Of what was written: asynchronous write protection (`UFFD_FEATURE_WP_ASYNC`, 6.7 and up): the kernel takes the
//! protection off by itself at the first write to a page, and `PAGEMAP_SCAN` tells which pages have lost it. Of what is
//! missing: whoever touches a page that is not there waits until it is put there.

use super::{Error, RemoteAddr, Result, check};
use nix::errno::Errno;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `UFFD_USER_MODE_ONLY`: needs no privilege (5.11). It limits who is told of a fault; what is written is tracked all the same.
pub const USER_MODE_ONLY: u64 = 1;
/// `UFFD_API`.
const API: u64 = 0xaa;
/// `UFFD_FEATURE_WP_ASYNC`.
const WP_ASYNC: u64 = 1 << 15;
/// `UFFD_FEATURE_EVENT_FORK`, `_REMAP`, `_REMOVE`, `_UNMAP`.
const EVENTS: u64 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6;
/// `UFFDIO_REGISTER_MODE_MISSING`.
const MODE_MISSING: u64 = 1;
/// `UFFDIO_REGISTER_MODE_WP`.
const MODE_WP: u64 = 1 << 1;
/// `_IOWR(0xaa, 0x3f, struct uffdio_api)`.
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
/// `_IOWR(0xaa, 0, struct uffdio_register)`.
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;

/// `_IOR(0xaa, 2, struct uffdio_range)`.
const UFFDIO_WAKE: libc::c_ulong = 0x8010_aa02;
/// `_IOWR(0xaa, 3, struct uffdio_copy)`.
const UFFDIO_COPY: libc::c_ulong = 0xc028_aa03;
/// `_IOWR(0xaa, 4, struct uffdio_zeropage)`.
const UFFDIO_ZEROPAGE: libc::c_ulong = 0xc020_aa04;
/// Bytes of `struct uffd_msg`.
const MESSAGE: usize = 32;

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
    enable(uffd, WP_ASYNC)
}

/// Begins to use a new userfaultfd for missing pages, with news of what becomes of the memory. `EPERM` without CAP_SYS_PTRACE.
pub fn enable_missing(uffd: impl AsFd) -> Result<()> {
    enable(uffd, EVENTS)
}

fn enable(uffd: impl AsFd, features: u64) -> Result<()> {
    let mut api = [API, features, 0u64];
    // SAFETY: the kernel reads and writes one `struct uffdio_api`, which is three words.
    let result = unsafe { libc::ioctl(uffd.as_fd().as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) };
    check("ioctl(UFFDIO_API)", result.into()).map(drop)
}

/// Registers a range of the process that the userfaultfd belongs to. What is registered with it already stays so; `EBUSY`
/// where another has it, `ESRCH` where the address space is gone.
pub fn register(uffd: impl AsFd, range: Range<RemoteAddr>) -> Result<()> {
    register_as(uffd, range, MODE_WP)
}

/// As [`register`], to be told of pages that are missing.
pub fn register_missing(uffd: impl AsFd, range: Range<RemoteAddr>) -> Result<()> {
    register_as(uffd, range, MODE_MISSING)
}

fn register_as(uffd: impl AsFd, range: Range<RemoteAddr>, mode: u64) -> Result<()> {
    let mut register = [range.start.0, range.end.0 - range.start.0, mode, 0];
    let fd = uffd.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes one `struct uffdio_register`, which is four words.
    let result = unsafe { libc::ioctl(fd, UFFDIO_REGISTER, register.as_mut_ptr()) };
    check("ioctl(UFFDIO_REGISTER)", result.into()).map(drop)
}

/// What a userfaultfd tells.
#[derive(Debug)]
pub enum Event {
    /// Somebody waits for a page that is not there.
    Fault(RemoteAddr),
    /// The process has forked; the child's memory is registered with this one.
    Fork(OwnedFd),
    /// Memory was moved: from, to, bytes.
    Remap(RemoteAddr, RemoteAddr, u64),
    /// Pages are thrown away, and will be zeros.
    Remove(Range<RemoteAddr>),
    /// Memory is unmapped.
    Unmap(Range<RemoteAddr>),
    /// Something else.
    Other(u8),
}

/// Reads what is told, as far as there is any. Whoever caused an event goes on by that.
pub fn read_events(uffd: impl AsFd) -> Result<Vec<Event>> {
    let mut bytes = [0_u8; MESSAGE * 16];
    match nix::unistd::read(&uffd, &mut bytes) {
        Ok(len) => Ok(bytes[..len].chunks_exact(MESSAGE).map(event).collect()),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(Vec::new()),
        Err(errno) => Err(Error::new("read of a userfaultfd", errno)),
    }
}

/// Returns what a message says (`struct uffd_msg`, `include/uapi/linux/userfaultfd.h`).
fn event(message: &[u8]) -> Event {
    let word = |at: usize| {
        let bytes = message[8 + at * 8..][..8].try_into();
        u64::from_ne_bytes(bytes.expect("a message has three words behind its head"))
    };
    let range = || RemoteAddr(word(0))..RemoteAddr(word(1));
    match message[0] {
        // UFFD_EVENT_PAGEFAULT: flags, address.
        0x12 => Event::Fault(RemoteAddr(word(1))),
        // SAFETY: the kernel has made this descriptor for whoever reads the message, which is us.
        0x13 => Event::Fork(unsafe { OwnedFd::from_raw_fd(word(0) as u32 as i32) }),
        0x14 => Event::Remap(RemoteAddr(word(0)), RemoteAddr(word(1)), word(2)),
        0x15 => Event::Remove(range()),
        0x16 => Event::Unmap(range()),
        other => Event::Other(other),
    }
}

/// Puts pages where none are, and wakes who waits for them; returns how many bytes. `EEXIST` where the first is there, `EAGAIN`
/// as long as there is an event to be read, `ENOENT` where not all of it is in one area that is registered, `ESRCH` where the
/// address space is gone.
pub fn copy(uffd: impl AsFd, to: RemoteAddr, pages: &[u8]) -> Result<u64> {
    let mut copy = [to.0, pages.as_ptr() as u64, pages.len() as u64, 0, 0];
    let fd = uffd.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes one `struct uffdio_copy`, which is five words, and reads `pages.len()` bytes of `pages`.
    let result = unsafe { libc::ioctl(fd, UFFDIO_COPY, copy.as_mut_ptr()) };
    done("ioctl(UFFDIO_COPY)", result, copy[4])
}

/// Puts pages of zeros where none are; as [`copy`].
pub fn zero(uffd: impl AsFd, range: Range<RemoteAddr>) -> Result<u64> {
    let mut zero = [range.start.0, range.end.0 - range.start.0, 0, 0];
    let fd = uffd.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes one `struct uffdio_zeropage`, which is four words.
    let result = unsafe { libc::ioctl(fd, UFFDIO_ZEROPAGE, zero.as_mut_ptr()) };
    done("ioctl(UFFDIO_ZEROPAGE)", result, zero[3])
}

/// Returns the bytes that were done before an error, if any were.
fn done(call: &'static str, result: i32, bytes: u64) -> Result<u64> {
    match check(call, result.into()) {
        Err(_) if bytes as i64 > 0 => Ok(bytes),
        Err(error) => Err(error),
        Ok(_) => Ok(bytes),
    }
}

/// Wakes who waits for a page of this range.
pub fn wake(uffd: impl AsFd, range: Range<RemoteAddr>) -> Result<()> {
    let mut range = [range.start.0, range.end.0 - range.start.0];
    let fd = uffd.as_fd().as_raw_fd();
    // SAFETY: the kernel reads one `struct uffdio_range`, which is two words.
    let result = unsafe { libc::ioctl(fd, UFFDIO_WAKE, range.as_mut_ptr()) };
    check("ioctl(UFFDIO_WAKE)", result.into()).map(drop)
}
