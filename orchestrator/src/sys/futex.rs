//! Futexes on words that processes share.

use super::{Result, check};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Waits while the word is `expected`, at most `timeout`: `EAGAIN` if it is not, `ETIMEDOUT`, `EINTR`.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Result<()> {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout = timeout
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: 1. The word is valid for reads, being a reference.  2. `timeout` is null or points to the timespec above.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            timeout,
        )
    };
    check("futex(FUTEX_WAIT)", result).map(drop)
}

/// Wakes at most `count` of those who wait on the word and returns how many.
pub fn futex_wake(word: &AtomicU32, count: i32) -> Result<usize> {
    // SAFETY: the word is valid, being a reference; waking writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    check("futex(FUTEX_WAKE)", result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use std::sync::atomic::Ordering;

    #[test]
    fn waits_only_while_the_word_is_as_expected() {
        let word = AtomicU32::new(1);
        let error = futex_wait(&word, 2, None).expect_err("another value");
        assert_eq!(error.errno, Errno::EAGAIN);
        let error = futex_wait(&word, 1, Some(Duration::from_millis(1))).expect_err("nobody wakes");
        assert_eq!(error.errno, Errno::ETIMEDOUT);
    }

    #[test]
    fn a_wake_ends_the_wait() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                word.store(1, Ordering::SeqCst);
                futex_wake(&word, 1).expect("wake");
            });
            while word.load(Ordering::SeqCst) == 0 {
                let _ = futex_wait(&word, 0, Some(Duration::from_secs(10)));
            }
        });
        assert_eq!(word.load(Ordering::SeqCst), 1);
    }
}
