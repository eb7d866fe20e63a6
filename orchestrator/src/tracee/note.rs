//! A note below a sleeping thread's stack: which call it is in, and when that ends.
//!
//! The kernel's rule: a call that it restarts by its restart block becomes `restart_syscall`, which tells neither the call
//! nor the time that is left. So whoever stops a sleeping thread a second time (a dump after one that left the program
//! running) cannot bring the sleep into an image. The first stop leaves what it knows where nothing is in use, below the
//! red zone (System V ABI, 3.2.2). The note is believed if it was left in the same process, at the same place, for a call
//! with the same arguments, or with those that the parasite's cure makes the call again with. Its end is believed if the thread has gone to sleep exactly once since, or if that end is yet to
//! come: whoever stopped the thread last may have been killed before it could renew the note.

use super::resume::{BELOW_RED_ZONE, SYSCALL_LEN};
use crate::procfs::status;
use crate::sys::clock::{Clock, now_ns};
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
    /// The place of the same call once the thread has come home by `rt_sigreturn`, and made it with the rest of its time.
    cured_place: u64,
    started: u64,
    sleeps: u64,
    nr: u64,
    end_ns: i64,
}

impl Note {
    /// A note for a stopped thread of the process that started at `started`, which has gone to sleep `sleeps` times: in the
    /// call, and as it would make it `again`.
    pub(super) fn new(
        (regs, again): (&Regs, &Regs),
        started: u64,
        sleeps: u64,
        nr: u64,
        end_ns: Option<i64>,
    ) -> Self {
        let cured = Regs {
            rip: again.rip + SYSCALL_LEN,
            ..*again
        };
        Self {
            place: place(regs),
            cured_place: place(&cured),
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
    pub(super) fn renew(&mut self, (pid, tid): (Pid, Tid), regs: &Regs, mem: &File) {
        // One without an end is believed whatever the number.
        if self.end_ns != ENDLESS
            && let Ok(status) = status::read((pid, tid))
            && let Some(sleeps) = status.voluntary_switches
        {
            self.sleeps = sleeps;
            self.leave(regs, mem);
        }
    }

    /// Returns the call and its end (see [`Known`]), if a note of this thread's call is there: it has slept `sleeps` times,
    /// if that is known.
    pub(super) fn find(
        regs: &Regs,
        started: u64,
        sleeps: Option<u64>,
        mem: &File,
    ) -> Option<(u64, Known)> {
        let mut note = Self::new((regs, regs), 0, 0, 0, None);
        mem.read_exact_at(note.as_mut_bytes(), address(regs)?)
            .ok()?;
        if ![note.place, note.cured_place].contains(&place(regs)) || note.started != started {
            return None;
        }
        let is_this_sleep = sleeps == Some(note.sleeps.wrapping_add(1));
        let is_to_come = now_ns(Clock::Monotonic).is_ok_and(|now| now < note.end_ns);
        let end = match note.end_ns {
            ENDLESS => Known::Endless,
            end_ns if is_this_sleep || is_to_come => Known::At(end_ns),
            _ => Known::Not,
        };
        Some((note.nr, end))
    }
}

/// When a call ends, as far as a note tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Never, or when it says itself.
    Endless,
    /// At this time of the monotonic clock.
    At(i64),
    /// It is of an earlier sleep.
    Not,
}

/// What tells the call: where it was made, on which stack, and with which arguments.
fn place(regs: &Regs) -> u64 {
    [
        regs.rsp, regs.rip, regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9,
    ]
    .iter()
    .fold(MAGIC, |hash, word| {
        (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29)
    })
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
        let find = |regs: &Regs, started, sleeps| Note::find(regs, started, Some(sleeps), &mem);
        assert_eq!(find(&regs, 5, 11), None);
        let again = Regs { rip: 75, ..regs };
        Note::new((&regs, &again), 5, 10, 35, Some(99)).leave(&regs, &mem);
        assert_eq!(find(&regs, 5, 11), Some((35, Known::At(99))));
        assert_eq!(find(&regs, 5, 12), Some((35, Known::Not)));
        assert_eq!(find(&regs, 6, 11), None);
        assert_eq!(find(&Regs { rip: 78, ..regs }, 5, 11), None);
        assert_eq!(find(&Regs { rdx: 1, ..regs }, 5, 11), None);
        let far = now_ns(Clock::Monotonic).expect("clock") + 60_000_000_000;
        let again = Regs {
            rip: 75,
            rdi: 9,
            ..regs
        };
        Note::new((&regs, &again), 5, 10, 35, Some(far)).leave(&regs, &mem);
        assert_eq!(find(&regs, 5, 12), Some((35, Known::At(far))));
        let cured = Regs { rdi: 9, ..regs };
        assert_eq!(find(&cured, 5, 12), Some((35, Known::At(far))));
    }
}
