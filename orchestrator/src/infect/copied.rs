//! A copy of a process's memory, as it stood when the process was frozen: a process of its own, which answers while the other runs on.
//!
//! The naive way, a `fork` in the target, harms it: its child is a zombie once it ends, `wait` finds it, it sends SIGCHLD, and it
//! has all descriptors open, so that nobody sees the end of a pipe. So the parasite forks twice:
//!
//! ```text
//! leader   clone(VM | FILES | FS) -> middle    wait4(middle), so that nothing of it is left
//! middle   clone(FILES)           -> copy      exit
//! copy     close_range(UNSHARE), setsid, chdir, munmap of what is shared, then it serves a slot of its own
//! ```
//!
//! - The middle one has no memory of its own, so that memory is copied once; it sends no signal, and is waited for at once.
//! - The copy becomes the child of init, or of a subreaper above the tree, as orphans do. None of the tree must be one meanwhile:
//!   that is the caller's to see to.
//! - It shares the table of descriptors until it has one without any: no description is ever held by it.
//! - It leaves session and group, so that signals to those do not reach it; all that can be blocked are blocked.
//! - The parasite's mapping is shared memory: the copy serves a slot of it by the same protocol. It has no frame to return to, so that
//!   where the lifeline tells of our death, it ends.

use super::board::Board;
use super::questions::{Answers, Arg, Asked, Questions};
use super::{Error, Infected, Parasite};
use crate::sys::{self, Pid, fd, lifeline::Lifeline, poll};
use arch::abi::injection::{OWNER_DIED, Slot};
use arch::abi::program::{Check, Op, special};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// `CLOSE_RANGE_UNSHARE` of `linux/close_range.h` (5.9).
const UNSHARE: u64 = 2;
/// What the copy is called: nobody who looks for the target by its name is to find it.
const NAME: &[u8] = b"memory-copy\0";
/// Areas unmapped by one batch.
const UNMAPPED_AT_ONCE: usize = 4096;
/// A process that is killed frees its memory, some tens of milliseconds for each GiB.
const END_LIMIT: Duration = Duration::from_secs(30);

/// A copy that is being made.
#[derive(Debug)]
pub struct Copying {
    serving: Serving,
    fork: (Questions, Asked),
    first: (Questions, Asked),
    /// Areas that are still to be unmapped.
    rest: Vec<[u64; 2]>,
}

/// A copy of a process's memory. Dropped, it ends.
#[derive(Debug)]
pub struct Copied {
    // Ended before what it is told by goes.
    process: Process,
    serving: Serving,
}

/// A process that is killed when this is dropped.
#[derive(Debug)]
struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = fd::pidfd_send_signal(&self.pidfd, libc::SIGKILL) {
            tracing::debug!("the copy has ended already: {error}");
        }
        if !has_ended(&self.pidfd, END_LIMIT) {
            tracing::warn!("process {}, a copy of memory, does not end", self.pid);
        }
    }
}

fn has_ended(pidfd: &OwnedFd, limit: Duration) -> bool {
    poll::poll_readable(&[pidfd.as_fd()], Some(limit)).is_ok_and(|ready| ready[0].readable)
}

/// The slot that the copy serves, in a mapping that outlives the target's.
#[derive(Debug)]
struct Serving {
    lifeline: Option<Lifeline>,
    board: Board,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Should there be a copy, it ends as if we had died.
        self.lifeline.take();
        let word = &self.board.slot(self.board.parts.copy).lifeline;
        word.fetch_or(OWNER_DIED, Ordering::SeqCst);
        let _ = sys::futex::futex_wake(word, i32::MAX);
    }
}

impl Infected {
    /// Has the parasite begin to copy the memory of its process. The copy does without these areas.
    ///
    /// # Errors
    /// The shared memory cannot be mapped.
    pub fn begin_copy(&mut self, without: Vec<[u64; 2]>) -> Result<Copying, Error> {
        let (base, parts) = (self.board.base, self.board.parts);
        let mut board = self.board.again()?;
        let copy = parts.copy;
        let address = |offset: usize| base + offset as u64;
        board.mapping.put(
            parts.slot(copy),
            Slot {
                control: address(parts.control),
                ..Slot::default()
            },
        );
        let lifeline = Some(board.tie(copy)?);
        let mut serving = Serving { lifeline, board };
        let at_once = without.len().min(UNMAPPED_AT_ONCE);
        let mut rest = without;
        let later = rest.split_off(at_once);
        let first = first_questions(&rest);
        serving.board.write_request(copy, &first.0)?;
        let tops = [parts.stack_top(copy + 1), parts.stack_top(copy)];
        let [middle, own] = tops.map(address);
        let mut questions = Questions::default();
        let args = [address(parts.slot(copy)), middle, own, 0, 0, 0];
        let op = Op::special(special::COPY_SPACE, args).check(Check::Ignore, 0);
        let asked = questions.add(op, &[]);
        self.board.post(0, &questions)?;
        Ok(Copying {
            serving,
            fork: (questions, asked),
            first,
            rest: later,
        })
    }

    /// Waits for a copy that was begun. The target may go on then.
    ///
    /// # Errors
    /// The kernel makes no more processes, or the parasite does not answer.
    pub fn finish_copy(&mut self, copying: Copying) -> Result<Copied, Error> {
        let Copying {
            serving,
            fork: (questions, asked),
            first: (first, closed),
            rest,
        } = copying;
        self.wait(0)?;
        let of = self.board.pid;
        let failed = |errno| Error::Copy { pid: of.0, errno };
        let made = self.board.answers(0, &questions).result(asked);
        let pid = Pid(made.map_err(failed)? as i32);
        let pidfd = fd::pidfd_open(pid).map_err(|error| failed(error.errno as i32))?;
        let mut copied = Copied {
            process: Process { pid, pidfd },
            serving,
        };
        copied.wait()?;
        let answers = copied.answers(&first);
        answers.result(closed).map_err(failed)?;
        for areas in rest.chunks(UNMAPPED_AT_ONCE) {
            let mut questions = Questions::default();
            ask_to_unmap(&mut questions, areas);
            copied.ask(&questions)?;
        }
        copied.offer_to_the_killer();
        Ok(copied)
    }
}

fn first_questions(without: &[[u64; 2]]) -> (Questions, Asked) {
    let mut questions = Questions::default();
    let args = [0, u64::from(u32::MAX), UNSHARE].map(Arg::Value);
    let closed = questions.ask(libc::SYS_close_range as u32, args);
    questions.ask(libc::SYS_setsid as u32, []);
    let name = questions.with(NAME);
    let args = [Arg::Value(libc::PR_SET_NAME as u64), name.into()];
    questions.ask(libc::SYS_prctl as u32, args);
    let root = questions.with(b"/\0");
    questions.ask(libc::SYS_chdir as u32, [root.into()]);
    ask_to_unmap(&mut questions, without);
    (questions, closed)
}

fn ask_to_unmap(questions: &mut Questions, areas: &[[u64; 2]]) {
    for [start, end] in areas {
        let args = [Arg::Value(*start), Arg::Value(end - start)];
        questions.ask(libc::SYS_munmap as u32, args);
    }
}

impl Copied {
    fn slot(&self) -> usize {
        self.serving.board.parts.copy
    }

    fn wait(&self) -> Result<(), Error> {
        let is_gone = || has_ended(&self.process.pidfd, Duration::ZERO);
        self.serving.board.wait(self.slot(), is_gone)
    }

    fn answers(&self, questions: &Questions) -> Answers {
        self.serving.board.answers(self.slot(), questions)
    }

    /// Where memory runs out, it is the first to go: the target is not to suffer for being written to.
    fn offer_to_the_killer(&self) {
        let path = format!("/proc/{}/oom_score_adj", self.process.pid.0);
        if let Err(error) = std::fs::write(path, "1000") {
            tracing::debug!("the copy is not the first to be killed for want of memory: {error}");
        }
    }
}

impl Parasite for Copied {
    fn pid(&self) -> Pid {
        self.process.pid
    }

    fn may_call(&self) -> bool {
        true
    }

    fn ask(&mut self, questions: &Questions) -> Result<Answers, Error> {
        let slot = self.slot();
        self.serving.board.post(slot, questions)?;
        self.wait()?;
        Ok(self.answers(questions))
    }

    // What it leaves open ends with it.
    fn set_cleanup(&mut self, _ops: &[Op]) {}

    fn run_cleanup(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
