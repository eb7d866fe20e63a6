//! Bounds that images are checked against: what no kernel gives, no image may say.

use super::error::{Checked, wrong};
use crate::snapshot::PAGE_SIZE;

/// Largest file descriptor number: the most that `fs.nr_open` allows without being raised.
pub(crate) const MAX_FD: u32 = 1 << 20;
/// First address after user space with five-level page tables (the last page is never mapped).
pub(crate) const USER_END: u64 = (1 << 56) - PAGE_SIZE;
/// Longest path, `PATH_MAX`.
pub(crate) const MAX_PATH: usize = 4096;
/// Largest number of pages in one run: 4 PiB.
pub(crate) const MAX_PAGES: u64 = 1 << 40;
/// Nanoseconds in a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// Checks a path: absolute, without NUL, not too long.
pub(crate) fn path(path: &[u8]) -> Checked<()> {
    if !path.starts_with(b"/") {
        return wrong!("path {:?} is not absolute", String::from_utf8_lossy(path));
    }
    if path.len() > MAX_PATH {
        return wrong!("path of {} bytes is longer than {MAX_PATH}", path.len());
    }
    if path.contains(&0) {
        return wrong!("path {:?} holds a NUL byte", String::from_utf8_lossy(path));
    }
    Ok(())
}

/// Checks a thread's or task's name: at most 15 bytes, no NUL.
pub(crate) fn comm(comm: &[u8]) -> Checked<Vec<u8>> {
    if comm.len() > 15 || comm.contains(&0) {
        return wrong!(
            "name {:?} is no name of a thread",
            String::from_utf8_lossy(comm)
        );
    }
    Ok(comm.to_vec())
}

/// Returns a process id, group or session from its record; 0 is allowed.
pub(crate) fn pid(value: u32) -> Checked<i32> {
    // Documentation/admin-guide/sysctl/kernel.rst: pid_max is at most 2^22 (PID_MAX_LIMIT).
    if value > 1 << 22 {
        return wrong!("{value} is no process id");
    }
    Ok(value as i32)
}

/// Returns a descriptor number from its record.
pub(crate) fn fd(value: u32) -> Checked<i32> {
    if value > MAX_FD {
        return wrong!("{value} is no descriptor number");
    }
    Ok(value as i32)
}

/// Checks a signal's number; 0 is allowed.
pub(crate) fn signal(value: u32) -> Checked<u32> {
    if value > 64 {
        return wrong!("{value} is no signal");
    }
    Ok(value)
}

/// Returns seconds and a fraction in units of `unit_ns` nanoseconds as nanoseconds.
pub(crate) fn nanoseconds(seconds: u64, fraction: u64, unit_ns: u64) -> Checked<u64> {
    if fraction
        .checked_mul(unit_ns)
        .is_none_or(|ns| ns >= SECOND_NS)
    {
        return wrong!("the fraction {fraction} is not below a second");
    }
    match seconds
        .checked_mul(SECOND_NS)
        .and_then(|ns| ns.checked_add(fraction * unit_ns))
    {
        Some(ns) => Ok(ns),
        None => wrong!("{seconds} seconds is more than the kernel counts"),
    }
}

/// Checks an address in user space; 0 is allowed.
pub(crate) fn address(value: u64) -> Checked<u64> {
    if value > USER_END {
        return wrong!("{value:#x} is no address of user space");
    }
    Ok(value)
}
