//! Final registers: what each thread gets when it is taken out of the blob.
//!
//! A thread that was stopped in a system call left a promise in its registers: the kernel would have restarted the call on
//! its way back to the program. The restored thread never was in that call, so the promise is kept here, in the registers:
//! the instruction pointer goes back over the instruction.

use arch::regs::Regs;

use super::ThreadFinal;
use super::host::{Host, TASK_SIZE};
use super::refusals::Report;
use crate::snapshot::{Arch, SeccompMode, Task, Thread};

/// Errors that the kernel keeps to itself: the call is to be made again (`include/linux/errno.h`).
const ERESTARTSYS: i64 = -512;
const ERESTARTNOINTR: i64 = -513;
const ERESTARTNOHAND: i64 = -514;
/// As these, by a function that the kernel remembers in the thread's restart block, which no call can bring back.
const ERESTART_RESTARTBLOCK: i64 = -516;
const EINTR: i64 = -4;
/// Length of the `syscall` instruction.
const SYSCALL_LEN: u64 = 2;
/// Code segment of 64-bit programs (`__USER_CS`).
const USER_CS: u64 = 0x33;
/// Offset of XSTATE_BV in an XSAVE area, and the least length that has it.
const XSTATE_BV: std::ops::Range<usize> = 512..520;

/// Returns the final state of every thread of task number `place`.
pub fn plan_finals(
    place: usize,
    task: &Task,
    host: &Host,
    report: &mut Report,
) -> Vec<ThreadFinal> {
    task.threads
        .iter()
        .enumerate()
        .filter_map(|(index, thread)| {
            let last = plan_final((place, index), thread, host, report)?;
            Some(ThreadFinal {
                pid: task.pid,
                ..last
            })
        })
        .collect()
}

fn plan_final(
    place: (usize, usize),
    thread: &Thread,
    host: &Host,
    report: &mut Report,
) -> Option<ThreadFinal> {
    let name = format!("thread {}", thread.tid);
    let (regs, xstate) = match &thread.arch {
        Arch::X86_64 { regs, xstate, .. } => (**regs, xstate),
        Arch::Foreign(other) => {
            let reason = format!("it is of a machine that this is not: {other}");
            report.refuse(name, reason, "");
            return None;
        }
        Arch::None => {
            report.refuse(name, "its registers are not in the images", "");
            return None;
        }
    };
    refuse_unusable(&name, &regs, xstate, host, report);
    Some(ThreadFinal {
        pid: 0,
        tid: thread.tid,
        unmaps: false,
        is_confined: thread.seccomp != SeccompMode::Off,
        regs: undo_system_call(regs),
        is_in_call: is_in_call(&regs),
        place,
        blocked: thread.blocked,
        syscall_dispatch: thread.syscall_dispatch,
        pdeath_signal: thread.pdeath_signal,
    })
}

fn refuse_unusable(name: &str, regs: &Regs, xstate: &[u8], host: &Host, report: &mut Report) {
    if regs.cs != USER_CS {
        report.refuse(name, "it runs 32-bit code, which is not restored yet", "");
    }
    // PTRACE_SETREGS refuses others (`putreg`, `arch/x86/kernel/ptrace.c`).
    if regs.fs_base >= TASK_SIZE || regs.gs_base >= TASK_SIZE {
        report.refuse(name, "its thread pointer lies outside of user memory", "");
    }
    let missing = state_components(xstate) & !host.xcr0;
    if missing != 0 {
        report.refuse(
            name,
            format!(
                "it uses processor state {missing:#x} (bits of XCR0) that this machine has not"
            ),
            "restore on a processor with the same features",
        );
    }
}

/// Returns which components of an XSAVE area are in use.
pub fn state_components(xstate: &[u8]) -> u64 {
    let bytes = xstate
        .get(XSTATE_BV)
        .and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

/// Returns whether a thread with these registers may make a call first that was interrupted: the kernel was to make it again,
/// or a dump has put its number back. A result can look like a number, so the instruction has the last word. To be let go
/// interrupts the call (`__ptrace_unlink`): only calls are told that the kernel makes again then, no `epoll_wait`.
fn is_in_call(regs: &Regs) -> bool {
    let nr = match regs.orig_rax as i64 {
        ..0 => regs.rax as i64,
        nr if nr as u64 == regs.rax => nr,
        nr if (ERESTARTNOHAND..=ERESTARTSYS).contains(&(regs.rax as i64)) => nr,
        _ => return false,
    };
    matches!(
        nr,
        libc::SYS_pause
            | libc::SYS_nanosleep
            | libc::SYS_clock_nanosleep
            | libc::SYS_poll
            | libc::SYS_futex
    )
}

/// Returns the registers from which the program goes on as the kernel would have let it.
fn undo_system_call(mut regs: Regs) -> Regs {
    if (regs.orig_rax as i64) >= 0 {
        match regs.rax as i64 {
            ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND => {
                regs.rip -= SYSCALL_LEN;
                regs.rax = regs.orig_rax;
            }
            // Our own dumps keep the promise before they store registers; others leave no better answer.
            ERESTART_RESTARTBLOCK => regs.rax = EINTR as u64,
            _ => {}
        }
    }
    regs.orig_rax = u64::MAX;
    regs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(orig_rax: i64, rax: i64) -> Regs {
        undo_system_call(Regs {
            rip: 0x1002,
            orig_rax: orig_rax as u64,
            rax: rax as u64,
            ..Regs::default()
        })
    }

    #[test]
    fn calls_that_are_made_again_are_told_from_results() {
        let in_call = |orig_rax: i64, rax: i64| {
            is_in_call(&Regs {
                orig_rax: orig_rax as u64,
                rax: rax as u64,
                ..Regs::default()
            })
        };
        let again = [(34, ERESTARTNOHAND), (34, 34), (-1, 35)];
        assert!(again.iter().all(|&(orig, rax)| in_call(orig, rax)));
        let done = [(0, 34), (35, EINTR), (-1, -1), (-1, 232)];
        assert!(!done.iter().any(|&(orig, rax)| in_call(orig, rax)));
    }

    #[test]
    fn interrupted_calls_are_made_again() {
        for error in [-512, -513, -514] {
            let regs = stopped(0, error);
            assert_eq!((regs.rip, regs.rax), (0x1000, 0));
            assert_eq!(regs.orig_rax, u64::MAX);
        }
    }

    #[test]
    fn other_registers_stay() {
        assert_eq!(stopped(35, -516).rax as i64, -4);
        assert_eq!(stopped(35, -516).rip, 0x1002);
        // Outside of a call rax is the program's own, whatever it looks like.
        let own = stopped(-1, -512);
        assert_eq!((own.rip, own.rax as i64), (0x1002, -512));
        assert_eq!(stopped(1, 5).rax, 5);
    }
}
