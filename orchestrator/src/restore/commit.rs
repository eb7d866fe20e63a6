//! The commit: parked threads become those of the snapshot.
//!
//! All threads are taken by ptrace and stand still. One of each process unmaps the arena, at the very instruction in the arena by
//! which every operation was made: it stops at the exit of that call, still in the kernel, and gets its final registers
//! there, so that nothing ever runs where nothing is mapped. Then every thread gets its registers, extended state and
//! signal mask, and is let go. From a task's view all of it happens between two of its instructions.
//!
//! Until all of them have what is theirs the threads die with us (`PTRACE_O_EXITKILL`): there is no half of a tree, but for the
//! few microseconds in which they are told, one by one, that they no longer do.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use arch::regs::Regs;
use nix::errno::Errno;

use super::arena::syscall_offset;
use super::error::{Doing, Error, Result};
use crate::lazy::link::Link;
use crate::plan::{HostStep, Plan, ThreadFinal};
use crate::procfs::{self, Subject};
use crate::snapshot::{Rseq, Snapshot};
use crate::sys::ptrace::{self, EVENT_STOP, NT_X86_XSTATE, Options, SyscallUserDispatch};
use crate::sys::wait::{WaitStatus, wait_tid};
use crate::sys::{Pid, RemoteFd, Tid, fd, signal};

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
pub(super) fn tie(plan: &Plan, root: Pid) -> Result<()> {
    let mut finals = plan.finals.iter();
    let last = finals.find(|last| last.tid == root.0);
    let options = last.map_or(OPTIONS, options_of);
    ptrace::seize(root.leader(), options).doing("trace the root of the tree")
}

/// What holds for a thread until it is let go: its filters do not, if it has any.
fn options_of(last: &ThreadFinal) -> Options {
    match last.is_confined {
        true => OPTIONS.union(Options::SUSPEND_SECCOMP),
        false => OPTIONS,
    }
}

/// Traces the threads that wait for it, as they are about to get filters.
pub(super) fn confine(plan: &Plan, root: Pid) -> Result<()> {
    let confined = plan.finals.iter().filter(|last| last.is_confined);
    for last in confined.filter(|last| last.tid != root.0) {
        let seized = ptrace::seize(Tid(last.tid), options_of(last));
        seized.doing("trace a thread that has seccomp filters")?;
    }
    Ok(())
}

/// Makes parked threads the final ones and lets them go. After an error the caller kills them.
pub(super) fn commit(
    plan: &Plan,
    snapshot: &Snapshot,
    (root, after): (Pid, After),
    lazy: Option<&Link>,
) -> Result<()> {
    let doing = "take over the restored threads";
    for last in &plan.finals {
        take(root, last).doing(doing)?;
    }
    for last in &plan.finals {
        await_stop(last, doing)?;
    }
    for last in plan.finals.iter().filter(|last| has_death_signal(last)) {
        set_death_signal(plan, last)?;
    }
    if let Some(link) = lazy {
        hand_over(plan, link)?;
    }
    for last in plan.finals.iter().filter(|last| last.unmaps) {
        unmap_arena(plan, last)?;
    }
    for last in &plan.finals {
        set(last, snapshot).doing("set the registers of a thread")?;
        put_back_sequence(snapshot, last)?;
    }
    let stopped = stopped(plan, after);
    for (&pid, &signal) in &stopped {
        let threads = plan.finals.iter().filter(|last| last.pid == pid);
        stand_still(Pid(pid), signal, &threads.collect::<Vec<_>>())?;
    }
    for last in &plan.finals {
        if !stopped.contains_key(&last.pid) {
            enter_call(last, snapshot)?;
        }
        set_catches(last).doing("set the signal mask of a thread")?;
    }
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

/// Gives the memory that comes later to those who bring it. From here on it is they who end the tree should they fail.
fn hand_over(plan: &Plan, link: &Link) -> Result<()> {
    let doing = "hand over lazy memory";
    for space in &plan.lazy {
        let process = fd::pidfd_open(Pid(space.pid)).doing(doing)?;
        let uffd = fd::pidfd_getfd(&process, RemoteFd(space.fd)).doing(doing)?;
        link.hand_over(space.pid, uffd)?;
        let leader = plan.finals.iter().find(|last| last.tid == space.pid);
        let call = ("close", libc::SYS_close, [space.fd as u64, 0]);
        call_in_arena(plan, leader.expect("it is of the plan"), doing, call)?;
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

/// Attaches to a thread, unless it is tied already, and has it stop.
fn take(root: Pid, last: &ThreadFinal) -> crate::sys::Result<()> {
    let tid = Tid(last.tid);
    if tid != root.leader() && !last.is_confined {
        ptrace::seize(tid, OPTIONS)?;
    }
    ptrace::interrupt(tid)
}

/// Waits until a thread stands still.
fn await_stop(last: &ThreadFinal, doing: &'static str) -> Result<()> {
    let tid = Tid(last.tid);
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
    ptrace::setregs(tid, &last.regs)
}

/// Offset of the pointer to the critical section in `struct rseq` (`include/uapi/linux/rseq.h`).
const RSEQ_CS: u64 = 8;

/// Puts back which critical section a thread was in. The kernel has cleared it, as the thread was registered while it ran
/// elsewhere; now it sees the thread's place when it lets it go, and sends it to the section's abort handler.
fn put_back_sequence(snapshot: &Snapshot, last: &ThreadFinal) -> Result<()> {
    let Some(rseq) = sequence(snapshot, last) else {
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

/// Returns the restartable sequence of a thread, if it was inside of one.
fn sequence(snapshot: &Snapshot, last: &ThreadFinal) -> Option<Rseq> {
    let (task, thread) = last.place;
    let task = snapshot.tasks.get(task);
    let thread = task.and_then(|task| task.threads.get(thread));
    let rseq = thread.and_then(|thread| thread.rseq);
    rseq.filter(|rseq| rseq.critical_section != 0)
}

/// Returns the processes that stand still once they are let go, before their first instruction, and by which signal.
fn stopped(plan: &Plan, after: After) -> BTreeMap<i32, i32> {
    let all = plan.finals.iter().map(|last| (last.pid, libc::SIGSTOP));
    let mut stopped: BTreeMap<i32, i32> = match after {
        After::AsPlanned => BTreeMap::new(),
        After::Stopped => all.collect(),
    };
    let planned = plan.host_steps.iter();
    stopped.extend(planned.map(|HostStep::Stop { pid, signal }| (*pid, *signal)));
    stopped
}

/// Stops a process whose threads stand still, and waits until it is stopped. Nothing but the stop is taken meanwhile: a
/// signal that waited while the program was stopped waits on, and may be one that would end it.
fn stand_still(pid: Pid, signal: i32, threads: &[&ThreadFinal]) -> Result<()> {
    let doing = "stop the restored process";
    let all_but_this = !(1_u64 << (signal - 1));
    for last in threads {
        ptrace::set_sigmask(Tid(last.tid), all_but_this).doing(doing)?;
    }
    signal::kill(pid, signal).doing(doing)?;
    // The first takes the signal; it stops, and all others with it, as soon as they are let on.
    for last in threads {
        to_group_stop(last, signal, doing)?;
    }
    Ok(())
}

/// Lets a thread on that is about to stop with its process, until it has.
fn to_group_stop(last: &ThreadFinal, signal: i32, doing: &'static str) -> Result<()> {
    let tid = Tid(last.tid);
    let mut deliver = 0;
    for _ in 0..STRAY_STOPS {
        ptrace::cont(tid, deliver).doing(doing)?;
        deliver = 0;
        match wait_tid(tid).doing(doing)? {
            WaitStatus::Stopped {
                signal: by,
                event: EVENT_STOP,
            } if by == signal => return Ok(()),
            WaitStatus::Stopped {
                signal: by,
                event: 0,
            } if by == signal => deliver = signal,
            status if status.is_end() => return Err(ended(last, status)),
            _ => {}
        }
    }
    Err(ended(last, WaitStatus::Continued))
}

/// The `syscall` instruction.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Has a thread enter the system call that it was in when it was dumped, as long as all signals are blocked; it is left at
/// the entry. A signal that is taken now interrupts the call, as it would have. Taken before, its handler would return to a
/// call that then waits for what has happened already (`pause`), or that finds its timeout written over: the frame of the
/// handler lies where a dump leaves what remains of it, below the red zone.
///
/// Not one under seccomp: to be let go interrupts the call, and the kernel makes a sleep again by `restart_syscall`, which a
/// filter may forbid. And none of those that such an interruption ends (signal(7): `epoll_wait`, `sigtimedwait`).
fn enter_call(last: &ThreadFinal, snapshot: &Snapshot) -> Result<()> {
    let is_in_sequence = sequence(snapshot, last).is_some();
    if !last.is_in_call || last.is_confined || is_in_sequence {
        return Ok(());
    }
    let path = Subject::from(Pid(last.pid)).path("mem");
    let mut code = [0; SYSCALL.len()];
    let memory = OpenOptions::new().read(true).open(path);
    let read = memory.and_then(|memory| memory.read_exact_at(&mut code, last.regs.rip));
    match read.is_ok() && code == SYSCALL {
        true => to_syscall_stop(last, "have a thread enter its call"),
        false => Ok(()),
    }
}

/// Sets what decides about a thread's signals and calls from now on.
fn set_catches(last: &ThreadFinal) -> crate::sys::Result<()> {
    let tid = Tid(last.tid);
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
