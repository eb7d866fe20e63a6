//! Threads: what ptrace and `/proc` tell from outside, and what each says of itself.

use super::Error;
use crate::error::Refusal;
use crate::infect::questions::{Answers, Questions};
use crate::objects::attributes::collect::ThreadAttributes;
use crate::objects::sched::collect::Policy;
use crate::objects::signals::collect::AltStack;
use crate::procfs::{self, status::Status};
use crate::snapshot::*;
use crate::sys::ptrace::{self, Queue};
use crate::sys::{self, Pid, Tid};
use crate::tracee::Stopped;

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
    pub fn read(&self, answers: &Answers, thread: &mut Thread) {
        let facts = self.attributes.read(answers);
        thread.clear_child_tid = facts.clear_child_tid;
        thread.pdeath_signal = facts.pdeath_signal;
        thread.creds.securebits = facts.securebits;
        thread.speculation = facts.speculation;
        thread.altstack = self.altstack.read(answers);
        thread.mempolicy = self.policy.read(answers);
    }
}

/// Collects what can be told of a thread from outside.
///
/// # Errors
/// `/proc` or ptrace failed.
pub fn collect(pid: Pid, stopped: &Stopped, refusals: &mut Vec<Refusal>) -> Result<Thread, Error> {
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
    let (head, len) = ptrace::get_robust_list(tid).unwrap_or_default();
    let dispatch = ptrace::get_syscall_user_dispatch(tid)
        .ok()
        .filter(|dispatch| dispatch.mode != 0);
    Ok(Thread {
        tid: tid.0,
        comm: procfs::attributes::read_comm((pid, tid))?,
        arch: Arch::X86_64 {
            regs: Box::new(stopped.image_regs),
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
    })
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
