//! Waiting for descriptors: pipes, sockets, and processes by their pidfds.

use super::{Result, check};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// What a descriptor is ready for; all `false` = nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready {
    /// There is something to read; of a pidfd: the process has ended.
    pub readable: bool,
    /// The other side is gone.
    pub hung_up: bool,
    /// It is in error, or no descriptor.
    pub error: bool,
}

impl Ready {
    /// Returns whether there is any news.
    pub fn any(self) -> bool {
        self.readable || self.hung_up || self.error
    }
}

/// Waits until a descriptor is readable, hung up or in error, at most `timeout` (rounded up to a millisecond; `None` = for
/// ever), and returns what each is. `EINTR` where a signal came.
pub fn poll_readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<Vec<Ready>> {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|fd| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let timeout_ms = timeout.map_or(-1, |timeout| {
        let millis = timeout.as_nanos().div_ceil(1_000_000);
        i32::try_from(millis).unwrap_or(i32::MAX)
    });
    let count = polled.len() as libc::nfds_t;
    // SAFETY: the kernel reads and writes `count` pollfds, as many as there are.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), count, timeout_ms) };
    check("poll", result.into())?;
    let ready = |polled: &libc::pollfd| Ready {
        readable: polled.revents & libc::POLLIN != 0,
        hung_up: polled.revents & libc::POLLHUP != 0,
        error: polled.revents & (libc::POLLERR | libc::POLLNVAL) != 0,
    };
    Ok(polled.iter().map(ready).collect())
}

/// Returns which of `events` (`POLL*`) a descriptor has now, and hang-up and error in any case.
pub fn poll_now(fd: BorrowedFd<'_>, events: i16) -> Result<i16> {
    poll_for(fd, events, 0)
}

/// Waits for one of `events` at most so long, and returns which a descriptor has then.
pub fn poll_for(fd: BorrowedFd<'_>, events: i16, timeout_ms: i32) -> Result<i16> {
    let mut polled = libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: the kernel reads and writes one pollfd.
    let result = unsafe { libc::poll(&raw mut polled, 1, timeout_ms) };
    check("poll", result.into())?;
    Ok(polled.revents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Pid, fd, pipe};
    use std::os::fd::AsFd;

    #[test]
    fn the_end_of_a_process_is_news() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep starts");
        let pidfd = fd::pidfd_open(Pid(child.id() as i32)).expect("pidfd");
        let (read, write) = pipe::pipe(0).expect("pipe");
        let both = [pidfd.as_fd(), read.as_fd()];
        let nothing = poll_readable(&both, Some(Duration::from_micros(1))).expect("poll");
        assert_eq!(nothing, [Ready::default(); 2]);
        fd::pidfd_send_signal(&pidfd, libc::SIGKILL).expect("kill");
        let ready = poll_readable(&both, Some(Duration::from_secs(10))).expect("poll");
        assert!(ready[0].readable && !ready[1].any());
        child.wait().expect("wait");
        drop(write);
        let ready = poll_readable(&both[1..], None).expect("poll");
        assert!(ready[0].hung_up && !ready[0].readable);
    }
}
