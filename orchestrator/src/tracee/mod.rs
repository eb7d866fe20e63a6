//! A process under ptrace: frozen whole, or let go as it was.
//!
//! [`freeze`] seizes every thread until a look at the list finds no new one, and notes of each what its stop told.
//! A [`Frozen`] process that is dropped is let go with its registers put back: that is the net below every error path.
//! No SIGTRAP is ever made: remote system calls stop by `PTRACE_SYSCALL`, and a forced SIGTRAP would reset the target's
//! handler for it. Knows nothing of images.

mod asleep;
mod cgroup;
mod confined;
mod net;
mod note;
mod remote;
pub mod resume;
mod seen;
mod tree;
mod vfork;

pub use tree::{Tree, freeze_tree};

use crate::procfs::{self, status::Status};
use crate::sys::{self, Pid, Tid, ptrace, wait};
use arch::native::sigframe;
use arch::regs::Regs;
use std::collections::BTreeMap;
use std::fs::File;
use std::time::{Duration, Instant};

/// Most passes over the list of threads: each finds only what was born since the one before.
const MAX_PASSES: usize = 1000;

/// What can go wrong with a traced process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such process.
    #[error("there is no process {0}")]
    Missing(i32),
    /// Another process traces it.
    #[error(
        "process {pid} is traced by process {tracer} already (a debugger or strace; end it first)"
    )]
    Traced {
        /// The target.
        pid: i32,
        /// Its tracer.
        tracer: i32,
    },
    /// It may not be traced.
    #[error("cannot attach to thread {tid}")]
    Attach {
        /// The thread.
        tid: i32,
        /// Why.
        #[source]
        source: sys::Error,
    },
    /// A request failed.
    #[error("thread {tid}: {what}")]
    Request {
        /// The thread.
        tid: i32,
        /// What was being done.
        what: &'static str,
        /// Why.
        #[source]
        source: sys::Error,
    },
    /// It ended meanwhile.
    #[error("thread {0} ended while it was being frozen")]
    Gone(i32),
    /// It does not stop.
    #[error(
        "thread {tid} did not stop within {seconds} s (in uninterruptible sleep?); --timeout allows more"
    )]
    Timeout {
        /// The thread.
        tid: i32,
        /// The limit.
        seconds: u64,
    },
    /// It waits for a child of `vfork`.
    #[error(
        "thread {tid} waits for process {child}, its child by vfork, to execute a program or end, and cannot be stopped before; try again then"
    )]
    Vfork {
        /// The thread.
        tid: i32,
        /// The child.
        child: i32,
    },
    /// The cgroup to freeze.
    #[error("cgroup {path}: {reason}")]
    Cgroup {
        /// Its folder.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Its tree never stands still.
    #[error("the tree of process {0} grows faster than it can be frozen")]
    Restless(i32),
    /// Its vDSO has no `syscall` instruction to borrow.
    #[error("process {0} has no vDSO with a syscall instruction")]
    NoGate(i32),
    /// A remote system call failed.
    #[error("{call} inside process {pid} failed: {}", std::io::Error::from_raw_os_error(*errno))]
    Remote {
        /// The process.
        pid: i32,
        /// The call.
        call: &'static str,
        /// Its error.
        errno: i32,
    },
    /// `/proc` could not be read.
    #[error(transparent)]
    Proc(#[from] procfs::Error),
}

/// A thread that stands still.
#[derive(Debug)]
pub struct Stopped {
    /// Its id.
    pub tid: Tid,
    /// Registers to let it go with.
    pub regs: Regs,
    /// Registers to bring it back with from an image: no restart block stands behind them.
    pub image_regs: Regs,
    /// Blocked signals.
    pub blocked: u64,
    /// XSAVE area, as far as it is not in its initial state.
    pub xstate: Vec<u8>,
    /// Signal of the group stop it was in.
    pub group_stop: Option<i32>,
    /// `rseq` registration.
    pub rseq: Option<ptrace::RseqConfiguration>,
    status: Option<Box<Status>>,
    again: Option<resume::Again>,
    /// How the call that it was stopped in is made again from an image.
    remade: Option<resume::Again>,
    rest: Option<resume::Rest>,
    /// It runs under seccomp, which is suspended while we trace it.
    pub confined: bool,
    note: Option<(Pid, note::Note)>,
    changed: bool,
}

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

    /// Lets the process go, stopped by SIGSTOP.
    pub fn release_stopped(mut self) {
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

impl Stopped {
    fn new(tid: Tid) -> Self {
        Self {
            tid,
            regs: Regs::default(),
            image_regs: Regs::default(),
            blocked: 0,
            xstate: Vec::new(),
            group_stop: None,
            rseq: None,
            status: None,
            again: None,
            remade: None,
            rest: None,
            confined: false,
            note: None,
            changed: false,
        }
    }

    fn read_state(&mut self, sizes: &sigframe::Sizes) -> Result<(), Error> {
        self.regs = self.did("read its registers", ptrace::getregs(self.tid))?;
        self.image_regs = self.regs;
        self.blocked = self.did("read its signal mask", ptrace::get_sigmask(self.tid))?;
        let mut xstate = Vec::new();
        let (note, area) = (ptrace::NT_X86_XSTATE, sizes.area());
        let read = ptrace::get_regset_of(self.tid, note, area, &mut xstate);
        self.did("read its extended state", read)?;
        // Room for tiles is most of it, and every thread has one.
        self.xstate = xstate[..sizes.used(&xstate)].to_vec();
        self.rseq = ptrace::rseq_configuration(self.tid)
            .ok()
            .filter(|rseq| rseq.addr.0 != 0);
        Ok(())
    }

    pub(crate) fn did<T>(&self, what: &'static str, result: sys::Result<T>) -> Result<T, Error> {
        result.map_err(|source| Error::Request {
            tid: self.tid.0,
            what,
            source,
        })
    }

    /// Sets registers other than the thread's own; they are put back later. The registers first: they lead home even if this
    /// process dies next, and bring the mask.
    pub(crate) fn hijack(&mut self, regs: &Regs) -> Result<(), Error> {
        self.did("set its registers", ptrace::setregs(self.tid, regs))?;
        if !std::mem::replace(&mut self.changed, true) {
            self.did("block its signals", ptrace::set_sigmask(self.tid, !0))?;
        }
        Ok(())
    }

    /// Returns the registers for a signal frame that brings the thread back.
    pub(crate) fn return_regs(&self) -> Regs {
        resume::return_regs(self)
    }

    /// Notes that the thread has to get these registers when it is let go.
    pub(crate) fn resume_with(&mut self, regs: Regs) -> Result<(), Error> {
        self.regs = regs;
        self.did("set its registers", ptrace::setregs(self.tid, &self.regs))
    }

    /// Returns what `/proc` says of the thread, read once since it stands still.
    pub(crate) fn status(&mut self, pid: Pid) -> Result<&Status, Error> {
        let status = match self.status.take() {
            Some(status) => status,
            None => Box::new(procfs::status::read((pid, self.tid))?),
        };
        Ok(self.status.insert(status))
    }

    /// Returns what [`Self::status`] would, if it was read already.
    pub(crate) fn known_status(&self) -> Option<&Status> {
        self.status.as_deref()
    }

    /// Gives the thread everything back. It has to stand still.
    fn put_back(&mut self, sizes: &sigframe::Sizes, mem: Option<&File>) -> Result<(), Error> {
        if !self.changed {
            return Ok(());
        }
        // The registers last: until then what the thread would do brings it home by itself.
        self.did(
            "put its signal mask back",
            ptrace::set_sigmask(self.tid, self.blocked),
        )?;
        let mut xstate = self.xstate.clone();
        xstate.resize(sizes.area(), 0);
        let set = ptrace::set_regset(self.tid, ptrace::NT_X86_XSTATE, &xstate);
        self.did("put its extended state back", set)?;
        self.did(
            "put its registers back",
            ptrace::setregs(self.tid, &self.regs),
        )?;
        if let (Some((pid, note)), Some(mem)) = (&mut self.note, mem) {
            note.renew((*pid, self.tid), &self.regs, mem);
        }
        self.changed = false;
        Ok(())
    }
}

/// A point in time after which a wait is given up.
#[derive(Debug)]
pub(crate) struct Deadline {
    end: Option<Instant>,
    seconds: u64,
}

/// Looks without a pause between them: a thread that was asleep stops within some tens of microseconds.
const EAGER_LOOKS: u32 = 2000;

impl Deadline {
    pub(crate) fn new(limit: Duration) -> Self {
        let end = (!limit.is_zero()).then(|| Instant::now() + limit);
        Self {
            end,
            seconds: limit.as_secs(),
        }
    }

    /// Returns whether it has passed.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() > end)
    }

    /// Waits for news of a thread.
    pub(crate) fn news(&self, tid: Tid) -> Result<wait::WaitStatus, Error> {
        let mut looks = 0;
        loop {
            let looked = wait::try_wait_tid(tid);
            match looked.map_err(|source| Error::Request {
                tid: tid.0,
                what: "wait for it",
                source,
            })? {
                Some(status) => return Ok(status),
                None if looks < EAGER_LOOKS => std::thread::yield_now(),
                None => std::thread::sleep(Duration::from_micros(100)),
            }
            looks += 1;
            if self.is_over() {
                return Err(Error::Timeout {
                    tid: tid.0,
                    seconds: self.seconds,
                });
            }
        }
    }
}

/// Waits until an interrupted thread is in its `PTRACE_EVENT_STOP` and returns the signal of a group stop. Signals on their
/// way are delivered first: they were before us.
pub(crate) fn await_event_stop(tid: Tid, deadline: &Deadline) -> Result<Option<i32>, Error> {
    loop {
        match deadline.news(tid)? {
            wait::WaitStatus::Stopped {
                signal,
                event: ptrace::EVENT_STOP,
            } => {
                return Ok((signal != libc::SIGTRAP).then_some(signal));
            }
            wait::WaitStatus::Stopped { signal, event } => {
                let deliver = if event == 0 && signal != wait::SYSCALL_STOP {
                    signal
                } else {
                    0
                };
                ptrace::cont(tid, deliver).map_err(|source| Error::Request {
                    tid: tid.0,
                    what: "let it go on",
                    source,
                })?;
            }
            status if status.is_end() => return Err(Error::Gone(tid.0)),
            _ => {}
        }
    }
}
