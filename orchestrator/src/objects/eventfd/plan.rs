//! From the fact to operations. Pure.

use crate::plan::Builder;
use crate::snapshot::EventFd;

/// Adds the creation with the counter as it was.
pub fn plan_create(b: &mut Builder, eventfd: &EventFd, flags: u32) -> i32 {
    let flags = u64::from(flags & libc::O_NONBLOCK as u32);
    match u32::try_from(eventfd.counter) {
        Ok(counter) => b.open(libc::SYS_eventfd2, &[u64::from(counter), flags]),
        Err(_) => {
            let fd = b.open(libc::SYS_eventfd2, &[0, flags]);
            b.write_all(fd, &eventfd.counter.to_le_bytes());
            fd
        }
    }
}
