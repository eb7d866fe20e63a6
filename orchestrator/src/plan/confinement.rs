//! seccomp: threads that have filters wait until they are traced, which suspends them; then the filters are added, while there
//! are the privileges for it.

use super::program::Object;
use super::task::{Making, plan_barrier};
use crate::objects::seccomp::plan;
use crate::snapshot::{SeccompMode, Thread};
use arch::abi::program::special;

/// What the threads of one process have in common.
#[derive(Debug, Clone, Copy)]
pub struct Confinement {
    /// How many filters, from the oldest on, all threads have.
    common: usize,
    /// Word at which they wait until the leader has added these.
    word: u64,
}

impl Confinement {
    /// Returns it for the task at hand.
    pub fn of(m: &mut Making<'_>) -> Self {
        let common = plan::common(&m.snapshot.seccomp, &m.own.task.threads);
        let word = match common {
            0 => 0,
            _ => m.b.put_words(&[0]),
        };
        Self { common, word }
    }
}

/// Adds the thread's filters, or strict mode.
pub fn plan_filters(m: &mut Making<'_>, thread: &Thread, shared: Confinement) {
    let Some((word, count)) = m.meetings.traced else {
        return;
    };
    if thread.seccomp == SeccompMode::Off {
        return;
    }
    if !m.host.may_suspend_seccomp {
        let reason = "it runs under seccomp, which this process may not suspend to restore it";
        let remedy = "restore with CAP_SYS_ADMIN, and not under seccomp";
        m.report
            .refuse(format!("thread {}", thread.tid), reason, remedy);
    }
    m.b.object(Object::Thread(thread.tid, "waiting to be traced"));
    m.b.special(special::BARRIER, &[word, count, 1]);
    if thread.seccomp == SeccompMode::Strict {
        return plan::plan_strict(&mut m.b, thread.tid);
    }
    let filters = &m.snapshot.seccomp;
    let chain = plan::chain(filters, thread.seccomp);
    let (common, own) = chain.split_at(shared.common);
    if !common.is_empty() {
        if thread.tid == m.own.task.pid {
            plan::plan_filters(&mut m.b, filters, common, true);
        }
        m.b.object(Object::Task("meeting of all threads"));
        let count = m.own.task.threads.len() as u64;
        plan_barrier(m, shared.word, count);
    }
    plan::plan_filters(&mut m.b, filters, own, false);
}
