//! Threads of a stopped process in the parasite.

use super::{Error, Infected, LIMIT};
use crate::sys::wait::WaitStatus;
use crate::sys::{self, ptrace};
use crate::tracee;
use std::sync::atomic::Ordering;

impl Infected {
    /// Lets a thread of a stopped process on until it has answered. To seize it made it trap, and so did the interrupt that
    /// followed (`ptrace_attach` and `ptrace_request`, `kernel/ptrace.c`): the second trap comes when it goes on from the first,
    /// and nobody else waits for it. The leader has left it behind by its remote calls.
    pub(super) fn let_on(&self, thread: usize, slot: usize) -> Result<(), Error> {
        let stopped = &self.frozen().threads()[thread];
        if stopped.group_stop.is_none() {
            return Ok(());
        }
        let slot = self.board.slot(slot);
        let deadline = tracee::Deadline::new(LIMIT);
        while slot.reply.load(Ordering::Acquire) != slot.request.load(Ordering::Acquire) {
            match stopped.did("wait for it", sys::wait::try_wait_tid(stopped.tid))? {
                Some(WaitStatus::Stopped { .. }) => {
                    stopped.did("let it go on", ptrace::cont(stopped.tid, 0))?;
                }
                Some(status) if status.is_end() => {
                    return Err(Error::Tracee(tracee::Error::Gone(stopped.tid.0)));
                }
                _ if deadline.is_over() => return Err(Error::Silent(self.pid())),
                _ => std::thread::yield_now(),
            }
        }
        Ok(())
    }
}

/// Returns whether a thread has ended.
pub(super) fn is_gone(tid: sys::Tid) -> bool {
    match sys::wait::try_wait_tid(tid) {
        Ok(Some(status)) => status.is_end(),
        // Its end was told before, and is told once.
        Err(error) => error.errno as i32 == libc::ECHILD,
        Ok(None) => false,
    }
}
