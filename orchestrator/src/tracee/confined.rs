//! Threads under seccomp: what we have them do must not be what their filters forbid.
//!
//! The kernel's rule: `PTRACE_O_SUSPEND_SECCOMP` lifts a thread's filters while we trace it, and ends with us. So whatever such a
//! thread does *after* our death is judged again: a remote call that it stood before, the parasite's next call. Strict
//! mode allows `rt_sigreturn`, and so does every filter under which signals can be handled; so a confined thread that we
//! leave alone makes this call and no other.
//!
//! - It is let into a remote call as into `rt_sigreturn` on the net, and gets the call's number and arguments when it stands
//!   at its entry: our death leaves it there with the way home, but for the moment between two requests of ours.
//! - The parasite looks whether we live before each call, and cures such a thread by `rt_sigreturn` alone.
//! - The kernel's own `restart_syscall` is judged too: an interrupted call is made again by its number.

use super::{Error, Frozen, Stopped, resume};
use crate::sys::ptrace;

impl Frozen {
    /// Lifts the filters of those threads that have any.
    ///
    /// # Errors
    /// We may not.
    pub(super) fn suspend_seccomp(&mut self) -> Result<(), Error> {
        let is_confined = |thread: &&mut Stopped| {
            let status = thread.known_status();
            status.is_some_and(|status| status.seccomp != 0)
        };
        let mut confined = self.threads.iter_mut().filter(is_confined);
        confined.try_for_each(Stopped::suspend_seccomp)
    }
}

impl Stopped {
    fn suspend_seccomp(&mut self) -> Result<(), Error> {
        let options = ptrace::Options::TRACESYSGOOD | ptrace::Options::SUSPEND_SECCOMP;
        let what = "suspend its seccomp filters (that takes CAP_SYS_ADMIN, and no seccomp of this command's own)";
        self.did(what, ptrace::set_options(self.tid, options))?;
        self.confined = true;
        resume::without_restart(self)
    }
}
