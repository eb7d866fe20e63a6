//! The memory shared with a parasite: where batches are written for its slots, and answers read.

use super::parts::Parts;
use super::questions::{Answers, Questions};
use super::{Error, LIMIT};
use crate::sys::lifeline::Lifeline;
use crate::sys::mem::{Place, SharedMapping};
use crate::sys::{self, Pid};
use arch::abi::injection::Slot;
use arch::abi::program::Op;
use std::fs::OpenOptions;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The memory of a parasite, mapped here.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) pid: Pid,
    pub(super) mapping: SharedMapping,
    pub(super) parts: Parts,
    /// Its address in the target.
    pub(super) base: u64,
}

impl Board {
    /// Maps the memory that a process has at `base`.
    pub(super) fn map(pid: Pid, base: u64, parts: Parts) -> Result<Self, Error> {
        let end = base + parts.len as u64;
        let path = format!("/proc/{}/map_files/{base:x}-{end:x}", pid.0);
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|source| Error::Map { pid: pid.0, source })?;
        let mapping = SharedMapping::of_file(&file, 0, parts.len, Place::Anywhere);
        Self::of(pid, base, parts, mapping)
    }

    fn of(
        pid: Pid,
        base: u64,
        parts: Parts,
        mapping: sys::Result<SharedMapping>,
    ) -> Result<Self, Error> {
        Ok(Self {
            pid,
            mapping: mapping.map_err(|source| Error::Own {
                pid: pid.0,
                what: "map its memory",
                source,
            })?,
            parts,
            base,
        })
    }

    /// Maps the same memory once more.
    pub(super) fn again(&self) -> Result<Self, Error> {
        Self::of(self.pid, self.base, self.parts, self.mapping.again())
    }

    pub(super) fn slot(&self, slot: usize) -> &Slot {
        self.mapping.view::<Slot>(self.parts.slot(slot))
    }

    /// Ties a slot's word to our life: what serves the slot learns of our death.
    pub(super) fn tie(&self, slot: usize) -> Result<Lifeline, Error> {
        let word = self.parts.slot(slot) + std::mem::offset_of!(Slot, lifeline);
        Lifeline::tie(&self.mapping, word).map_err(|source| Error::Own {
            pid: self.pid.0,
            what: "tie the lifeline",
            source,
        })
    }

    /// Hands a batch to a slot whose parasite waits.
    pub(super) fn post(&mut self, slot: usize, questions: &Questions) -> Result<(), Error> {
        self.write_request(slot, questions)?;
        let woken = sys::futex::futex_wake(&self.slot(slot).request, 1);
        woken.map(drop).map_err(|source| Error::Own {
            pid: self.pid.0,
            what: "wake the parasite",
            source,
        })
    }

    /// Writes a batch for a slot whose parasite waits, or has not begun.
    pub(super) fn write_request(
        &mut self,
        slot: usize,
        questions: &Questions,
    ) -> Result<(), Error> {
        let (at, room) = self.parts.batch(slot);
        let count = questions.len();
        let (results, buffers) = places(at, count);
        if buffers + questions.bytes().len() > at + room {
            return Err(Error::TooLarge(buffers + questions.bytes().len() - at));
        }
        let ops = questions.place(self.base + buffers as u64);
        self.mapping.put_all(at, &ops);
        self.mapping.write_at(buffers, questions.bytes());
        let slot_at = self.parts.slot(slot);
        let before = (self.slot(slot).frame, self.slot(slot).control);
        let reply = self.slot(slot).reply.load(Ordering::Acquire);
        let (ops, results) = (self.base + at as u64, self.base + results as u64);
        self.write_batch(slot_at, ops, results, count as u32);
        let slot = self.slot(slot);
        debug_assert_eq!((slot.frame, slot.control), before);
        slot.request.store(reply.wrapping_add(1), Ordering::Release);
        Ok(())
    }

    /// Writes the plain fields of a slot whose parasite waits.
    fn write_batch(&mut self, slot_at: usize, ops: u64, results: u64, count: u32) {
        let field = |offset: usize| slot_at + offset;
        self.mapping
            .write_at(field(std::mem::offset_of!(Slot, ops)), &ops.to_le_bytes());
        self.mapping.write_at(
            field(std::mem::offset_of!(Slot, results)),
            &results.to_le_bytes(),
        );
        self.mapping.write_at(
            field(std::mem::offset_of!(Slot, count)),
            &count.to_le_bytes(),
        );
    }

    /// Waits until a slot has answered; `is_gone` tells whether nobody is there any more who could.
    pub(super) fn wait(&self, slot: usize, is_gone: impl Fn() -> bool) -> Result<(), Error> {
        let slot = self.slot(slot);
        let wanted = slot.request.load(Ordering::Acquire);
        let end = Instant::now() + LIMIT;
        loop {
            let reply = slot.reply.load(Ordering::Acquire);
            if reply == wanted {
                return Ok(());
            }
            if Instant::now() > end || slot.cured.load(Ordering::Acquire) != 0 {
                return Err(Error::Silent(self.pid.0));
            }
            // Woken, timed out or changed meanwhile: the word is looked at again.
            let _ = sys::futex::futex_wait(&slot.reply, reply, Some(Duration::from_millis(100)));
            if is_gone() {
                return Err(Error::Tracee(crate::tracee::Error::Gone(self.pid.0)));
            }
        }
    }

    pub(super) fn answers(&self, slot: usize, questions: &Questions) -> Answers {
        let (at, _) = self.parts.batch(slot);
        let count = questions.len();
        let (results, buffers) = places(at, count);
        Answers {
            results: (0..count)
                .map(|index| self.mapping.read_at::<i64>(results + index * 8))
                .collect(),
            bytes: self.mapping.bytes()[buffers..buffers + questions.bytes().len()].to_vec(),
        }
    }
}

/// Returns where the results and the buffers of a batch of `count` operations lie that begins at `at`.
fn places(at: usize, count: usize) -> (usize, usize) {
    let results = at + count * size_of::<Op>();
    let buffers = (results + count * size_of::<i64>()).next_multiple_of(64);
    (results, buffers)
}
