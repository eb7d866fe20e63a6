//! Waits for news of threads, each with its end.

use super::Error;
use crate::sys::{Tid, ptrace, wait};
use std::time::{Duration, Instant};

/// A point in time after which a wait is given up.
#[derive(Debug)]
pub(crate) struct Deadline {
    end: Option<Instant>,
    /// The whole limit.
    pub(super) seconds: u64,
}

/// Looks without a pause between them: a thread that was asleep stops within some tens of microseconds.
const EAGER_LOOKS: u32 = 2000;

impl Deadline {
    pub(crate) fn new(limit: Duration) -> Self {
        let end = (!limit.is_zero()).then(|| Instant::now() + limit);
        Self {
            end,
            seconds: limit.as_secs(),
        }
    }

    /// Returns whether it has passed.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() > end)
    }

    /// Waits for news of a thread.
    pub(crate) fn news(&self, tid: Tid) -> Result<wait::WaitStatus, Error> {
        let mut looks = 0;
        loop {
            let looked = wait::try_wait_tid(tid);
            match looked.map_err(|source| Error::Request {
                tid: tid.0,
                what: "wait for it",
                source,
            })? {
                Some(status) => return Ok(status),
                None if looks < EAGER_LOOKS => std::thread::yield_now(),
                None => std::thread::sleep(Duration::from_micros(100)),
            }
            looks += 1;
            if self.is_over() {
                return Err(Error::Timeout {
                    tid: tid.0,
                    seconds: self.seconds,
                });
            }
        }
    }
}

/// Waits until an interrupted thread is in its `PTRACE_EVENT_STOP` and returns the signal of a group stop. Signals on their
/// way are delivered first: they were before us.
pub(crate) fn await_event_stop(tid: Tid, deadline: &Deadline) -> Result<Option<i32>, Error> {
    loop {
        match deadline.news(tid)? {
            wait::WaitStatus::Stopped {
                signal,
                event: ptrace::EVENT_STOP,
            } => {
                return Ok((signal != libc::SIGTRAP).then_some(signal));
            }
            wait::WaitStatus::Stopped { signal, event } => {
                let deliver = if event == 0 && signal != wait::SYSCALL_STOP {
                    signal
                } else {
                    0
                };
                ptrace::cont(tid, deliver).map_err(|source| Error::Request {
                    tid: tid.0,
                    what: "let it go on",
                    source,
                })?;
            }
            status if status.is_end() => return Err(Error::Gone(tid.0)),
            _ => {}
        }
    }
}
