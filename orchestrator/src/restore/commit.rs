//! The commit: parked threads become those of the snapshot.
//!
//! All threads are taken by ptrace and stand still. One of each process unmaps the arena, at the very instruction in the arena by
//! which every operation was made: it stops at the exit of that call, still in the kernel, and gets its final registers
//! there, so that nothing ever runs where nothing is mapped. Then every thread gets its registers, extended state and
//! signal mask, and is let go. From a task's view all of it happens between two of its instructions.
//!
//! Until all of them have what is theirs the threads die with us (`PTRACE_O_EXITKILL`): there is no half of a tree, but for the
//! few microseconds in which they are told, one by one, that they no longer do.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use arch::regs::Regs;
use nix::errno::Errno;

use super::arena::syscall_offset;
use super::error::{Doing, Error, Result};
use crate::plan::{HostStep, Plan, ThreadFinal};
use crate::procfs::{self, Subject};
use crate::snapshot::Snapshot;
use crate::sys::ptrace::{self, EVENT_STOP, NT_X86_XSTATE, Options, SyscallUserDispatch};
use crate::sys::wait::{WaitStatus, wait_tid};
use crate::sys::{Pid, Tid, signal};

/// What becomes of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It runs, or stands still where the plan says so.
    AsPlanned,
    /// All of it stands still.
    Stopped,
}

/// Other stops that may come before a system call's; each has a cause of which there are few.
const STRAY_STOPS: usize = 64;

/// What holds for all threads until they are let go.
const OPTIONS: Options = Options::EXITKILL.union(Options::TRACESYSGOOD);

/// Has the kernel kill the new root, should we end before it is let go.
pub(super) fn tie(root: Pid) -> Result<()> {
    ptrace::seize(root.leader(), OPTIONS).doing("trace the root of the tree")
}

/// Makes parked threads the final ones and lets them go. After an error the caller kills them.
pub(super) fn commit(plan: &Plan, snapshot: &Snapshot, root: Pid, after: After) -> Result<()> {
    let doing = "take over the restored threads";
    for last in &plan.finals {
        take(root, last, doing)?;
    }
    for last in plan.finals.iter().filter(|last| has_death_signal(last)) {
        set_death_signal(plan, last)?;
    }
    for last in plan.finals.iter().filter(|last| last.is_leader()) {
        unmap_arena(plan, last)?;
    }
    for last in &plan.finals {
        set(last, snapshot).doing("set the registers of a thread")?;
        put_back_sequence(snapshot, last)?;
    }
    stop(plan, after)?;
    if plan.finals.iter().any(|last| last.pid != root.0) {
        // From here on all of them live on without us: to let them go one by one takes a hundred times as long as this does.
        for last in &plan.finals {
            allow_orphan(last)?;
        }
    }
    for last in &plan.finals {
        match ptrace::detach(Tid(last.tid), 0) {
            // Killed from outside: what it was is what it is.
            Err(error) if error.errno == Errno::ESRCH => {}
            detached => detached.doing("let a thread go")?,
        }
    }
    Ok(())
}

/// Has a thread live on, should we end before it is let go.
fn allow_orphan(last: &ThreadFinal) -> Result<()> {
    match ptrace::set_options(Tid(last.tid), OPTIONS.difference(Options::EXITKILL)) {
        Err(error) if error.errno == Errno::ESRCH => Ok(()),
        set => set.doing("let a thread go"),
    }
}

/// Returns whether a thread's parent-death signal may not be what it is to be: all leaders die with their parents until now.
fn has_death_signal(last: &ThreadFinal) -> bool {
    last.pdeath_signal != 0 || last.is_leader()
}

/// Attaches to a thread, unless it is tied already, and waits until it stands still.
fn take(root: Pid, last: &ThreadFinal, doing: &'static str) -> Result<()> {
    let tid = Tid(last.tid);
    if tid != root.leader() {
        ptrace::seize(tid, OPTIONS).doing(doing)?;
    }
    ptrace::interrupt(tid).doing(doing)?;
    for _ in 0..STRAY_STOPS {
        match wait_tid(tid).doing(doing)? {
            WaitStatus::Stopped {
                event: EVENT_STOP, ..
            } => return Ok(()),
            // A signal that cannot be blocked; it is not the snapshot's.
            WaitStatus::Stopped { .. } => ptrace::cont(tid, 0).doing(doing)?,
            WaitStatus::Continued => {}
            end => return Err(ended(last, end)),
        }
    }
    Err(ended(last, WaitStatus::Continued))
}

/// Has the leader of a process unmap the arena, which it leaves in the exit of that call.
fn unmap_arena(plan: &Plan, last: &ThreadFinal) -> Result<()> {
    let args = [plan.arena.base, plan.layout.len];
    let call = ("munmap", libc::SYS_munmap, args);
    call_in_arena(plan, last, "unmap the arena", call)
}

/// Has a thread ask for the signal at its parent's death.
fn set_death_signal(plan: &Plan, last: &ThreadFinal) -> Result<()> {
    let args = [libc::PR_SET_PDEATHSIG as u64, u64::from(last.pdeath_signal)];
    let call = ("prctl(PR_SET_PDEATHSIG)", libc::SYS_prctl, args);
    let doing = "set the parent-death signal";
    call_in_arena(plan, last, doing, call)
}

/// Has a thread that stands still make a system call, by the instruction in the arena; it is left in the exit of that call.
fn call_in_arena(
    plan: &Plan,
    last: &ThreadFinal,
    doing: &'static str,
    (name, nr, args): (&str, i64, [u64; 2]),
) -> Result<()> {
    let tid = Tid(last.tid);
    let call = Regs {
        rip: plan.arena.base + syscall_offset(),
        rax: nr as u64,
        rdi: args[0],
        rsi: args[1],
        // No call is to be made again for having been interrupted.
        orig_rax: u64::MAX,
        ..ptrace::getregs(tid).doing(doing)?
    };
    ptrace::setregs(tid, &call).doing(doing)?;
    to_syscall_stop(last, doing)?;
    to_syscall_stop(last, doing)?;
    match ptrace::getregs(tid).doing(doing)?.rax {
        0 => Ok(()),
        result => Err(Error::Operation {
            object: format!("thread {tid}"),
            operation: name.into(),
            result: result as i64,
        }),
    }
}

/// Lets a thread run to its next entry to or exit from a system call.
fn to_syscall_stop(last: &ThreadFinal, doing: &'static str) -> Result<()> {
    let tid = Tid(last.tid);
    for _ in 0..STRAY_STOPS {
        ptrace::syscall_step(tid, 0).doing(doing)?;
        let status = wait_tid(tid).doing(doing)?;
        if status.is_syscall_stop() {
            return Ok(());
        }
        if status.is_end() {
            return Err(ended(last, status));
        }
    }
    Err(ended(last, WaitStatus::Continued))
}

fn set(last: &ThreadFinal, snapshot: &Snapshot) -> crate::sys::Result<()> {
    let tid = Tid(last.tid);
    let xstate = last.xstate(snapshot);
    if !xstate.is_empty() {
        ptrace::set_regset(tid, NT_X86_XSTATE, xstate)?;
    }
    ptrace::setregs(tid, &last.regs)?;
    ptrace::set_sigmask(tid, last.blocked)?;
    match last.syscall_dispatch {
        Some(dispatch) => {
            let config = SyscallUserDispatch {
                mode: dispatch.mode,
                selector: dispatch.selector,
                offset: dispatch.offset,
                len: dispatch.length,
            };
            ptrace::set_syscall_user_dispatch(tid, &config)
        }
        None => Ok(()),
    }
}

/// Offset of the pointer to the critical section in `struct rseq` (`include/uapi/linux/rseq.h`).
const RSEQ_CS: u64 = 8;

/// Puts back which critical section a thread was in. The kernel has cleared it, as the thread was registered while it ran
/// elsewhere; now it sees the thread's place when it lets it go, and sends it to the section's abort handler.
fn put_back_sequence(snapshot: &Snapshot, last: &ThreadFinal) -> Result<()> {
    let (task, thread) = last.place;
    let task = snapshot.tasks.get(task);
    let thread = task.and_then(|task| task.threads.get(thread));
    let rseq = thread.and_then(|thread| thread.rseq);
    let Some(rseq) = rseq.filter(|rseq| rseq.critical_section != 0) else {
        return Ok(());
    };
    let path = Subject::from(Pid(last.pid)).path("mem");
    let failed = |source| procfs::Error::Read {
        path: path.clone(),
        source,
    };
    let memory = OpenOptions::new().write(true).open(&path).map_err(failed)?;
    let section = rseq.critical_section.to_le_bytes();
    let written = memory.write_all_at(&section, rseq.addr + RSEQ_CS);
    Ok(written.map_err(failed)?)
}

/// Sends the stops that take effect as soon as the threads are let go, before their first instruction.
fn stop(plan: &Plan, after: After) -> Result<()> {
    let mut pids: BTreeSet<i32> = plan
        .host_steps
        .iter()
        .map(|HostStep::Stop { pid }| *pid)
        .collect();
    if after == After::Stopped {
        pids.extend(plan.finals.iter().map(|last| last.pid));
    }
    for pid in pids {
        signal::kill(Pid(pid), libc::SIGSTOP).doing("stop the restored process")?;
    }
    Ok(())
}

fn ended(last: &ThreadFinal, status: WaitStatus) -> Error {
    let cause = match status {
        WaitStatus::Signaled(signal) => format!("signal {signal}"),
        WaitStatus::Exited(status) => format!("leaving with status {status}"),
        _ => "no sign of itself".into(),
    };
    Error::Ended {
        pid: last.pid,
        cause,
        at: "the commit".into(),
    }
}
