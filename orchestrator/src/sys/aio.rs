//! Contexts of asynchronous I/O.

use super::{Result, check};
use nix::errno::Errno;

const PAGE: usize = 4096;

/// Returns whether a context survives that its ring is moved.
///
/// # Errors
/// There can be no context now.
pub fn can_move_ring() -> Result<bool> {
    let mut id = 0u64;
    // SAFETY: the word lives until the call is over.
    let made = unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut id) };
    check("io_setup", made)?;
    let ring = id as *mut libc::c_void;
    let second = (id + 4) as *const u32;
    // SAFETY: the kernel mapped the ring there, whose second word is the number of its events.
    let events = unsafe { second.read_volatile() };
    let len = (32 * (events as usize + 1)).next_multiple_of(PAGE);
    let (none, flags) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, at an address of the kernel's choice.
    let room = unsafe { libc::mmap(std::ptr::null_mut(), len, none, flags, -1, 0) };
    if room == libc::MAP_FAILED {
        return Err(super::Error::new("mmap", Errno::last()));
    }
    let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the ring is used by nobody but the context, the room by nobody at all.
    let moved = unsafe { libc::mremap(ring, len, len, how, room) };
    let place = if moved == room { room } else { ring };
    // SAFETY: the kernel looks the context up by its id; it unmaps the ring, which nobody uses.
    let destroyed = unsafe { libc::syscall(libc::SYS_io_destroy, place) };
    Ok(moved == room && destroyed == 0)
}
