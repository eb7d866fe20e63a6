//! Remote system calls: the leader of a frozen process makes one, and nothing else.
//!
//! The kernel's rule: a traced thread that is let on by `PTRACE_SYSCALL` stops at the entry and at the exit of the next
//! system call. So the instruction pointer goes to a `syscall` instruction that the process has anyway, in its vDSO, and
//! the thread never runs an instruction of ours. All its signals are blocked; `orig_rax` is -1, so that the kernel does not
//! take the interrupted call for one to restart. A group-stopped thread traps once more on the way and is let on again.

use super::{Deadline, Error, Frozen, Stopped};
use crate::procfs;
use crate::sys::{Pid, ptrace, wait};
use arch::regs::Regs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Longest vDSO looked at, in bytes.
const VDSO_MAX: usize = 64 << 10;
/// `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// A remote system call takes microseconds; one that takes longer will not come back.
const LIMIT: Duration = Duration::from_secs(10);

impl Frozen {
    /// Makes a system call inside the process and returns its raw result.
    ///
    /// # Errors
    /// The process ended, or ptrace failed.
    pub(crate) fn remote_raw(&mut self, nr: i64, args: [u64; 6]) -> Result<i64, Error> {
        let (gate, rsp, on_net) = self.place()?;
        let leader = &mut self.threads[0];
        let [rdi, rsi, rdx, r10, r8, r9] = args;
        let orig_rax = u64::MAX;
        let regs = Regs {
            rip: gate,
            rsp,
            rax: nr as u64,
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            orig_rax,
            ..leader.regs
        };
        if leader.confined && on_net {
            // As `rt_sigreturn` from behind the return address, which is what it does should we die now.
            let home = Regs {
                rax: libc::SYS_rt_sigreturn as u64,
                rsp: rsp + size_of::<u64>() as u64,
                ..regs
            };
            leader.hijack(&home)?;
            step_to_syscall_stop(leader.tid)?;
            let entered = Regs {
                rip: gate + SYSCALL.len() as u64,
                orig_rax: nr as u64,
                ..regs
            };
            leader.hijack(&entered)?;
        } else {
            leader.hijack(&regs)?;
            step_to_syscall_stop(leader.tid)?;
        }
        step_to_syscall_stop(leader.tid)?;
        let after = leader.did("read its registers", ptrace::getregs(leader.tid))?;
        Ok(after.rax as i64)
    }

    /// Makes a system call inside the process that has to succeed.
    ///
    /// # Errors
    /// As [`Self::remote_raw`], and the call's own.
    pub(crate) fn remote(
        &mut self,
        call: &'static str,
        nr: i64,
        args: [u64; 6],
    ) -> Result<u64, Error> {
        match self.remote_raw(nr, args)? {
            error @ -4095..=-1 => Err(Error::Remote {
                pid: self.pid.0,
                call,
                errno: -error as i32,
            }),
            value => Ok(value as u64),
        }
    }

    /// Returns the `syscall` instruction and the stack pointer for a call, on a net where one can be laid, and whether it is.
    fn place(&mut self) -> Result<(u64, u64, bool), Error> {
        if let (None, Some(code)) = (&self.net, &self.code) {
            self.net = code.net(self.pid, &self.threads[0], &self.sizes);
        }
        if let (Some(net), Some(code)) = (&mut self.net, &self.code)
            && net.lay()
        {
            return Ok((code.call, net.rsp, true));
        }
        Ok((self.gate()?, self.threads[0].regs.rsp, false))
    }

    fn gate(&mut self) -> Result<u64, Error> {
        if let Some(gate) = self.gate {
            return Ok(gate);
        }
        let gate = find_gate(self.pid)?.ok_or(Error::NoGate(self.pid.0))?;
        self.gate = Some(gate);
        Ok(gate)
    }
}

impl Stopped {
    /// Lets a thread on that was hijacked and makes a system call sooner or later.
    pub(crate) fn let_on(&self, what: &'static str) -> Result<(), Error> {
        if self.group_stop.is_some() {
            step_to_syscall_stop(self.tid)?;
        }
        self.did(what, ptrace::cont(self.tid, 0))
    }
}

fn step_to_syscall_stop(tid: crate::sys::Tid) -> Result<(), Error> {
    let deadline = Deadline::new(LIMIT);
    loop {
        ptrace::syscall_step(tid, 0).map_err(|source| Error::Request {
            tid: tid.0,
            what: "let it make a system call",
            source,
        })?;
        let status = deadline.news(tid)?;
        if status.is_syscall_stop() {
            return Ok(());
        }
        if let wait::WaitStatus::Exited(_) | wait::WaitStatus::Signaled(_) = status {
            return Err(Error::Gone(tid.0));
        }
    }
}

/// Returns the address of a `syscall` instruction in the vDSO. Whether the two bytes begin an instruction there does not
/// matter: what runs is what they say.
fn find_gate(pid: Pid) -> Result<Option<u64>, Error> {
    let areas = procfs::smaps::read_maps(pid)?;
    let Some(vdso) = areas
        .vmas
        .iter()
        .find(|vma| areas.path(vma).as_ref() == b"[vdso]")
    else {
        return Ok(None);
    };
    let len = ((vdso.end - vdso.start) as usize).min(VDSO_MAX);
    let mut code = vec![0; len];
    let mem = std::fs::File::open(format!("/proc/{}/mem", pid.0));
    if mem
        .and_then(|mem| mem.read_exact_at(&mut code, vdso.start))
        .is_err()
    {
        return Ok(None);
    }
    Ok(code
        .windows(2)
        .position(|two| two == SYSCALL)
        .map(|at| vdso.start + at as u64))
}
