//! Threads: what ptrace and `/proc` tell from outside, and what each says of itself.

use super::Error;
use crate::error::Refusal;
use crate::infect::questions::{Answers, Questions};
use crate::objects::attributes::collect::ThreadAttributes;
use crate::objects::sched::collect::Policy;
use crate::objects::signals::collect::AltStack;
use crate::procfs::{self, status::Status};
use crate::snapshot::*;
use crate::support::{Loss, Lost};
use crate::sys::fd::Kcmp;
use crate::sys::ptrace::{self, Queue};
use crate::sys::{self, Pid, Tid};
use crate::tracee::Stopped;
use std::cmp::Ordering;

/// Signals taken from a queue at a time.
const SIGNALS_AT_ONCE: usize = 32;
/// Most signals that are kept of one queue: the usual limit of pending signals (`RLIMIT_SIGPENDING`) is some ten thousands.
const MAX_SIGNALS: u64 = 1 << 17;

/// What every thread is asked.
#[derive(Debug)]
pub struct ThreadQuestions {
    attributes: ThreadAttributes,
    altstack: AltStack,
    policy: Policy,
}

impl ThreadQuestions {
    /// Asks.
    pub fn ask(questions: &mut Questions) -> Self {
        Self {
            attributes: ThreadAttributes::ask(questions),
            altstack: AltStack::ask(questions),
            policy: Policy::ask(questions),
        }
    }

    /// Adds what a thread said of itself.
    pub fn read(&self, answers: &Answers, thread: &mut Thread, losses: &mut Vec<Loss>) {
        let facts = self.attributes.read(answers);
        thread.clear_child_tid = facts.clear_child_tid;
        thread.pdeath_signal = facts.pdeath_signal;
        thread.creds.securebits = facts.securebits;
        thread.speculation = facts.speculation;
        thread.mce_kill = facts.mce_kill;
        thread.tsc_mode = facts.tsc_mode;
        thread.io_flusher = facts.io_flusher;
        thread.cpuid_faults = facts.cpuid_faults;
        if facts.has_keyring {
            let what = format!("of thread {}", thread.tid);
            losses.push(Loss::with(Lost::Keyring, what));
        }
        thread.altstack = self.altstack.read(answers);
        thread.mempolicy = self.policy.read(answers);
    }
}

/// Collects what can be told of a thread from outside, and returns its `status` too.
///
/// # Errors
/// `/proc` or ptrace failed.
pub fn collect(
    pid: Pid,
    stopped: &Stopped,
    refusals: &mut Vec<Refusal>,
) -> Result<(Thread, Status), Error> {
    let tid = stopped.tid;
    let status = procfs::status::read((pid, tid))?;
    if status.seccomp != 0 {
        refusals.push(Refusal {
            task: tid.0,
            object: "seccomp".into(),
            reason: "it runs under a seccomp filter or in strict mode, which is not kept yet"
                .into(),
            remedy: String::new(),
        });
    }
    refuse_own(pid, tid, &status, refusals);
    let (head, len) = ptrace::get_robust_list(tid).unwrap_or_default();
    let dispatch = ptrace::get_syscall_user_dispatch(tid)
        .ok()
        .filter(|dispatch| dispatch.mode != 0);
    let thread = Thread {
        tid: tid.0,
        comm: procfs::attributes::read_comm((pid, tid))?,
        arch: Arch::X86_64 {
            regs: Box::new(stopped.return_regs()),
            xstate: stopped.xstate.clone(),
            tls: (0..3)
                .filter_map(|entry| {
                    ptrace::get_thread_area(tid, ptrace::FIRST_TLS_ENTRY + entry).ok()
                })
                .collect(),
        },
        blocked: stopped.blocked,
        pending: pending(tid, Queue::Thread)?,
        robust_list: (head.0 != 0).then_some(RobustList {
            head: head.0,
            len: len as u32,
        }),
        rseq: stopped.rseq.map(|rseq| Rseq {
            addr: rseq.addr.0,
            size: rseq.size,
            signature: rseq.signature,
            critical_section: 0,
        }),
        sched: sched(tid)?,
        affinity: sys::sched::getaffinity(tid).unwrap_or_default(),
        ioprio: sys::sched::io_priority(tid).ok(),
        timerslack_ns: procfs::attributes::read_timerslack_ns(Pid(tid.0)).ok(),
        creds: creds(&status),
        syscall_dispatch: dispatch.map(|dispatch| SyscallDispatch {
            mode: dispatch.mode,
            offset: dispatch.offset,
            length: dispatch.len,
            selector: dispatch.selector,
        }),
        ..Thread::default()
    };
    Ok((thread, status))
}

/// Refuses what a thread has for itself that all threads share in what is kept, and what its processor is set to.
fn refuse_own(pid: Pid, tid: Tid, status: &Status, refusals: &mut Vec<Refusal>) {
    let leader = pid.leader();
    let has_own = |what| tid != leader && sys::fd::kcmp(leader, tid, what) != Ok(Ordering::Equal);
    let mut reasons = of_processor(status);
    if has_own(Kcmp::Files) {
        reasons.push(("descriptors", "it has a table of its own"));
    }
    if has_own(Kcmp::Fs) {
        let own = "it has a directory, root and umask of its own";
        reasons.push(("working directory", own));
    }
    if ptrace::get_regset(tid, ptrace::NT_386_IOPERM, &mut Vec::new()).is_ok() {
        reasons.push(("I/O ports", "ioperm has opened some"));
    }
    refusals.extend(reasons.into_iter().map(|(object, reason)| Refusal {
        task: pid.0,
        object: format!("{object} of thread {tid}"),
        reason: format!("{reason}, which is not kept yet"),
        remedy: String::new(),
    }));
}

/// Returns what of the processor's own settings stands in the way: object and reason.
fn of_processor(status: &Status) -> Vec<(&'static str, &'static str)> {
    let mut reasons = Vec::new();
    if status.untag_mask.is_some_and(|mask| mask != u64::MAX) {
        reasons.push(("addresses", "they have tags (linear address masking)"));
    }
    if !status.x86_thread_features.is_empty() {
        reasons.push(("shadow stack", "it is on"));
    }
    reasons
}

/// Returns the signals of a queue, oldest first.
pub fn pending(tid: Tid, queue: Queue) -> Result<Vec<QueuedSignal>, Error> {
    let mut all = Vec::new();
    while (all.len() as u64) < MAX_SIGNALS {
        let some = ptrace::peek_siginfo(tid, queue, all.len() as u64, SIGNALS_AT_ONCE)
            .map_err(Error::Own)?;
        let is_last = some.len() < SIGNALS_AT_ONCE;
        all.extend(some.into_iter().map(QueuedSignal));
        if is_last {
            break;
        }
    }
    Ok(all)
}

fn sched(tid: Tid) -> Result<Sched, Error> {
    let attr = sys::sched::getattr(tid).map_err(Error::Own)?;
    let has_clamps = attr.util_min != 0 || (attr.util_max != 0 && attr.util_max != 1024);
    Ok(Sched {
        policy: attr.policy,
        nice: sys::sched::nice(tid).map_err(Error::Own)?,
        priority: attr.priority,
        flags: attr.flags,
        deadline: [attr.runtime, attr.deadline, attr.period],
        uclamp: has_clamps.then_some([attr.util_min, attr.util_max]),
    })
}

fn creds(status: &Status) -> Creds {
    Creds {
        uids: status.uid,
        gids: status.gid,
        groups: status.groups.clone(),
        cap_inheritable: status.cap_inheritable,
        cap_permitted: status.cap_permitted,
        cap_effective: status.cap_effective,
        cap_bounding: status.cap_bounding,
        cap_ambient: status.cap_ambient,
        securebits: 0,
        no_new_privs: status.no_new_privs,
        lsm_profile: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_processor_are_refused() {
        let head = "State:\tR\nTgid:\t7\n";
        let reasons = |more: &str| {
            let status = procfs::status::parse(format!("{head}{more}").as_bytes());
            of_processor(&status.expect("parses"))
        };
        let plain = "x86_Thread_features:\t\nuntag_mask:\t0xffffffffffffffff\n";
        assert_eq!(reasons(plain), []);
        assert_eq!(
            reasons("x86_Thread_features:\tshstk \n")[0].0,
            "shadow stack"
        );
        assert_eq!(
            reasons("untag_mask:\t0x81ffffffffffffff\n")[0].0,
            "addresses"
        );
    }
}
