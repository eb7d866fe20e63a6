//! The parasite in a frozen process: mapped, started, asked, and cured.
//!
//! ```text
//! mapping in the target [ blob R-X ][ Control, Slot* ][ a stack per slot ][ a signal frame per slot ][ batches ]
//! ```
//!
//! The mapping is shared memory that this process maps too (`/proc/PID/map_files`), so all of it is written by plain
//! stores; no descriptor is opened in the target. It is unprotected only for the few remote system calls before the first
//! thread runs: after that the parasite puts its threads back by itself if this process dies. Knows nothing of dumping.

mod confined;
mod parts;
pub mod questions;
mod stopped;

pub use parts::LEADER_BATCH;

use crate::blobs::PARASITE;
use crate::sys::{self, Pid, mem, ptrace};
use crate::tracee::{self, Frozen};
use arch::abi::injection::{Control, Slot};
use arch::abi::program::Op;
use arch::native::sigframe;
use arch::regs::Regs;
use parts::{CLEANUP, Parts, STACK};
use questions::{Answers, Questions};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use stopped::is_gone;

/// Most threads that are asked at the same time.
const MAX_SLOTS: usize = 64;
/// A batch takes at most milliseconds; a parasite that does not answer for this long never will.
const LIMIT: Duration = Duration::from_secs(30);

/// What can go wrong with a parasite.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// ptrace or a remote system call.
    #[error(transparent)]
    Tracee(#[from] tracee::Error),
    /// The shared memory could not be mapped here.
    #[error("cannot map the parasite's memory of process {pid} here")]
    Map {
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A call of our own.
    #[error("injection into process {pid}: {what}")]
    Own {
        /// The process.
        pid: i32,
        /// What was being done.
        what: &'static str,
        /// Why.
        #[source]
        source: sys::Error,
    },
    /// The extended state of a thread does not fit a signal frame.
    #[error("the processor state of thread {0} does not fit a signal frame")]
    Frame(i32),
    /// No answer came.
    #[error("the parasite in process {0} does not answer")]
    Silent(i32),
    /// A batch does not fit.
    #[error("a batch of {0} bytes does not fit the parasite's memory")]
    TooLarge(usize),
}

/// A frozen process with the parasite in it. Dropped, it is cured and let go.
#[derive(Debug)]
pub struct Infected {
    // Untied before the mapping goes, and the mapping before the process is let go. By slot.
    lifelines: BTreeMap<usize, sys::lifeline::Lifeline>,
    mapping: mem::SharedMapping,
    parts: Parts,
    base: u64,
    /// Threads that run in it, with their slots.
    running: Vec<(usize, usize)>,
    frozen: Option<Frozen>,
}

/// Puts the parasite into a frozen process.
///
/// # Errors
/// With the process let go as it was.
pub fn infect(mut frozen: Frozen) -> Result<Infected, Error> {
    let pid = frozen.pid();
    let parts = Parts::new(frozen.threads().len().min(MAX_SLOTS));
    let base = map_remote(&mut frozen, &parts)?;
    match map_here(pid, base, &parts) {
        Ok(mapping) => {
            let mut infected = Infected {
                lifelines: BTreeMap::new(),
                mapping,
                parts,
                base,
                running: Vec::new(),
                frozen: Some(frozen),
            };
            infected.arm()?;
            Ok(infected)
        }
        Err(error) => {
            unmap_remote(&mut frozen, base, &parts);
            Err(error)
        }
    }
}

fn map_remote(frozen: &mut Frozen, parts: &Parts) -> Result<u64, Error> {
    // Executable from the start: under PR_SET_MDWE nothing becomes that later. We write by a mapping of our own.
    let prot = (libc::PROT_READ | libc::PROT_EXEC) as u64;
    let flags = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u64;
    Ok(frozen.remote(
        "mmap",
        libc::SYS_mmap,
        [0, parts.len as u64, prot, flags, u64::MAX, 0],
    )?)
}

fn unmap_remote(frozen: &mut Frozen, base: u64, parts: &Parts) {
    if let Err(error) = frozen.remote(
        "munmap",
        libc::SYS_munmap,
        [base, parts.len as u64, 0, 0, 0, 0],
    ) {
        tracing::error!(
            "the parasite's memory stays in process {}: {error}",
            frozen.pid().0
        );
    }
}

fn map_here(pid: Pid, base: u64, parts: &Parts) -> Result<mem::SharedMapping, Error> {
    let path = format!(
        "/proc/{}/map_files/{:x}-{:x}",
        pid.0,
        base,
        base + parts.len as u64
    );
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|source| Error::Map { pid: pid.0, source })?;
    mem::SharedMapping::of_file(&file, 0, parts.len, mem::Place::Anywhere).map_err(|source| {
        Error::Own {
            pid: pid.0,
            what: "map its memory",
            source,
        }
    })
}

impl Infected {
    /// Returns the process.
    pub fn frozen(&self) -> &Frozen {
        self.frozen.as_ref().expect("frozen until cured")
    }

    /// Returns the range of the parasite's memory in the target.
    pub fn range(&self) -> [u64; 2] {
        [self.base, self.base + self.parts.len as u64]
    }

    fn frozen_mut(&mut self) -> &mut Frozen {
        self.frozen.as_mut().expect("frozen until cured")
    }

    fn pid(&self) -> i32 {
        self.frozen().pid().0
    }

    /// Writes the blob and starts the leader.
    fn arm(&mut self) -> Result<(), Error> {
        self.mapping.write_at(0, PARASITE.image);
        self.mapping.put(
            self.parts.control,
            Control {
                cleanup_ops: self.base + self.parts.cleanup as u64,
                ..Control::default()
            },
        );
        let text = PARASITE.text_len as u64;
        let (data, len) = (self.base + text, self.parts.len as u64 - text);
        let prot = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        self.frozen_mut()
            .remote("mprotect", libc::SYS_mprotect, [data, len, prot, 0, 0, 0])?;
        self.start(0, 0, None)?;
        // From here on the lifeline holds.
        self.frozen_mut().take_net();
        Ok(())
    }

    /// Sends a thread into the parasite, to serve a slot, with questions to answer at once.
    fn start(
        &mut self,
        thread: usize,
        slot: usize,
        questions: Option<&Questions>,
    ) -> Result<(), Error> {
        // The one of before leaves our list first: its node is the same memory.
        self.lifelines.remove(&slot);
        let frame_at = self.parts.frames + slot * sigframe::ROOM;
        let at = self.base + frame_at as u64;
        let frozen = self.frozen.as_ref().expect("frozen until cured");
        let stopped = &frozen.threads()[thread];
        let (tid, confined) = (stopped.tid, stopped.confined);
        let room = &mut self.mapping.bytes_mut()[frame_at..frame_at + sigframe::ROOM];
        let frame = sigframe::build(
            at,
            &stopped.return_regs(),
            stopped.blocked,
            (frozen.sizes(), &stopped.xstate),
            room,
        )
        .ok_or(Error::Frame(tid.0))?;
        let control = self.base + self.parts.control as u64;
        self.mapping.put(
            self.parts.slot(slot),
            Slot {
                control,
                frame,
                confined: confined.into(),
                ..Slot::default()
            },
        );
        self.tie(slot)?;
        if let Some(questions) = questions {
            self.write_request(slot, questions)?;
        }
        let own = self.frozen().threads()[thread].regs;
        let regs = Regs {
            rip: self.base + PARASITE.entry as u64,
            rdi: self.base + self.parts.slot(slot) as u64,
            rsp: self.base + (self.parts.stacks + (slot + 1) * STACK) as u64 - 64,
            orig_rax: u64::MAX,
            ..own
        };
        let stopped = self.frozen_mut().thread_mut(thread);
        stopped.hijack(&regs)?;
        stopped.let_on("start the parasite")?;
        self.running.push((thread, slot));
        match questions {
            Some(_) => self.let_on(thread, slot),
            None => Ok(()),
        }
    }

    /// Ties a slot's word to our life: what serves the slot learns of our death.
    fn tie(&mut self, slot: usize) -> Result<(), Error> {
        let pid = self.pid();
        let word = self.parts.slot(slot) + std::mem::offset_of!(Slot, lifeline);
        let tied = sys::lifeline::Lifeline::tie(&self.mapping, word);
        let lifeline = tied.map_err(|source| Error::Own {
            pid,
            what: "tie the lifeline",
            source,
        })?;
        self.lifelines.insert(slot, lifeline);
        Ok(())
    }

    /// Takes a thread back out of the parasite; its own registers stay to be put back.
    fn stop(&mut self, thread: usize, slot: usize) -> Result<(), Error> {
        self.keep_out_of_kernel(thread, slot)?;
        let deadline = tracee::Deadline::new(LIMIT);
        let stopped = &self.frozen().threads()[thread];
        stopped.did("interrupt the parasite", ptrace::interrupt(stopped.tid))?;
        tracee::await_event_stop(stopped.tid, &deadline)?;
        self.running.retain(|&(running, _)| running != thread);
        Ok(())
    }

    /// Asks the leader.
    ///
    /// # Errors
    /// The parasite does not answer.
    pub fn ask(&mut self, questions: &Questions) -> Result<Answers, Error> {
        let count = self.post(0, questions)?;
        self.wait(0)?;
        Ok(self.answers(0, count, questions))
    }

    /// Asks every thread the same and returns the answers in the order of the threads.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_threads(&mut self, questions: &Questions) -> Result<Vec<Answers>, Error> {
        let mut all = vec![self.ask(questions)?];
        let threads = self.frozen().threads().len();
        let mut next = 1;
        while next < threads {
            let end = (next + MAX_SLOTS - 1).min(threads);
            for thread in next..end {
                self.start(thread, thread - next + 1, Some(questions))?;
            }
            // The last first: the others have answered by then, and nobody is woken for each.
            for slot in (1..=end - next).rev() {
                self.wait(slot)?;
            }
            let slots = 1..=end - next;
            all.extend(slots.map(|slot| self.answers(slot, questions.len(), questions)));
            self.take_back(next..end)?;
            next = end;
        }
        Ok(all)
    }

    fn take_back(&mut self, threads: std::ops::Range<usize>) -> Result<(), Error> {
        for (thread, slot) in threads.clone().zip(1..) {
            self.keep_out_of_kernel(thread, slot)?;
        }
        self.frozen().stop_again(threads.clone(), LIMIT)?;
        self.running
            .retain(|(running, _)| !threads.contains(running));
        for thread in threads {
            self.frozen_mut().put_back_thread(thread)?;
        }
        Ok(())
    }

    /// Hands a batch to a slot whose parasite waits.
    fn post(&mut self, slot: usize, questions: &Questions) -> Result<usize, Error> {
        self.write_request(slot, questions)?;
        let pid = self.pid();
        let slot = self.mapping.view::<Slot>(self.parts.slot(slot));
        sys::futex::futex_wake(&slot.request, 1).map_err(|source| Error::Own {
            pid,
            what: "wake the parasite",
            source,
        })?;
        Ok(questions.len())
    }

    /// Writes a batch for a slot whose parasite waits, or has not begun.
    fn write_request(&mut self, slot: usize, questions: &Questions) -> Result<(), Error> {
        let (at, room) = self.parts.batch(slot);
        let count = questions.len();
        let results = at + count * size_of::<Op>();
        let buffers = (results + count * size_of::<i64>()).next_multiple_of(64);
        if buffers + questions.bytes().len() > at + room {
            return Err(Error::TooLarge(buffers + questions.bytes().len() - at));
        }
        let ops = questions.place(self.base + buffers as u64);
        self.mapping.put_all(at, &ops);
        self.mapping.write_at(buffers, questions.bytes());
        let slot_at = self.parts.slot(slot);
        let (base, frame, control) = (
            self.base,
            self.mapping.view::<Slot>(slot_at).frame,
            self.base + self.parts.control as u64,
        );
        let reply = self
            .mapping
            .view::<Slot>(slot_at)
            .reply
            .load(Ordering::Acquire);
        self.write_batch(
            slot_at,
            base + at as u64,
            base + results as u64,
            count as u32,
        );
        let slot = self.mapping.view::<Slot>(slot_at);
        debug_assert_eq!((slot.frame, slot.control), (frame, control));
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

    /// Waits until a slot has answered.
    fn wait(&self, slot: usize) -> Result<(), Error> {
        let slot = self.mapping.view::<Slot>(self.parts.slot(slot));
        let wanted = slot.request.load(Ordering::Acquire);
        let end = Instant::now() + LIMIT;
        loop {
            let reply = slot.reply.load(Ordering::Acquire);
            if reply == wanted {
                return Ok(());
            }
            if Instant::now() > end || slot.cured.load(Ordering::Acquire) != 0 {
                return Err(Error::Silent(self.pid()));
            }
            // Woken, timed out or changed meanwhile: the word is looked at again.
            let _ = sys::futex::futex_wait(&slot.reply, reply, Some(Duration::from_millis(100)));
            if self
                .frozen()
                .threads()
                .first()
                .is_some_and(|leader| is_gone(leader.tid))
            {
                return Err(Error::Tracee(tracee::Error::Gone(self.pid())));
            }
        }
    }

    fn answers(&self, slot: usize, count: usize, questions: &Questions) -> Answers {
        let (at, _) = self.parts.batch(slot);
        let results = at + count * size_of::<Op>();
        let buffers = (results + count * size_of::<i64>()).next_multiple_of(64);
        Answers {
            results: (0..count)
                .map(|index| self.mapping.read_at::<i64>(results + index * 8))
                .collect(),
            bytes: self.mapping.bytes()[buffers..buffers + questions.bytes().len()].to_vec(),
        }
    }

    /// Sets what the self-cure does in the target before its threads go back.
    pub fn set_cleanup(&mut self, ops: &[Op]) {
        let ops = &ops[..ops.len().min(CLEANUP / size_of::<Op>())];
        let (control, cleanup) = (self.parts.control, self.parts.cleanup);
        self.mapping
            .view::<Control>(control)
            .cleanup_count
            .store(0, Ordering::Release);
        self.mapping.put_all(cleanup, ops);
        self.mapping
            .view::<Control>(control)
            .cleanup_count
            .store(ops.len() as u32, Ordering::Release);
    }

    /// Does now what the self-cure would do first, and takes it off its list.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn run_cleanup(&mut self) -> Result<(), Error> {
        let count = self
            .mapping
            .view::<Control>(self.parts.control)
            .cleanup_count
            .swap(0, Ordering::AcqRel);
        let mut questions = Questions::default();
        for index in 0..count as usize {
            let op = *self
                .mapping
                .view::<Op>(self.parts.cleanup + index * size_of::<Op>());
            questions.add(op, &[]);
        }
        self.ask(&questions).map(drop)
    }

    /// Takes the parasite out: every thread stands where it stood, nothing of ours is mapped.
    ///
    /// # Errors
    /// The process ended, or ptrace failed: it is let go as well as can be.
    pub fn cure(mut self) -> Result<Frozen, Error> {
        self.undo()?;
        Ok(self.frozen.take().expect("frozen until cured"))
    }

    fn undo(&mut self) -> Result<(), Error> {
        if self.running.iter().any(|&(thread, _)| thread == 0) {
            self.run_cleanup()?;
        }
        while let Some(&(thread, slot)) = self.running.last() {
            self.stop(thread, slot)?;
        }
        let (base, parts) = (self.base, self.parts);
        let frozen = self.frozen_mut();
        unmap_remote(frozen, base, &parts);
        let back = frozen.put_back();
        self.lifelines.clear();
        Ok(back?)
    }
}

impl Drop for Infected {
    fn drop(&mut self) {
        if self.frozen.is_some()
            && let Err(error) = self.undo()
        {
            tracing::error!("process {} may not be as it was: {error}", self.pid());
        }
    }
}
