//! Running a plan: launch, wait until every thread is parked, commit; or find out what failed, and leave nothing.
//!
//! Waiting is on a futex in the arena, with a timeout: a task that is killed tells nobody, so its descriptor is looked at
//! too. What it was doing is in its context, which the kill does not change.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use arch::abi::program::{Op, special};
use arch::abi::restore::state;
use nix::errno::Errno;

use super::commit::{self, After};
use super::error::{Doing, Error, Result};
use super::launch::{Launched, holder, launch};
use super::{Restored, micros};
use crate::image::{ImageSet, RestoreStats};
use crate::plan::Plan;
use crate::plan::print::Words;
use crate::sys::futex::futex_wait;
use crate::sys::poll::poll_readable;
use crate::sys::wait::{WaitStatus, try_wait_tid, wait_tid};
use crate::sys::{Pid, Tid, fd};

/// How long a killed task may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a killed process may take to be gone; one that is in the middle of a large read takes a while.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What is not in the plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct How {
    /// The root becomes a child of our parent.
    pub sibling: bool,
    /// Every process is left stopped.
    pub leave_stopped: bool,
}

/// Brings the tree of `plan` to life, which was made from these images.
pub fn run(plan: &Plan, images: &ImageSet, how: How) -> Result<Restored> {
    let started = Instant::now();
    let root = Root {
        launched: launch(plan, &images.pages, how.sibling)?,
        sibling: how.sibling,
        kept: false,
    };
    let forking_us = micros(started);
    root.wait_until_parked(plan)?;
    root.check_clocks(plan)?;
    let after = if how.leave_stopped {
        After::Stopped
    } else {
        After::AsPlanned
    };
    commit::commit(plan, &images.snapshot, root.launched.pid, after)?;
    let pid = root.keep();
    Ok(Restored {
        pid,
        stats: RestoreStats {
            forking_us,
            restore_us: micros(started),
            ..RestoreStats::default()
        },
        not_kept: plan.not_kept.clone(),
    })
}

/// The root of a tree that is not yet alive: forgotten, it and all its threads are killed.
#[derive(Debug)]
struct Root {
    launched: Launched,
    sibling: bool,
    kept: bool,
}

impl Root {
    fn wait_until_parked(&self, plan: &Plan) -> Result<()> {
        let head = self.launched.arena.head();
        loop {
            let events = head.events.load(SeqCst);
            if head.abort.load(SeqCst) != 0 {
                return Err(self.failure(plan));
            }
            if head.parked.load(SeqCst) as usize == plan.programs.len() {
                return Ok(());
            }
            if self.has_ended()? {
                return Err(self.end(plan));
            }
            match futex_wait(&head.events, events, Some(LOOK_EVERY)) {
                Err(error) if !is_news(error.errno) => {
                    return Err(error).doing("wait for the tree");
                }
                _ => {}
            }
        }
    }

    fn has_ended(&self) -> Result<bool> {
        let ready = poll_readable(&[self.launched.pidfd.as_fd()], Some(Duration::ZERO));
        match ready {
            Ok(ready) => Ok(ready.iter().any(|ready| ready.any())),
            Err(error) if error.errno == Errno::EINTR => Ok(false),
            Err(error) => Err(error).doing("look at the tree"),
        }
    }

    /// Returns the failure that a context has reported.
    fn failure(&self, plan: &Plan) -> Error {
        let head = self.launched.arena.head();
        let index = (head.fail_ctx.load(SeqCst) as usize).saturating_sub(1);
        let pc = head.fail_pc.load(SeqCst);
        let result = head.fail_result.load(SeqCst);
        let Some(op) = operation(plan, index, pc) else {
            return Error::Operation {
                object: format!("context {index}"),
                operation: format!("operation {pc}"),
                result,
            };
        };
        let taken = i64::from(op.nr) == libc::SYS_clone3 && result == -i64::from(libc::EEXIST);
        if taken {
            let pid = op.expect as i32;
            return Error::PidTaken {
                pid,
                name: holder(pid),
            };
        }
        Error::Operation {
            object: plan.object_of(op),
            operation: Words(op).to_string(),
            result,
        }
    }

    /// Returns how the root ended of itself, and what it was doing.
    fn end(&self, plan: &Plan) -> Error {
        // A report may have come between the two looks.
        if self.launched.arena.head().abort.load(SeqCst) != 0 {
            return self.failure(plan);
        }
        let pid = self.launched.pid;
        let status = match self.sibling {
            true => Ok(None),
            false => try_wait_tid(pid.leader()),
        };
        let cause = match status {
            Ok(Some(WaitStatus::Signaled(signal))) => format!("signal {signal}"),
            Ok(Some(WaitStatus::Exited(arch::native::launch::NO_ARENA))) => {
                "having no room for the arena".into()
            }
            Ok(Some(WaitStatus::Exited(status))) => format!("leaving with status {status}"),
            _ => "something unknown".into(),
        };
        Error::Ended {
            pid: pid.0,
            cause,
            at: self.position(plan),
        }
    }

    /// Returns what the tree was doing: the first context that was in the middle of an operation, and not waiting.
    fn position(&self, plan: &Plan) -> String {
        let running = (0..plan.programs.len())
            .filter(|&index| self.launched.arena.ctx(index).state.load(SeqCst) == state::RUNNING);
        let ops: Vec<&Op> = running
            .filter_map(|index| {
                let pc = self.launched.arena.ctx(index).pc.load(SeqCst);
                operation(plan, index, pc)
            })
            .collect();
        let working = ops.iter().find(|op| op.nr != special::BARRIER);
        match working.or(ops.first()) {
            Some(op) => format!("{}: {}", plan.object_of(op), Words(op)),
            None => "its start".into(),
        }
    }

    /// A namespace of our own would be no sign that the kernel moved it: its clocks are compared by name.
    fn check_clocks(&self, plan: &Plan) -> Result<()> {
        if plan.launch.clocks.is_none() {
            return Ok(());
        }
        let name = |pid: Pid| std::fs::read_link(format!("/proc/{pid}/ns/time"));
        match (name(Pid::this()), name(self.launched.pid)) {
            (Ok(ours), Ok(theirs)) if ours == theirs => Err(Error::Clocks),
            _ => Ok(()),
        }
    }

    /// Lets the tree live.
    fn keep(mut self) -> Pid {
        self.kept = true;
        self.launched.pid
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if !self.kept {
            end_process(&self.launched, self.sibling);
        }
    }
}

/// Kills the root with all its threads and waits until it is gone. Threads that we trace are to be reaped one by one
/// before their leader is.
fn end_process(root: &Launched, sibling: bool) {
    // An error means that it is gone already.
    let _ = fd::pidfd_send_signal(&root.pidfd, libc::SIGKILL);
    let threads = crate::procfs::tasks::read(root.pid).unwrap_or_default();
    let leader = root.pid.leader();
    for tid in threads.into_iter().filter(|&tid| tid != leader) {
        reap_thread(tid);
    }
    let _ = poll_readable(&[root.pidfd.as_fd()], Some(END_WITHIN));
    if !sibling {
        reap_thread(leader);
    } else {
        // Our parent's, unless we trace it.
        while matches!(try_wait_tid(leader), Ok(Some(status)) if !status.is_end()) {}
    }
}

fn reap_thread(tid: Tid) {
    // ECHILD ends it too: not traced, or reaped.
    while matches!(wait_tid(tid), Ok(status) if !status.is_end()) {}
}

fn is_news(errno: Errno) -> bool {
    matches!(errno, Errno::EAGAIN | Errno::ETIMEDOUT | Errno::EINTR)
}

fn operation(plan: &Plan, index: usize, pc: u32) -> Option<&Op> {
    plan.programs.get(index)?.ops.get(pc as usize)
}
