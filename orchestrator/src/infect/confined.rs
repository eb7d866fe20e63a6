//! Threads under seccomp in the parasite: see `tracee/confined.rs`.

use super::{Error, Infected, LIMIT};
use crate::sys;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Infected {
    /// Has a thread under seccomp wait without a system call: one that a stop interrupts is made again by the kernel, and judged
    /// again should we have died meanwhile.
    pub(super) fn keep_out_of_kernel(&self, thread: usize, slot: usize) -> Result<(), Error> {
        if !self.frozen().threads()[thread].confined {
            return Ok(());
        }
        let pid = self.pid();
        let slot = self.board.slot(slot);
        slot.spin.store(1, Ordering::Release);
        let end = Instant::now() + LIMIT;
        while slot.spins.load(Ordering::Acquire) == 0 {
            sys::futex::futex_wake(&slot.request, 1).map_err(|source| Error::Own {
                pid,
                what: "wake the parasite",
                source,
            })?;
            if Instant::now() > end {
                return Err(Error::Silent(pid));
            }
            std::thread::yield_now();
        }
        Ok(())
    }
}
