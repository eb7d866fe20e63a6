//! A thread that stands still: what its stop told, and how it gets everything back.

use super::{Error, note, resume};
use crate::procfs::{self, status::Status};
use crate::sys::{self, Pid, Tid, ptrace};
use arch::native::sigframe;
use arch::regs::Regs;
use std::fs::File;

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
    pub(super) status: Option<Box<Status>>,
    pub(super) again: Option<resume::Again>,
    /// How the call that it was stopped in is made again from an image.
    pub(super) remade: Option<resume::Again>,
    pub(super) rest: Option<resume::Rest>,
    /// It runs under seccomp, which is suspended while we trace it.
    pub confined: bool,
    pub(super) note: Option<(Pid, note::Note)>,
    pub(super) changed: bool,
}

impl Stopped {
    pub(super) fn new(tid: Tid) -> Self {
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

    pub(super) fn read_state(&mut self, sizes: &sigframe::Sizes) -> Result<(), Error> {
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
    pub(super) fn put_back(
        &mut self,
        sizes: &sigframe::Sizes,
        mem: Option<&File>,
    ) -> Result<(), Error> {
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
