//! Waiting for one thread at a time.
//!
//! Always by number: `waitpid(-1)` would take the news of children that others in this process wait for, and a traced thread
//! that is not reaped by its own number keeps it for ever.

use super::{Result, Tid, check};

/// What became of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitStatus {
    /// It ended with this status.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// It stopped.
    Stopped {
        /// The signal; a system-call stop has bit 7 set too (`PTRACE_O_TRACESYSGOOD`).
        signal: i32,
        /// `PTRACE_EVENT_*`, 0 for none.
        event: i32,
    },
    /// It runs on after a stop (`WCONTINUED`).
    Continued,
}

/// Signal of a system-call stop under `PTRACE_O_TRACESYSGOOD`.
pub const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;

impl WaitStatus {
    /// Returns the meaning of a status word of `waitpid`.
    pub fn from_raw(status: i32) -> Self {
        if status == 0xffff {
            Self::Continued
        } else if status & 0xff == 0x7f {
            Self::Stopped {
                signal: status >> 8 & 0xff,
                event: status >> 16 & 0xffff,
            }
        } else if status & 0x7f == 0 {
            Self::Exited(status >> 8 & 0xff)
        } else {
            Self::Signaled(status & 0x7f)
        }
    }

    /// Returns whether the thread stopped at a system call.
    pub fn is_syscall_stop(self) -> bool {
        matches!(
            self,
            Self::Stopped {
                signal: SYSCALL_STOP,
                event: 0
            }
        )
    }

    /// Returns whether there is no such thread any more.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Exited(_) | Self::Signaled(_))
    }
}

/// Waits until there is news of thread or child `tid`, traced or not.
pub fn wait_tid(tid: Tid) -> Result<WaitStatus> {
    // Without WNOHANG there is always a status.
    wait(tid, libc::__WALL).map(|status| status.unwrap_or(WaitStatus::Exited(0)))
}

/// Returns the news of thread or child `tid`, if there is any.
pub fn try_wait_tid(tid: Tid) -> Result<Option<WaitStatus>> {
    wait(tid, libc::__WALL | libc::WNOHANG)
}

/// Waits until child `tid` has ended, and leaves it to be waited for.
pub fn wait_ended(tid: Tid) -> Result<()> {
    // SAFETY: all zeros is a `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let how = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
    // SAFETY: `waitid` writes one `siginfo_t` through the pointer to `info`.
    let got = unsafe { libc::waitid(libc::P_PID, tid.0 as u32, &raw mut info, how) };
    check("waitid", got.into()).map(drop)
}

fn wait(tid: Tid, flags: i32) -> Result<Option<WaitStatus>> {
    let mut status = 0;
    // SAFETY: `waitpid` writes one `int` through the pointer to `status`.
    let got = unsafe { libc::waitpid(tid.0, &raw mut status, flags) };
    let got = check("waitpid", got.into())?;
    Ok((got != 0).then(|| WaitStatus::from_raw(status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_words_are_understood() {
        assert_eq!(WaitStatus::from_raw(7 << 8), WaitStatus::Exited(7));
        assert_eq!(WaitStatus::from_raw(9), WaitStatus::Signaled(9));
        assert_eq!(WaitStatus::from_raw(0x8b), WaitStatus::Signaled(11));
        let event = WaitStatus::from_raw(0x80_13_7f);
        assert_eq!(
            event,
            WaitStatus::Stopped {
                signal: libc::SIGSTOP,
                event: 128
            }
        );
        assert!(WaitStatus::from_raw(0x857f).is_syscall_stop());
        assert!(!event.is_syscall_stop() && !event.is_end());
    }

    #[test]
    fn a_child_is_seen_to_stop_and_end() {
        use crate::sys::ptrace;
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep starts");
        let tid = Tid(child.id() as i32);
        ptrace::seize(tid, ptrace::Options::TRACESYSGOOD).expect("seize");
        ptrace::interrupt(tid).expect("interrupt");
        let stopped = wait_tid(tid).expect("wait");
        assert_eq!(
            stopped,
            WaitStatus::Stopped {
                signal: libc::SIGTRAP,
                event: ptrace::EVENT_STOP
            }
        );
        assert_eq!(try_wait_tid(tid), Ok(None));
        check_stopped_thread(tid);
        child.kill().expect("kill");
        assert_eq!(wait_tid(tid), Ok(WaitStatus::Signaled(libc::SIGKILL)));
        assert!(child.wait().is_err(), "it was reaped above");
    }

    /// Reads and writes back what a stopped thread is made of.
    fn check_stopped_thread(tid: Tid) {
        use crate::sys::ptrace;
        let regs = ptrace::getregs(tid).expect("registers");
        assert_ne!(regs.rip, 0);
        ptrace::setregs(tid, &regs).expect("set registers");
        let tls = ptrace::get_thread_area(tid, ptrace::FIRST_TLS_ENTRY).expect("thread area");
        assert_eq!(tls[0], ptrace::FIRST_TLS_ENTRY);
        ptrace::set_thread_area(tid, &tls).expect("set thread area");
        let mut xstate = Vec::new();
        ptrace::get_regset(tid, ptrace::NT_X86_XSTATE, &mut xstate).expect("xstate");
        assert!(xstate.len() >= 576, "xstate of {} bytes", xstate.len());
        ptrace::set_regset(tid, ptrace::NT_X86_XSTATE, &xstate).expect("set xstate");
        ptrace::set_sigmask(tid, 1 << 9).expect("set mask");
        assert_eq!(ptrace::get_sigmask(tid), Ok(1 << 9));
        crate::sys::signal::tgkill(crate::sys::Pid(tid.0), tid, libc::SIGUSR1).expect("tgkill");
        let queued = ptrace::peek_siginfo(tid, ptrace::Queue::Thread, 0, 8).expect("peek");
        assert_eq!(queued.len(), 1);
        assert_eq!(queued[0][..4], libc::SIGUSR1.to_ne_bytes());
        let shared = ptrace::peek_siginfo(tid, ptrace::Queue::Process, 0, 8).expect("peek");
        assert!(shared.is_empty());
        let rseq = ptrace::rseq_configuration(tid).expect("rseq");
        assert_eq!(rseq.addr.0 == 0, rseq.size == 0);
        let dispatch = ptrace::get_syscall_user_dispatch(tid).expect("dispatch");
        assert_eq!(dispatch.mode, 0);
        ptrace::get_robust_list(tid).expect("robust list");
    }
}
