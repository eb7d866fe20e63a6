//! How a thread goes on that was stopped inside of a system call.
//!
//! The kernel's rule: a stop interrupts a system call as a signal would. Most calls then leave a private error in rax and
//! the kernel makes them again by itself when the thread goes on (`arch/x86/kernel/signal.c`, `arch_do_signal_or_restart`):
//! -512 to -514 by the same instruction, -516 by a function remembered in the thread's restart block, which knows how much
//! time is left. Some calls are never made again and return EINTR (signal(7)): epoll_wait, sigtimedwait, semtimedop.
//!
//! - In the target, the private errors are left to the kernel: its own restart is exact. A call that returned EINTR with no
//!   signal to be delivered was interrupted by us alone: it is made again with the time that is left.
//! - For the image, no restart block can be kept: those calls too are made again with the time that is left.
//!
//! What is left is told by when the sleep began ([`super::asleep`]); in the target it is reckoned anew when the thread is
//! let go, so that the time of the dump counts. A timeout that lies in memory
//! is not changed, the program may have it in a constant: the rest goes below the red zone of the thread's stack, where
//! nothing can be in use (System V ABI, 3.2.2).

use super::asleep::{Look, Seen};
use super::note::{Known, Note};
use super::{Error, Stopped};
use crate::procfs::status::Status;
use crate::sys::Pid;
use crate::sys::clock::{Clock, now_ns};
use arch::regs::Regs;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

const EINTR: i64 = -4;
const RESTART_NO_HANDLER: i64 = -514;
const RESTART_BLOCK: i64 = -516;
/// `io_pgetevents` of `asm/unistd_64.h`, which the libc crate does not name.
const SYS_IO_PGETEVENTS: i64 = 333;
/// Length of the `syscall` instruction.
pub(super) const SYSCALL_LEN: u64 = 2;
/// The red zone, and room for a `timespec` below it.
pub(super) const BELOW_RED_ZONE: u64 = 128 + 32;
const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;

/// How a call's timeout is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timeout {
    /// It has none, or one that is a point in time.
    None,
    /// Milliseconds in this argument; negative = for ever.
    Ms(usize),
    /// A `timespec` at the address in this argument; 0 = for ever.
    Spec(usize),
}

/// A timeout in memory to which the kernel has written what was left at the stop: it makes the call again with that
/// (`poll_select_finish`, `fs/select.c`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    at: u64,
    /// Nanoseconds of a unit of its second word.
    unit_ns: i64,
    stopped_ns: i64,
}

impl Rest {
    /// Returns the rest of the call that a thread was stopped in, if it is such a one.
    fn of(regs: &Regs) -> Option<Self> {
        let (at, unit_ns) = match regs.orig_rax as i64 {
            libc::SYS_select => (regs.r8, 1000),
            libc::SYS_pselect6 => (regs.r8, 1),
            libc::SYS_ppoll => (regs.rdx, 1),
            _ => return None,
        };
        let stopped_ns = now_ns(Clock::Monotonic).ok()?;
        (at != 0 && regs.rax as i64 == RESTART_NO_HANDLER).then_some(Self {
            at,
            unit_ns,
            stopped_ns,
        })
    }

    /// Takes the time of the stop off it.
    fn take_stop_off(self, mem: &File) -> Option<()> {
        let mut words = [0; 16];
        mem.read_exact_at(&mut words, self.at).ok()?;
        let word = |at: usize| i64::from_le_bytes(words[at..at + 8].try_into().expect("eight"));
        let left = word(0)
            .checked_mul(SECOND)?
            .checked_add(word(8).checked_mul(self.unit_ns)?)?;
        let stood = now_ns(Clock::Monotonic).ok()? - self.stopped_ns;
        let left = (left - stood).max(0);
        let (seconds, rest) = (left / SECOND, left % SECOND / self.unit_ns);
        words[..8].copy_from_slice(&seconds.to_le_bytes());
        words[8..].copy_from_slice(&rest.to_le_bytes());
        mem.write_all_at(&words, self.at).ok()
    }
}

/// A call that is made again in the target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    timeout: Timeout,
    /// When it ends, on the monotonic clock; `None` = never, or at a point in time that it names itself.
    end_ns: Option<i64>,
}

/// Makes a stopped thread's registers such that it goes on as if nothing had been: `regs` in the target, `image_regs`
/// from an image. `started` is when its process started.
///
/// # Errors
/// `/proc` cannot be read.
pub(super) fn settle(
    pid: Pid,
    thread: &mut Stopped,
    look: &Look,
    started: u64,
    mem: Option<&File>,
) -> Result<(), Error> {
    let result = thread.regs.rax as i64;
    thread.rest = Rest::of(&thread.regs);
    if (thread.regs.orig_rax as i64) < 0
        || !matches!(result, EINTR | RESTART_BLOCK)
        || (thread.group_stop.is_some() && result == EINTR)
    {
        return leave_critical_section(thread, mem);
    }
    let Some(mem) = mem else {
        return Ok(());
    };
    let status = thread.status(pid)?;
    let seen = look.after_stop(status.voluntary_switches);
    let has_signal = has_signal(status);
    let Some((nr, timeout, end)) = interrupted(&thread.regs, started, &seen, mem) else {
        return Ok(());
    };
    if result == EINTR && has_signal {
        return Ok(());
    }
    let end_ns = match end {
        Known::At(end_ns) => Some(end_ns),
        Known::Endless => None,
        Known::Not => end_ns(&thread.regs, nr as i64, timeout, seen.since_ns, mem),
    };
    let again = Again { timeout, end_ns };
    let regs = make_again(thread.regs, nr, again, mem);
    thread.image_regs = regs;
    thread.remade = Some(again);
    if result == EINTR {
        thread.resume_with(regs)?;
        thread.again = Some(again);
    } else if let Some(sleeps) = seen.sleeps_now {
        let note = Note::new((&thread.regs, &regs), started, sleeps, nr, end_ns);
        note.leave(&thread.regs, mem);
        thread.note = Some((pid, note));
    }
    Ok(())
}

/// Has a thread make an interrupted call again by its number where the kernel would by `restart_syscall`.
///
/// # Errors
/// ptrace failed.
pub(super) fn without_restart(thread: &mut Stopped) -> Result<(), Error> {
    if thread.regs.rax as i64 == RESTART_BLOCK
        && (thread.regs.orig_rax as i64) >= 0
        && let Some(again) = thread.remade
    {
        thread.resume_with(thread.image_regs)?;
        thread.again = Some(again);
        thread.note = None;
    }
    Ok(())
}

/// Gives a call that is made again the time that is left by now: the thread is about to go on.
///
/// # Errors
/// ptrace failed.
pub(super) fn go_on(thread: &mut Stopped, mem: Option<&File>) -> Result<(), Error> {
    if let Some(rest) = thread.rest.take()
        && let Some(mem) = mem
        && rest.take_stop_off(mem).is_none()
    {
        tracing::debug!("thread {}: its timeout is late by this stop", thread.tid.0);
    }
    let Some(again) = thread.again.take() else {
        return Ok(());
    };
    let mut regs = thread.regs;
    if let Some(mem) = mem {
        set_left(&mut regs, again, mem);
    }
    thread.resume_with(regs)
}

/// Opens the memory of a process, which stands still: before that it may become another program's.
pub(super) fn memory(pid: Pid) -> Option<File> {
    let path = format!("/proc/{}/mem", pid.0);
    OpenOptions::new().read(true).write(true).open(path).ok()
}

/// Returns whether a thread in this call may have to get the rest of its timeout.
pub(super) fn has_timeout(nr: i32, args: &[u64; 6]) -> bool {
    let nr = i64::from(nr);
    nr == libc::SYS_restart_syscall
        || timeout_of(nr, args).is_some_and(|timeout| match timeout {
            Timeout::None => false,
            Timeout::Ms(index) => args[index] as i32 > 0,
            Timeout::Spec(index) => args[index] != 0,
        })
}

/// Returns the call that was interrupted, if it is one that is to be made again here, its timeout, and what an earlier stop
/// left of when it ends.
fn interrupted(
    regs: &Regs,
    started: u64,
    seen: &Seen,
    mem: &File,
) -> Option<(u64, Timeout, Known)> {
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    let (nr, end) = match regs.orig_rax as i64 {
        libc::SYS_restart_syscall => match Note::find(regs, started, seen.sleeps_before, mem) {
            Some((nr, end)) => (nr as i64, end),
            None => (number_before(regs.rip, mem).or(seen.restarted)?, Known::Not),
        },
        nr => (nr, Known::Not),
    };
    Some((nr as u64, timeout_of(nr, &args)?, end))
}

/// Returns how the timeout of a call is given, if it is a call that is made again here.
fn timeout_of(nr: i64, args: &[u64; 6]) -> Option<Timeout> {
    Some(match nr {
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => Timeout::Ms(3),
        libc::SYS_epoll_pwait2 | libc::SYS_semtimedop => Timeout::Spec(3),
        libc::SYS_rt_sigtimedwait => Timeout::Spec(2),
        libc::SYS_io_getevents | SYS_IO_PGETEVENTS => Timeout::Spec(4),
        libc::SYS_semop => Timeout::None,
        libc::SYS_poll => Timeout::Ms(2),
        libc::SYS_nanosleep => Timeout::Spec(0),
        libc::SYS_clock_nanosleep if args[1] & libc::TIMER_ABSTIME as u64 != 0 => Timeout::None,
        libc::SYS_clock_nanosleep => Timeout::Spec(2),
        libc::SYS_futex => futex_timeout(args[1]),
        _ => return None,
    })
}

/// FUTEX_WAIT takes a time to wait, all others a point in time (futex(2)).
fn futex_timeout(operation: u64) -> Timeout {
    const COMMAND: u64 = 0x7f;
    if operation & COMMAND == libc::FUTEX_WAIT as u64 {
        Timeout::Spec(3)
    } else {
        Timeout::None
    }
}

/// After a first restart the kernel shows `restart_syscall`; the number is then in the instruction before (`mov eax, n`).
fn number_before(rip: u64, mem: &File) -> Option<i64> {
    let mut code = [0; 7];
    mem.read_exact_at(&mut code, rip.checked_sub(7)?).ok()?;
    let number = u32::from_le_bytes([code[1], code[2], code[3], code[4]]);
    (code[0] == 0xb8 && code[5..] == [0x0f, 0x05]).then_some(i64::from(number))
}

/// Returns whether a signal waits that the thread would take: then EINTR is the program's to see.
fn has_signal(status: &Status) -> bool {
    (status.sig_pending | status.shared_pending) & !status.sig_blocked != 0
}

/// Returns when a call ends that waits since `since_ns`; `None` = never, or at a point in time that it names itself.
///
/// A sleep that asks for what was left of it has got that from the kernel at the stop (`nanosleep_copyout`,
/// `kernel/time/hrtimer.c`), in place of its timeout if it gave one address for both, as `std::thread::sleep` of Rust does.
fn end_ns(regs: &Regs, nr: i64, timeout: Timeout, since_ns: i64, mem: &File) -> Option<i64> {
    let (asked_at, left_at) = match nr {
        libc::SYS_nanosleep => (regs.rdi, regs.rsi),
        libc::SYS_clock_nanosleep => (regs.rdx, regs.r10),
        _ => (0, 0),
    };
    let of_timeout = match asked_at != 0 && asked_at == left_at {
        true => None,
        false => total_ns(regs, timeout, mem).map(|total| total.saturating_add(since_ns)),
    };
    let is_told = left_at != 0 && timeout != Timeout::None && regs.rax as i64 == RESTART_BLOCK;
    let of_rest = is_told
        .then(|| read_spec(left_at, mem)?.checked_add(now_ns(Clock::Monotonic).ok()?))
        .flatten();
    // Neither is too early.
    of_timeout.into_iter().chain(of_rest).min()
}

/// Reads a `timespec`, in nanoseconds.
fn read_spec(at: u64, mem: &File) -> Option<i64> {
    let mut spec = [0; 16];
    mem.read_exact_at(&mut spec, at).ok()?;
    let seconds = i64::from_le_bytes(spec[..8].try_into().ok()?);
    let nanoseconds = i64::from_le_bytes(spec[8..].try_into().ok()?);
    seconds.checked_mul(SECOND)?.checked_add(nanoseconds)
}

/// Returns the timeout in nanoseconds; `None` = for ever, or a point in time.
fn total_ns(regs: &Regs, timeout: Timeout, mem: &File) -> Option<i64> {
    let mut regs = *regs;
    match timeout {
        Timeout::None => None,
        Timeout::Ms(arg) => {
            let ms = *argument(&mut regs, arg) as i32;
            (ms > 0).then(|| i64::from(ms) * MS)
        }
        Timeout::Spec(arg) => {
            let at = *argument(&mut regs, arg);
            (at != 0).then(|| read_spec(at, mem)).flatten()
        }
    }
}

fn make_again(mut regs: Regs, nr: u64, again: Again, mem: &File) -> Regs {
    regs.rip -= SYSCALL_LEN;
    regs.rax = nr;
    regs.orig_rax = u64::MAX;
    set_left(&mut regs, again, mem);
    regs
}

/// Sets the time that is left by now.
fn set_left(regs: &mut Regs, again: Again, mem: &File) {
    let Some((end, now)) = again.end_ns.zip(now_ns(Clock::Monotonic).ok()) else {
        return;
    };
    let left = end.saturating_sub(now).max(0);
    match again.timeout {
        Timeout::None => {}
        Timeout::Ms(arg) => *argument(regs, arg) = (left as u64).div_ceil(MS as u64),
        Timeout::Spec(arg) => {
            let rest_at = (regs.rsp - BELOW_RED_ZONE) & !15;
            let mut spec = [0; 16];
            spec[..8].copy_from_slice(&(left / SECOND).to_le_bytes());
            spec[8..].copy_from_slice(&(left % SECOND).to_le_bytes());
            if mem.write_all_at(&spec, rest_at).is_ok() {
                *argument(regs, arg) = rest_at;
            }
        }
    }
}

fn argument(regs: &mut Regs, index: usize) -> &mut u64 {
    match index {
        0 => &mut regs.rdi,
        1 => &mut regs.rsi,
        2 => &mut regs.rdx,
        3 => &mut regs.r10,
        4 => &mut regs.r8,
        _ => &mut regs.r9,
    }
}

/// Returns the registers for a signal frame that brings the thread back: `rt_sigreturn` clears the restart block, so what
/// the image would use is used here too, but for the private errors that only the kernel's own exit path knows.
pub(super) fn return_regs(stopped: &Stopped) -> Regs {
    let mut regs = stopped.image_regs;
    if (regs.orig_rax as i64) >= 0 {
        match regs.rax as i64 {
            -514..=-512 => {
                regs.rip -= 2;
                regs.rax = regs.orig_rax;
            }
            -516 => regs.rax = -i64::from(libc::EINTR) as u64,
            _ => {}
        }
    }
    regs
}

/// A thread stopped inside of a restartable sequence goes on at its abort handler, as the kernel would have sent it there
/// (`kernel/rseq.c`): after other code ran in its place, going on in the middle would be silent corruption.
fn leave_critical_section(thread: &mut Stopped, mem: Option<&File>) -> Result<(), Error> {
    let Some((rseq, mem)) = thread.rseq.zip(mem) else {
        return Ok(());
    };
    let Some(abort) = abort_address(mem, rseq.addr.0, thread.regs.rip) else {
        return Ok(());
    };
    let regs = Regs {
        rip: abort,
        ..thread.regs
    };
    thread.image_regs = regs;
    thread.resume_with(regs)
}

/// Reads `struct rseq` and the `struct rseq_cs` that it points to (`linux/rseq.h`).
fn abort_address(mem: &File, rseq: u64, rip: u64) -> Option<u64> {
    let mut pointer = [0; 8];
    mem.read_exact_at(&mut pointer, rseq + 8).ok()?;
    let section = u64::from_le_bytes(pointer);
    if section == 0 {
        return None;
    }
    let mut words = [0; 32];
    mem.read_exact_at(&mut words, section).ok()?;
    let word = |at: usize| u64::from_le_bytes(words[at..at + 8].try_into().expect("eight bytes"));
    let (start, len, abort) = (word(8), word(16), word(24));
    (rip.wrapping_sub(start) < len).then_some(abort)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_memory() -> File {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open("/proc/self/mem")
            .expect("own memory")
    }

    fn ends_in(timeout: Timeout, ns: i64) -> Again {
        let end_ns = Some(now_ns(Clock::Monotonic).expect("clock") + ns);
        Again { timeout, end_ns }
    }

    #[test]
    fn a_poll_goes_on_with_the_time_that_is_left() {
        let regs = Regs {
            rip: 0x1002,
            orig_rax: 7,
            rdx: 100_000,
            ..Regs::default()
        };
        let again = make_again(regs, 7, ends_in(Timeout::Ms(2), 60 * SECOND), &own_memory());
        assert_eq!((again.rip, again.rax), (0x1000, 7));
        assert!((50_000..=60_000).contains(&again.rdx), "{}", again.rdx);
    }

    #[test]
    fn a_sleep_that_gives_one_address_for_both_has_its_rest_there() {
        let left = [3_u64, 0];
        let regs = Regs {
            rdi: left.as_ptr() as u64,
            rsi: left.as_ptr() as u64,
            rax: RESTART_BLOCK as u64,
            ..Regs::default()
        };
        let now = now_ns(Clock::Monotonic).expect("clock");
        let (nr, timeout) = (libc::SYS_nanosleep, Timeout::Spec(0));
        let end = end_ns(&regs, nr, timeout, now - 5 * SECOND, &own_memory()).expect("an end");
        assert!((3 * SECOND..10 * SECOND).contains(&(end - now)), "{end}");
    }

    #[test]
    fn waiting_for_ever_stays_for_ever() {
        let regs = Regs {
            rip: 2,
            r10: -1i32 as u32 as u64,
            ..Regs::default()
        };
        let timeout = Timeout::Ms(3);
        let end_ns = total_ns(&regs, timeout, &own_memory());
        assert_eq!(end_ns, None);
        let again = make_again(regs, 232, Again { timeout, end_ns }, &own_memory());
        assert_eq!(again.r10, u64::from(u32::MAX));
    }

    #[test]
    fn a_sleep_in_memory_leaves_the_programs_own_timespec_alone() {
        let request = [200_u64, 500_000_000];
        let stack = vec![0u8; 4096];
        let regs = Regs {
            rip: 2,
            rdi: request.as_ptr() as u64,
            rsp: stack.as_ptr() as u64 + 4096,
            ..Regs::default()
        };
        let timeout = Timeout::Spec(0);
        let total = total_ns(&regs, timeout, &own_memory());
        assert_eq!(total, Some(200 * SECOND + SECOND / 2));
        let again = make_again(regs, 35, ends_in(timeout, 100 * SECOND), &own_memory());
        assert_ne!(again.rdi, regs.rdi);
        let mut rest = [0; 8];
        own_memory()
            .read_exact_at(&mut rest, again.rdi)
            .expect("readable");
        assert!((90..100).contains(&u64::from_le_bytes(rest)));
        assert_eq!(request, [200, 500_000_000]);
    }
}
