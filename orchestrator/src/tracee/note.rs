//! A note below a sleeping thread's stack: which call it is in, and when that ends.
//!
//! The kernel's rule: a call that it restarts by its restart block becomes `restart_syscall`, which tells neither the call
//! nor the time that is left. So whoever stops a sleeping thread a second time (a dump after one that left the program
//! running) cannot bring the sleep into an image. The first stop leaves what it knows where nothing is in use, below the
//! red zone (System V ABI, 3.2.2). The note is believed only if the thread has gone to sleep exactly once since, at the
//! same place, in the same process.

use super::resume::BELOW_RED_ZONE;
use crate::procfs::attributes;
use crate::sys::{Pid, Tid};
use arch::regs::Regs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Distinguishes a note from what else may lie there.
const MAGIC: u64 = 0x6e6f_7465_5f31_cafe;
/// A note lies below the rest of a timeout.
const BELOW_REST: u64 = 64;
/// `Note::end_ns` of a call that has no end, or names it itself.
const ENDLESS: i64 = i64::MAX;

/// The note, as it lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Note {
    place: u64,
    started: u64,
    sleeps: u64,
    nr: u64,
    end_ns: i64,
}

impl Note {
    /// A note for a stopped thread of the process that started at `started`, which has gone to sleep `sleeps` times.
    pub(super) fn new(
        regs: &Regs,
        started: u64,
        sleeps: u64,
        nr: u64,
        end_ns: Option<i64>,
    ) -> Self {
        Self {
            place: place(regs),
            started,
            sleeps,
            nr,
            end_ns: end_ns.unwrap_or(ENDLESS),
        }
    }

    /// Leaves it below the stack. Where it cannot be written, a second dump knows less.
    pub(super) fn leave(&self, regs: &Regs, mem: &File) {
        if let Some(at) = address(regs) {
            let _ = mem.write_all_at(self.as_bytes(), at);
        }
    }

    /// Leaves it anew: the thread went to sleep for us meanwhile.
    pub(super) fn renew(mut self, pid: Pid, tid: Tid, regs: &Regs, mem: &File) {
        if let Ok(Some(now)) = attributes::read_scheduled((pid, tid)) {
            self.sleeps = now.voluntary_switches;
            self.leave(regs, mem);
        }
    }

    /// Returns the call and its end, if the note is of the sleep that this thread is in: it has slept `sleeps` times.
    pub(super) fn find(
        regs: &Regs,
        started: u64,
        sleeps: u64,
        mem: &File,
    ) -> Option<(u64, Option<i64>)> {
        let mut note = Self::new(regs, 0, 0, 0, None);
        mem.read_exact_at(note.as_mut_bytes(), address(regs)?)
            .ok()?;
        let is_ours = (note.place, note.started) == (place(regs), started)
            && sleeps == note.sleeps.wrapping_add(1);
        is_ours.then(|| (note.nr, (note.end_ns != ENDLESS).then_some(note.end_ns)))
    }
}

fn place(regs: &Regs) -> u64 {
    MAGIC ^ regs.rsp ^ regs.rip.rotate_left(32)
}

fn address(regs: &Regs) -> Option<u64> {
    Some(regs.rsp.checked_sub(BELOW_RED_ZONE + BELOW_REST)? & !15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_holds_for_one_sleep() {
        let stack = vec![0_u8; 4096];
        let regs = Regs {
            rsp: stack.as_ptr() as u64 + 4096,
            rip: 77,
            ..Regs::default()
        };
        let mem = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/proc/self/mem")
            .expect("own memory");
        assert_eq!(Note::find(&regs, 5, 11, &mem), None);
        Note::new(&regs, 5, 10, 35, Some(99)).leave(&regs, &mem);
        assert_eq!(Note::find(&regs, 5, 11, &mem), Some((35, Some(99))));
        assert_eq!(Note::find(&regs, 5, 12, &mem), None);
        assert_eq!(Note::find(&regs, 6, 11, &mem), None);
        let elsewhere = Regs { rip: 78, ..regs };
        assert_eq!(Note::find(&elsewhere, 5, 11, &mem), None);
    }
}
