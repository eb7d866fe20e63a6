//! The parasite in a frozen process: mapped, started, asked, and cured.
//!
//! ```text
//! mapping in the target [ blob R-X ][ Control, Slot* ][ a stack per slot ][ a signal frame per slot ][ batches ]
//! ```
//!
//! The mapping is shared memory that this process maps too (`/proc/PID/map_files`), so all of it is written by plain
//! stores; no descriptor is opened in the target. It is unprotected only for the few remote system calls before the first
//! thread runs: after that the parasite puts its threads back by itself if this process dies. Knows nothing of dumping.

mod board;
mod confined;
mod copied;
mod parts;
pub mod questions;
mod stopped;

pub use copied::{Copied, Copying};
pub use parts::{LEADER_BATCH, Room};

use crate::blobs::PARASITE;
use crate::sys::{self, Pid, ptrace};
use crate::tracee::{self, Frozen};
use arch::abi::injection::{Control, Slot};
use arch::abi::program::Op;
use arch::native::sigframe;
use arch::regs::Regs;
use board::Board;
use parts::{CLEANUP, Parts};
use questions::{Answers, Questions};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
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
    /// The kernel makes no copy of a process's memory.
    #[error("the memory of process {pid} cannot be copied: {}", std::io::Error::from_raw_os_error(*errno))]
    Copy {
        /// The process.
        pid: i32,
        /// Why.
        errno: i32,
    },
    /// A batch does not fit.
    #[error("a batch of {0} bytes does not fit the parasite's memory")]
    TooLarge(usize),
}

/// A frozen process with the parasite in it. Dropped, it is cured and let go.
#[derive(Debug)]
pub struct Infected {
    // Untied before the mapping goes, and the mapping before the process is let go. By slot.
    lifelines: BTreeMap<usize, sys::lifeline::Lifeline>,
    board: Board,
    /// Threads that run in it, with their slots.
    running: Vec<(usize, usize)>,
    frozen: Option<Frozen>,
}

/// Who answers questions from inside of a memory.
pub trait Parasite {
    /// Returns the process whose memory it is.
    fn pid(&self) -> Pid;

    /// Returns whether it may make any system call at any time.
    fn may_call(&self) -> bool;

    /// Asks.
    ///
    /// # Errors
    /// It does not answer.
    fn ask(&mut self, questions: &Questions) -> Result<Answers, Error>;

    /// Sets what is to be undone should we end.
    fn set_cleanup(&mut self, ops: &[Op]);

    /// Undoes it now.
    ///
    /// # Errors
    /// As [`Self::ask`].
    fn run_cleanup(&mut self) -> Result<(), Error>;
}

/// Puts the parasite into a frozen process.
///
/// # Errors
/// With the process let go as it was.
pub fn infect(mut frozen: Frozen, room: Room) -> Result<Infected, Error> {
    let pid = frozen.pid();
    let parts = Parts::new(frozen.threads().len().min(MAX_SLOTS), room);
    let base = map_remote(&mut frozen, &parts)?;
    match Board::map(pid, base, parts) {
        Ok(board) => {
            let mut infected = Infected {
                lifelines: BTreeMap::new(),
                board,
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

impl Infected {
    /// Returns the process.
    pub fn frozen(&self) -> &Frozen {
        self.frozen.as_ref().expect("frozen until cured")
    }

    /// Returns the range of the parasite's memory in the target.
    pub fn range(&self) -> [u64; 2] {
        let base = self.board.base;
        [base, base + self.board.parts.len as u64]
    }

    fn frozen_mut(&mut self) -> &mut Frozen {
        self.frozen.as_mut().expect("frozen until cured")
    }

    fn pid(&self) -> i32 {
        self.frozen().pid().0
    }

    /// Writes the blob and starts the leader.
    fn arm(&mut self) -> Result<(), Error> {
        self.board.mapping.write_at(0, PARASITE.image);
        self.board.mapping.put(
            self.board.parts.control,
            Control {
                cleanup_ops: self.board.base + self.board.parts.cleanup as u64,
                ..Control::default()
            },
        );
        let text = PARASITE.text_len as u64;
        let (data, len) = (self.board.base + text, self.board.parts.len as u64 - text);
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
        let frame_at = self.board.parts.frames + slot * sigframe::ROOM;
        let at = self.board.base + frame_at as u64;
        let frozen = self.frozen.as_ref().expect("frozen until cured");
        let stopped = &frozen.threads()[thread];
        let (tid, confined) = (stopped.tid, stopped.confined);
        let room = &mut self.board.mapping.bytes_mut()[frame_at..frame_at + sigframe::ROOM];
        let frame = sigframe::build(
            at,
            &stopped.return_regs(),
            stopped.blocked,
            (frozen.sizes(), &stopped.xstate),
            room,
        )
        .ok_or(Error::Frame(tid.0))?;
        let control = self.board.base + self.board.parts.control as u64;
        self.board.mapping.put(
            self.board.parts.slot(slot),
            Slot {
                control,
                frame,
                confined: confined.into(),
                ..Slot::default()
            },
        );
        self.lifelines.insert(slot, self.board.tie(slot)?);
        if let Some(questions) = questions {
            self.board.write_request(slot, questions)?;
        }
        let own = self.frozen().threads()[thread].regs;
        let regs = Regs {
            rip: self.board.base + PARASITE.entry as u64,
            rdi: self.board.base + self.board.parts.slot(slot) as u64,
            rsp: self.board.base + self.board.parts.stack_top(slot) as u64,
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
        self.board.post(0, questions)?;
        self.wait(0)?;
        Ok(self.board.answers(0, questions))
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
            for slot in 1..=end - next {
                self.wait(slot)?;
                all.push(self.board.answers(slot, questions));
            }
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

    /// Waits until a slot has answered.
    fn wait(&self, slot: usize) -> Result<(), Error> {
        let leader = self.frozen().threads().first();
        let leader = leader.map(|leader| leader.tid);
        self.board.wait(slot, || leader.is_some_and(is_gone))
    }

    fn control(&self) -> &Control {
        self.board.mapping.view(self.board.parts.control)
    }

    /// Sets what the self-cure does in the target before its threads go back.
    pub fn set_cleanup(&mut self, ops: &[Op]) {
        let ops = &ops[..ops.len().min(CLEANUP / size_of::<Op>())];
        self.control().cleanup_count.store(0, Ordering::Release);
        let cleanup = self.board.parts.cleanup;
        self.board.mapping.put_all(cleanup, ops);
        let count = ops.len() as u32;
        self.control().cleanup_count.store(count, Ordering::Release);
    }

    /// Does now what the self-cure would do first, and takes it off its list.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn run_cleanup(&mut self) -> Result<(), Error> {
        let count = self.control().cleanup_count.swap(0, Ordering::AcqRel);
        let mut questions = Questions::default();
        for index in 0..count as usize {
            let at = self.board.parts.cleanup + index * size_of::<Op>();
            questions.add(*self.board.mapping.view::<Op>(at), &[]);
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
        let (base, parts) = (self.board.base, self.board.parts);
        let frozen = self.frozen_mut();
        unmap_remote(frozen, base, &parts);
        let back = frozen.put_back();
        self.lifelines.clear();
        Ok(back?)
    }
}

impl Parasite for Infected {
    fn pid(&self) -> Pid {
        self.frozen().pid()
    }

    fn may_call(&self) -> bool {
        let leader = self.frozen().threads().first();
        leader.is_some_and(|leader| !leader.confined)
    }

    fn ask(&mut self, questions: &Questions) -> Result<Answers, Error> {
        Infected::ask(self, questions)
    }

    fn set_cleanup(&mut self, ops: &[Op]) {
        Infected::set_cleanup(self, ops);
    }

    fn run_cleanup(&mut self) -> Result<(), Error> {
        Infected::run_cleanup(self)
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
