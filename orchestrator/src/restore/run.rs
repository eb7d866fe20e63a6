//! Running a plan: launch, wait until every thread is parked, commit; or find out what failed, and leave nothing.
//!
//! Waiting is on a futex in the arena, with a timeout: a task that is killed tells nobody, so it is looked at too. What it
//! was doing is in its context, which the kill does not change. The root is traced from its start, so that it dies with us.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use arch::abi::program::{Op, special};
use arch::abi::restore::state;
use nix::errno::Errno;

use super::commit::{self, After};
use super::error::{Doing, Error, Result};
use super::launch::{Launched, Parent, launch};
use super::network::Place;
use super::numbers::holder;
use super::queues::Queues;
use super::segments::Segments;
use super::{Mapped, Restored, micros};
use super::{connections, datagrams};
use crate::image::{ImageSet, RestoreStats};
use crate::lazy::link::Link;
use crate::plan::Plan;
use crate::plan::print::Words;
use crate::procfs;
use crate::stages::{Stage, Stages};
use crate::sys::futex::{futex_wait, futex_wake};
use crate::sys::poll::poll_readable;
use crate::sys::wait::{WaitStatus, try_wait_tid, wait_tid};
use crate::sys::{Pid, Tid, fd, process, ptrace, signal};

/// How long a killed task may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a process that cannot be traced may take to show that this is because it has ended.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);
/// How long a killed process may take to be gone; one that is in the middle of a large read takes a while.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What is not in the plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct How {
    /// The root becomes a child of our parent.
    pub sibling: bool,
    /// We end while the tree lives on.
    pub detached: bool,
    /// Every process is left stopped.
    pub leave_stopped: bool,
}

/// Brings the tree of `plan` to life, which was made from these images.
pub(super) fn run(
    plan: &Plan,
    images: &ImageSet,
    (how, lazy): (How, Option<&Link>),
    (stages, mut place): (&Stages, Place),
) -> Result<Restored> {
    let started = Instant::now();
    let orphans = Orphans::adopt(plan)?;
    // Given up after the root, whose end detaches them.
    let segments = Segments::watch(
        plan,
        !images.snapshot.segments.is_empty() && !plan.launch.has_own_ipc,
    )?;
    let queues = Queues::watch(plan);
    let parent = parent(plan, how);
    let root = Root {
        launched: launch(plan, &images.pages, (parent, place.own()))?,
        kept: false,
    };
    let forking_us = micros(started);
    root.tie(plan)?;
    root.wait_until_parked(plan)?;
    root.check_clocks(plan)?;
    let pid = Some(root.launched.pid);
    stages.reached(Stage::PostRestore, pid)?;
    stages.passed(Stage::PreResume, pid);
    let lock = place.take_lock();
    let lost = place.within(|| {
        connections::finish(&images.snapshot, lock)?;
        Ok(datagrams::finish(&images.snapshot))
    })?;
    let after = if how.leave_stopped {
        After::Stopped
    } else {
        After::AsPlanned
    };
    let to = (root.launched.pid, after);
    commit::commit(plan, &images.snapshot, to, lazy)?;
    if let Some(link) = lazy {
        link.finish()?;
    }
    let pid = root.keep();
    segments.keep();
    queues.keep();
    orphans.leave();
    stages.passed(Stage::PostResume, Some(pid));
    Ok(Restored {
        pid,
        stats: RestoreStats {
            forking_us,
            restore_us: micros(started),
            ..RestoreStats::default()
        },
        not_kept: [place.not_kept, lost].concat(),
        mapped: Mapped::default(),
    })
}

/// Who becomes the parent of the root. Where we will have gone, its parent-death signal must not be for us.
fn parent(plan: &Plan, how: How) -> Parent {
    let asks = plan.finals.iter().any(|last| last.pdeath_signal != 0);
    match how {
        How { sibling: true, .. } => Parent::Ours,
        How { detached: true, .. } if asks => Parent::Reaper,
        _ => Parent::Us,
    }
}

/// The root of a tree that is not yet alive: forgotten, it and all its threads are killed.
#[derive(Debug)]
struct Root {
    launched: Launched,
    kept: bool,
}

impl Root {
    fn wait_until_parked(&self, plan: &Plan) -> Result<()> {
        let head = self.launched.arena.head();
        let mut confinement = plan.confinement;
        loop {
            let events = head.events.load(SeqCst);
            if head.abort.load(SeqCst) != 0 {
                return Err(self.failure(plan));
            }
            if head.parked.load(SeqCst) as usize == plan.finals.len() {
                return Ok(());
            }
            if let Some((word, count)) = confinement
                && self.launched.arena.word(word).load(SeqCst) as u64 + 1 == count
            {
                commit::confine(plan, self.launched.pid)?;
                let word = self.launched.arena.word(word);
                word.fetch_add(1, SeqCst);
                futex_wake(word, i32::MAX).doing("go on with threads that have seccomp filters")?;
                confinement = None;
            }
            if let Some(status) = self.ended()? {
                return Err(self.end(plan, self.launched.pid.0, status));
            }
            match futex_wait(&head.events, events, Some(LOOK_EVERY)) {
                Err(error) if error.errno == Errno::ETIMEDOUT => {
                    if let Some(pid) = self.lost_member(plan) {
                        return Err(self.end(plan, pid, WaitStatus::Continued));
                    }
                }
                Err(error) if !is_news(error.errno) => {
                    return Err(error).doing("wait for the tree");
                }
                _ => {}
            }
        }
    }

    /// Has the root die with us. One that has ended already, as its first operations failed, cannot be traced; what it has
    /// reported is told by [`Root::wait_until_parked`].
    fn tie(&self, plan: &Plan) -> Result<()> {
        let tied = commit::tie(plan, self.launched.pid);
        let is_over = tied.is_err()
            && poll_readable(&[self.launched.pidfd.as_fd()], Some(REFUSED_WITHIN))
                .is_ok_and(|ready| ready.iter().any(|ready| ready.any()));
        if is_over { Ok(()) } else { tied }
    }

    /// Returns how the root has ended, if it has. It is traced, so what would end it stops it first.
    fn ended(&self) -> Result<Option<WaitStatus>> {
        let doing = "look at the tree";
        let tid = self.launched.pid.leader();
        loop {
            let news = match try_wait_tid(tid) {
                // Never traced, and our parent's child: how it ended is told to that.
                Err(error) if error.errno == Errno::ECHILD => Some(WaitStatus::Continued),
                news => news.doing(doing)?,
            };
            match news {
                None => return Ok(None),
                Some(WaitStatus::Continued) => return Ok(Some(WaitStatus::Continued)),
                Some(status) if status.is_end() => return Ok(Some(status)),
                Some(WaitStatus::Stopped { signal, event: 0 }) => {
                    // All that can be blocked are: a fault of the blob is let happen, a stop is nobody's wish yet.
                    let signal = if signal == libc::SIGSTOP { 0 } else { signal };
                    ptrace::cont(tid, signal).doing(doing)?;
                }
                Some(_) => ptrace::cont(tid, 0).doing(doing)?,
            }
        }
    }

    /// Returns a process other than the root that was made and has ended, though its program has not.
    fn lost_member(&self, plan: &Plan) -> Option<i32> {
        let leading: BTreeSet<i32> = plan.finals.iter().map(|last| last.pid).collect();
        let leaders = plan.programs.iter().enumerate();
        let mut leaders = leaders.filter(|(_, program)| {
            program.tid != self.launched.pid.0 && leading.contains(&program.tid)
        });
        leaders
            .find(|(index, program)| {
                let is_made = self.launched.arena.ctx(*index).state.load(SeqCst) != state::NEW;
                is_made
                    && match procfs::stat::read(Pid(program.tid)) {
                        Ok(stat) => matches!(stat.state, b'Z' | b'X'),
                        Err(_) => true,
                    }
            })
            .map(|(_, program)| program.tid)
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

    /// Returns the words for a process that ended of itself.
    fn end(&self, plan: &Plan, pid: i32, status: WaitStatus) -> Error {
        // A report may have come between the two looks.
        if self.launched.arena.head().abort.load(SeqCst) != 0 {
            return self.failure(plan);
        }
        let cause = match status {
            WaitStatus::Signaled(signal) => format!("signal {signal}"),
            WaitStatus::Exited(arch::native::launch::NO_ARENA) => {
                "having no room for the arena".into()
            }
            WaitStatus::Exited(status) => format!("leaving with status {status}"),
            _ => "something unknown".into(),
        };
        Error::Ended {
            pid,
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
            end_process(&self.launched);
        }
    }
}

/// We as the one who gets the orphans of a restore that fails, so that they are gone when it is told.
#[derive(Debug)]
struct Orphans {
    before: Option<bool>,
    /// Children that we had before.
    others: Vec<Pid>,
    kept: bool,
}

impl Orphans {
    /// Adopts them, if the plan makes more than one process.
    fn adopt(plan: &Plan) -> Result<Self> {
        let doing = "become the reaper of orphans";
        let root = plan.launch.pid;
        if plan.finals.iter().all(|last| last.pid == root) {
            return Ok(Self {
                before: None,
                others: Vec::new(),
                kept: true,
            });
        }
        let before = process::child_subreaper().doing(doing)?;
        process::set_child_subreaper(true).doing(doing)?;
        Ok(Self {
            before: Some(before),
            others: children(),
            kept: false,
        })
    }

    /// Lets them be: the restore is done.
    fn leave(mut self) {
        self.kept = true;
    }

    /// Ends those that are ours because a root that failed ended by itself, before anybody could look below it. Each may
    /// leave us its own.
    fn end(&self) {
        loop {
            let mut ours = children();
            ours.retain(|pid| !self.others.contains(pid));
            if ours.is_empty() {
                return;
            }
            for &pid in &ours {
                let _ = signal::kill(pid, libc::SIGKILL);
            }
            ours.into_iter().for_each(reap_all);
        }
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        if !self.kept {
            self.end();
        }
        if let Some(before) = self.before {
            // It was allowed before.
            let _ = process::set_child_subreaper(before);
        }
    }
}

/// Returns our children, as far as our first thread has them: it gets all orphans.
fn children() -> Vec<Pid> {
    let this = Pid::this();
    procfs::tasks::read_children(this, this.leader()).unwrap_or_default()
}

/// Returns the processes below one, parents before their children.
pub(super) fn descendants(root: Pid) -> Vec<Pid> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(&pid) = all.get(next) {
        for tid in procfs::tasks::read(pid).unwrap_or_default() {
            all.extend(procfs::tasks::read_children(pid, tid).unwrap_or_default());
        }
        next += 1;
    }
    all.split_off(1)
}

/// Kills the root with all its threads and all below it, and waits until they are gone. Threads that we trace are to be
/// reaped one by one before their leader is.
fn end_process(root: &Launched) {
    let others = descendants(root.pid);
    // An error means that it is gone already.
    let _ = fd::pidfd_send_signal(&root.pidfd, libc::SIGKILL);
    for &pid in &others {
        let _ = signal::kill(pid, libc::SIGKILL);
    }
    let threads = procfs::tasks::read(root.pid).unwrap_or_default();
    let leader = root.pid.leader();
    for tid in threads.into_iter().filter(|&tid| tid != leader) {
        reap_thread(tid);
    }
    let _ = poll_readable(&[root.pidfd.as_fd()], Some(END_WITHIN));
    reap_thread(leader);
    others.into_iter().for_each(reap_all);
}

fn reap_all(pid: Pid) {
    for tid in procfs::tasks::read(pid).unwrap_or_default() {
        reap_thread(tid);
    }
    reap_thread(pid.leader());
}

fn reap_thread(tid: Tid) {
    // ECHILD ends it too: not traced, or reaped.
    while matches!(wait_tid(tid), Ok(status) if !status.is_end()) {}
}

fn is_news(errno: Errno) -> bool {
    matches!(errno, Errno::EAGAIN | Errno::EINTR)
}

fn operation(plan: &Plan, index: usize, pc: u32) -> Option<&Op> {
    plan.programs.get(index)?.ops.get(pc as usize)
}
