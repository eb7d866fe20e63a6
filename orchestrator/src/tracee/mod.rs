//! A process under ptrace: frozen whole, or let go as it was.
//!
//! [`freeze`] seizes every thread until a look at the list finds no new one, and notes of each what its stop told.
//! A [`Frozen`] process that is dropped is let go with its registers put back: that is the net below every error path.
//! No SIGTRAP is ever made: remote system calls stop by `PTRACE_SYSCALL`, and a forced SIGTRAP would reset the target's
//! handler for it. Knows nothing of images.

mod asleep;
mod cgroup;
mod confined;
mod deadline;
mod error;
mod net;
mod note;
mod remote;
pub mod resume;
mod seen;
mod stopped;
mod tree;
mod vfork;

pub use error::Error;
pub use stopped::Stopped;
pub use tree::{Tree, freeze_tree, release_stopped};

pub(crate) use deadline::{Deadline, await_event_stop};

use crate::procfs;
use crate::sys::{self, Pid, Tid, ptrace, wait};
use arch::native::sigframe;
use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

/// Most passes over the list of threads: each finds only what was born since the one before.
const MAX_PASSES: usize = 1000;

/// A process of which every thread stands still.
#[derive(Debug)]
pub struct Frozen {
    pid: Pid,
    threads: Vec<Stopped>,
    /// Children that the threads had when the last of them stopped.
    first_children: Option<Vec<Pid>>,
    mem: Option<File>,
    sizes: sigframe::Sizes,
    gate: Option<u64>,
    code: Option<net::Code>,
    net: Option<net::Net>,
    released: bool,
}

/// Freezes a process within a time limit (zero = none).
///
/// # Errors
/// It is missing, may not be traced, ends or does not stop; it is let go then.
pub fn freeze(pid: Pid, limit: Duration) -> Result<Frozen, Error> {
    Seized::begin(pid)?.finish(&Deadline::new(limit))
}

/// A process whose threads are seized and told to stop. Dropped, it is let go.
#[derive(Debug)]
struct Seized {
    frozen: Frozen,
    /// What was seen of its threads while they ran.
    looks: BTreeMap<i32, asleep::Look>,
    /// Those whose stop is not awaited yet.
    stopping: Vec<Tid>,
}

impl Seized {
    fn begin(pid: Pid) -> Result<Self, Error> {
        refuse_traced(pid)?;
        Ok(Self {
            frozen: Frozen {
                pid,
                threads: Vec::new(),
                first_children: None,
                mem: None,
                sizes: sigframe::Sizes::of_this_machine(),
                gate: None,
                code: net::find(pid),
                net: None,
                released: false,
            },
            looks: BTreeMap::new(),
            stopping: Vec::new(),
        })
    }

    /// Looks at threads that have not been looked at.
    fn look(&mut self, tids: &[Tid], clocks: &mut asleep::Clocks) -> Result<(), Error> {
        let pid = self.frozen.pid;
        for &tid in tids {
            if self.looks.contains_key(&tid.0) {
                continue;
            }
            let look = asleep::look(pid, tid, clocks, resume::has_timeout);
            if look.in_vfork {
                vfork::refuse(pid, tid)?;
            }
            self.looks.insert(tid.0, look);
        }
        Ok(())
    }

    /// Seizes the threads that are not seized yet, and returns whether there were any.
    fn pass(&mut self, clocks: &mut asleep::Clocks) -> Result<bool, Error> {
        let fresh: Vec<Tid> = procfs::tasks::read(self.frozen.pid)?
            .into_iter()
            .filter(|tid| !self.frozen.has(*tid))
            .collect();
        self.look(&fresh, clocks)?;
        let seized = seize_all(&fresh, &mut self.frozen)?;
        self.stopping.extend(seized);
        Ok(!fresh.is_empty())
    }

    /// Waits until all threads stand still, and reads what their stops tell.
    fn finish(mut self, deadline: &Deadline) -> Result<Frozen, Error> {
        let pid = self.frozen.pid;
        let mut clocks = asleep::Clocks::default();
        for _ in 0..MAX_PASSES {
            let is_new = self.pass(&mut clocks)?;
            for tid in std::mem::take(&mut self.stopping) {
                self.frozen.stop(tid, deadline)?;
            }
            if !is_new {
                break;
            }
        }
        let Self {
            mut frozen, looks, ..
        } = self;
        drop(clocks);
        frozen
            .threads
            .sort_by_key(|thread| (thread.tid.0 != pid.0, thread.tid.0));
        frozen.mem = resume::memory(pid);
        frozen.look_and_read()?;
        let started = procfs::stat::read(pid)?.starttime;
        for thread in &mut frozen.threads {
            let look = &looks[&thread.tid.0];
            resume::settle(pid, thread, look, started, frozen.mem.as_ref())?;
        }
        frozen.suspend_seccomp()?;
        frozen.code = frozen.code.filter(|code| code.holds(pid));
        Ok(frozen)
    }
}

fn refuse_traced(pid: Pid) -> Result<(), Error> {
    let status = procfs::status::read(pid).map_err(|error| match error.errno() {
        Some(libc::ENOENT | libc::ESRCH) => Error::Missing(pid.0),
        _ => Error::Proc(error),
    })?;
    match status.tracer_pid {
        0 => Ok(()),
        tracer => Err(Error::Traced { pid: pid.0, tracer }),
    }
}

/// Seizes and interrupts threads; those that ended meanwhile are left out.
fn seize_all(tids: &[Tid], frozen: &mut Frozen) -> Result<Vec<Tid>, Error> {
    let mut seized = Vec::with_capacity(tids.len());
    for &tid in tids {
        match ptrace::seize(tid, ptrace::Options::TRACESYSGOOD) {
            Ok(()) => {
                frozen.threads.push(Stopped::new(tid));
                seized.push(tid);
            }
            Err(error) if error.errno == nix::errno::Errno::ESRCH => {}
            // One that has ended, and is still listed, may not be traced (`ptrace_attach`, `exit_state`).
            Err(_) if tid.0 != frozen.pid.0 && has_ended(frozen.pid, tid) => {}
            Err(source) => {
                // Another may have come first since we looked.
                refuse_traced(frozen.pid)?;
                return Err(Error::Attach { tid: tid.0, source });
            }
        }
    }
    for &tid in &seized {
        // A thread that ends now says so to the wait below.
        let _ = ptrace::interrupt(tid);
    }
    Ok(seized)
}

fn has_ended(pid: Pid, tid: Tid) -> bool {
    match procfs::stat::read((pid, tid)) {
        Ok(stat) => matches!(stat.state, b'Z' | b'X'),
        Err(error) => matches!(error.errno(), Some(libc::ENOENT | libc::ESRCH)),
    }
}

impl Frozen {
    /// Returns the process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns its threads, the leader first.
    pub fn threads(&self) -> &[Stopped] {
        &self.threads
    }

    pub(crate) fn thread_mut(&mut self, index: usize) -> &mut Stopped {
        &mut self.threads[index]
    }

    fn has(&self, tid: Tid) -> bool {
        self.threads.iter().any(|thread| thread.tid == tid)
    }

    /// Waits for the stop of a thread that was interrupted.
    fn stop(&mut self, tid: Tid, deadline: &Deadline) -> Result<(), Error> {
        match await_event_stop(tid, deadline) {
            Ok(group_stop) => {
                if let Some(thread) = self.threads.iter_mut().find(|thread| thread.tid == tid) {
                    thread.group_stop = group_stop;
                }
                Ok(())
            }
            // One thread among others may end while it is frozen; the process may not.
            Err(Error::Gone(gone)) if gone != self.pid.0 => {
                self.threads.retain(|thread| thread.tid != tid);
                Ok(())
            }
            Err(Error::Timeout { .. }) if vfork::waits(self.pid, tid) => {
                Err(vfork::error(self.pid, tid))
            }
            Err(error) => Err(error),
        }
    }

    /// Lets the process go as it was.
    pub fn release(mut self) {
        self.let_go(0);
    }

    /// Lets the process go, about to be stopped by SIGSTOP.
    fn release_stopped(mut self) {
        // Sent before it runs, so that it makes no step.
        let _ = sys::signal::kill(self.pid, libc::SIGSTOP);
        self.let_go(0);
    }

    /// Has the process die with us.
    ///
    /// # Errors
    /// ptrace failed.
    pub fn doom(&self) -> Result<(), Error> {
        let options = ptrace::Options::TRACESYSGOOD | ptrace::Options::EXITKILL;
        for thread in &self.threads {
            thread.did(
                "have it die with us",
                ptrace::set_options(thread.tid, options),
            )?;
        }
        Ok(())
    }

    /// Kills the process.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn kill(&self) -> Result<(), Error> {
        sys::signal::kill(self.pid, libc::SIGKILL).map_err(|source| Error::Request {
            tid: self.pid.0,
            what: "kill it",
            source,
        })
    }

    /// Waits until the threads of a process that was killed are gone.
    pub fn await_end(mut self) {
        self.released = true;
        // The leader's end is told last, once the others are reaped.
        for thread in self.threads.iter().rev() {
            while wait::wait_tid(thread.tid).is_ok_and(|status| !status.is_end()) {}
        }
    }

    /// Gives every thread everything back.
    ///
    /// # Errors
    /// ptrace failed, most often because the process ended.
    pub(crate) fn put_back(&mut self) -> Result<(), Error> {
        for thread in &mut self.threads {
            thread.put_back(&self.sizes, self.mem.as_ref())?;
        }
        self.take_net();
        Ok(())
    }

    /// Gives one thread everything back.
    ///
    /// # Errors
    /// As [`Self::put_back`].
    pub(crate) fn put_back_thread(&mut self, index: usize) -> Result<(), Error> {
        self.threads[index].put_back(&self.sizes, self.mem.as_ref())
    }

    /// Returns how large frames are on this machine.
    pub(crate) fn sizes(&self) -> &sigframe::Sizes {
        &self.sizes
    }

    /// Has threads stop again that run code of ours, and waits until all of them do.
    ///
    /// # Errors
    /// ptrace failed, or one of them ended.
    pub(crate) fn stop_again(
        &self,
        threads: std::ops::Range<usize>,
        limit: Duration,
    ) -> Result<(), Error> {
        for thread in &self.threads[threads.clone()] {
            let interrupted = ptrace::interrupt(thread.tid);
            thread.did("interrupt the parasite", interrupted)?;
        }
        let deadline = Deadline::new(limit);
        for thread in &self.threads[threads] {
            await_event_stop(thread.tid, &deadline)?;
        }
        Ok(())
    }

    /// Takes the net under the leader away, if there is one: the leader no longer stands on it.
    pub(crate) fn take_net(&mut self) {
        if let Some(net) = &mut self.net {
            net.take_away();
        }
    }

    fn let_go(&mut self, signal: i32) {
        if std::mem::replace(&mut self.released, true) {
            return;
        }
        for thread in &mut self.threads {
            let mem = self.mem.as_ref();
            let back = resume::go_on(thread, mem).and_then(|()| thread.put_back(&self.sizes, mem));
            if let Err(error) = back {
                tracing::error!(
                    "thread {} may not have got its registers back: {error}",
                    thread.tid.0
                );
            }
        }
        self.take_net();
        for thread in &self.threads {
            if let Err(error) = ptrace::detach(thread.tid, signal) {
                tracing::debug!("detach from thread {}: {error}", thread.tid.0);
            }
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.let_go(0);
    }
}
