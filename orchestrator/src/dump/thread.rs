//! Threads: what ptrace and `/proc` tell from outside, and what each says of itself.

use super::Error;
use crate::error::Refusal;
use crate::infect::questions::{Answers, Arg, Asked, Buffer, Questions};
use crate::objects::attributes::collect::ThreadAttributes;
use crate::objects::sched::collect::Policy;
use crate::objects::seccomp::collect::Filters;
use crate::objects::signals::collect::AltStack;
use crate::procfs::{self, status::Status};
use crate::snapshot::*;
use crate::support::{Loss, Lost};
use crate::sys::fd::Kcmp;
use crate::sys::ptrace::{self, Queue};
use crate::sys::{self, Pid, Tid};
use crate::tracee::Stopped;
use std::cmp::Ordering;

/// Length of a thread's name (`TASK_COMM_LEN`).
const NAME_LEN: usize = 16;
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
    name: (Asked, Buffer),
    timer_slack: Asked,
}

impl ThreadQuestions {
    /// Asks.
    pub fn ask(questions: &mut Questions) -> Self {
        Self {
            attributes: ThreadAttributes::ask(questions),
            altstack: AltStack::ask(questions),
            policy: Policy::ask(questions),
            name: {
                let name = questions.space(NAME_LEN);
                let args = [Arg::Value(libc::PR_GET_NAME as u64), name.into()];
                (questions.ask(libc::SYS_prctl as u32, args), name)
            },
            timer_slack: questions.ask(
                libc::SYS_prctl as u32,
                [Arg::Value(libc::PR_GET_TIMERSLACK as u64)],
            ),
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
        let name = answers.filled(self.name.0, self.name.1).unwrap_or_default();
        let end = name.iter().position(|&byte| byte == 0);
        thread.comm = name[..end.unwrap_or(name.len())].to_vec();
        thread.timerslack_ns = answers.result(self.timer_slack).ok();
    }
}

/// What anybody is told of a thread by its number. Other questions only its tracer may ask, which is one thread of ours.
#[derive(Debug)]
pub struct ByNumber {
    robust_list: Option<RobustList>,
    sched: Sched,
    affinity: Vec<u8>,
    ioprio: Option<u32>,
    has_own_files: bool,
    has_own_fs: bool,
}

impl ByNumber {
    /// Asks for a thread of a process.
    ///
    /// # Errors
    /// It is gone.
    pub fn ask(pid: Pid, tid: Tid) -> Result<Self, Error> {
        let leader = pid.leader();
        let has_own =
            |what| tid != leader && sys::fd::kcmp(leader, tid, what) != Ok(Ordering::Equal);
        let (head, len) = ptrace::get_robust_list(tid).unwrap_or_default();
        Ok(Self {
            robust_list: (head.0 != 0).then_some(RobustList {
                head: head.0,
                len: len as u32,
            }),
            sched: sched(tid)?,
            affinity: sys::sched::getaffinity(tid).unwrap_or_default(),
            ioprio: sys::sched::io_priority(tid).ok(),
            has_own_files: has_own(Kcmp::Files),
            has_own_fs: has_own(Kcmp::Fs),
        })
    }
}

/// Collects what can be told of a thread from outside, and returns its umask too.
///
/// # Errors
/// `/proc` or ptrace failed.
pub fn collect(
    pid: Pid,
    stopped: &Stopped,
    by_number: ByNumber,
    filters: &mut Filters,
    refusals: &mut Vec<Refusal>,
) -> Result<(Thread, Option<u32>), Error> {
    let tid = stopped.tid;
    let read;
    let status = match stopped.known_status() {
        Some(status) => status,
        None => {
            read = procfs::status::read((pid, tid))?;
            &read
        }
    };
    let seccomp = filters.collect(tid, status.seccomp);
    let seccomp = seccomp.unwrap_or_else(|reason| {
        refusals.push(Refusal {
            task: pid.0,
            object: format!("seccomp of thread {tid}"),
            reason,
            remedy: String::new(),
        });
        SeccompMode::Off
    });
    refuse_own((pid, tid), &by_number, status, refusals);
    let dispatch = ptrace::get_syscall_user_dispatch(tid)
        .ok()
        .filter(|dispatch| dispatch.mode != 0);
    let thread = Thread {
        tid: tid.0,
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
        robust_list: by_number.robust_list,
        rseq: stopped.rseq.map(|rseq| Rseq {
            addr: rseq.addr.0,
            size: rseq.size,
            signature: rseq.signature,
            critical_section: 0,
        }),
        sched: by_number.sched,
        affinity: by_number.affinity,
        ioprio: by_number.ioprio,
        creds: creds(status),
        seccomp,
        // Where it stands is found out with the files.
        fs: by_number.has_own_fs.then(|| Fs {
            umask: status.umask.unwrap_or_default(),
            ..Fs::default()
        }),
        syscall_dispatch: dispatch.map(|dispatch| SyscallDispatch {
            mode: dispatch.mode,
            offset: dispatch.offset,
            length: dispatch.len,
            selector: dispatch.selector,
        }),
        ..Thread::default()
    };
    Ok((thread, status.umask))
}

/// Refuses what a thread has for itself that all threads share in what is kept, and what its processor is set to.
fn refuse_own(
    (pid, tid): (Pid, Tid),
    by_number: &ByNumber,
    status: &Status,
    refusals: &mut Vec<Refusal>,
) {
    let mut reasons = of_processor(status);
    if by_number.has_own_files {
        reasons.push(("descriptors", "it has a table of its own"));
    }
    if ptrace::get_regset_of(tid, ptrace::NT_386_IOPERM, 8, &mut Vec::new()).is_ok() {
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
