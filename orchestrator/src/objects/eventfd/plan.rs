//! From the fact to operations. Pure.

use crate::plan::Builder;
use crate::snapshot::EventFd;

/// Adds the creation with the counter as it was.
pub fn plan_create(b: &mut Builder, eventfd: &EventFd, flags: u32) -> i32 {
    let semaphore = u64::from(eventfd.semaphore) * libc::EFD_SEMAPHORE as u64;
    let flags = u64::from(flags & libc::O_NONBLOCK as u32) | semaphore;
    match u32::try_from(eventfd.counter) {
        Ok(counter) => b.open(libc::SYS_eventfd2, &[u64::from(counter), flags]),
        Err(_) => {
            let fd = b.open(libc::SYS_eventfd2, &[0, flags]);
            b.write_all(fd, &eventfd.counter.to_le_bytes());
            fd
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_counter_is_written() {
        let mut b = Builder::for_test();
        let counter = u64::from(u32::MAX);
        let semaphore = false;
        plan_create(&mut b, &EventFd { counter, semaphore }, 0o4002);
        plan_create(
            &mut b,
            &EventFd {
                counter: counter + 1,
                semaphore: true,
            },
            0,
        );
        let calls = b.calls();
        assert_eq!(calls[0].1[..2], [counter, 0o4000]);
        assert_eq!(calls.len(), 3);
        assert_eq!(calls[1].1[..2], [0, libc::EFD_SEMAPHORE as u64]);
        assert_eq!(b.words_at(calls[2].1[1], 1), [counter + 1]);
    }
}
