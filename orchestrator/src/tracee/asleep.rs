//! Since when a thread has been asleep in a system call with a timeout, on the monotonic clock.
//!
//! The kernel keeps when a task last ran (`se.exec_start` in `/proc/PID/sched`), by a clock of the processor it ran on
//! (`rq_clock_task`): that one leaves out the time of interrupts and of the hypervisor, so it stands tens of
//! milliseconds behind on one processor and not on another. It is compared with the monotonic clock on that very
//! processor, by sleeping there for a moment. What passed in interrupts while the thread slept makes the answer too late
//! by as much, never too early: a wait is then longer by a fraction, and not cut short.

use super::vfork;
use crate::procfs::attributes::{self, Syscall};
use crate::procfs::{self};
use crate::sys::clock::{Clock, now_ns};
use crate::sys::{Pid, Tid, sched};
use std::collections::BTreeMap;
use std::time::Duration;

/// What was seen of a thread before it was stopped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// When it was looked at.
    at_ns: i64,
    /// The sleep that it was in, if it was in one with a timeout.
    sleep: Option<Sleep>,
    /// The call that the kernel had made again, as far as that can be told.
    restarted: Option<i64>,
    /// It made a child by `vfork`, and may wait for it.
    pub(super) in_vfork: bool,
    /// How often it may go to sleep on its way to the stop: once, and once more in a cgroup's freezer.
    pub(super) stops: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sleep {
    since_ns: i64,
    /// How often it had gone to sleep.
    number: u64,
}

/// Most comparisons of a processor's clock with the monotonic clock, on a machine that is busy.
const MEASUREMENTS: usize = 8;
/// A comparison in less time than this was made without another's turn in between.
const UNDISTURBED_NS: i64 = 300_000;

/// How far the clocks of the processors are behind the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    behind_ns: BTreeMap<u32, Option<i64>>,
    home: Option<Vec<u8>>,
}

/// Looks at a thread that runs freely. `timed` says whether a call with these arguments may have a timeout.
pub(super) fn look(
    pid: Pid,
    tid: Tid,
    clocks: &mut Clocks,
    timed: impl Fn(i32, &[u64; 6]) -> bool,
) -> Look {
    let call = match attributes::read_syscall((pid, tid)) {
        Ok(Syscall::Blocked { call, .. }) => call,
        _ => None,
    };
    let sleep = match call {
        Some((nr, args)) if timed(nr, &args) => sleep_of(pid, tid, clocks),
        _ => None,
    };
    let restarted = call
        .filter(|(nr, _)| i64::from(*nr) == libc::SYS_restart_syscall)
        .and_then(|(_, args)| restarted(&attributes::read_wchan((pid, tid)).ok()?, &args));
    let in_vfork = call.is_some_and(|(nr, args)| vfork::is_call(pid, nr, args[0]));
    let at_ns = now_ns(Clock::Monotonic).unwrap_or_default();
    Look {
        at_ns,
        sleep,
        restarted,
        in_vfork,
        stops: 1,
    }
}

/// Tells by the kernel's function that a thread waits in, and by its arguments, which call `restart_syscall` stands for. Only
/// these four have a restart block; a sleep that is gone on with waits in no function that has a name of its own.
fn restarted(wchan: &[u8], args: &[u64; 6]) -> Option<i64> {
    let has = |name: &[u8]| wchan.windows(name.len()).any(|part| part == name);
    // Clocks have small numbers or negative ones, `nanosleep` has an address there.
    let is_clock = args[0] < 4096 || args[0] > i64::MAX as u64;
    if has(b"futex") {
        return Some(libc::SYS_futex);
    }
    match wchan {
        b"0" => None,
        _ if has(b"poll") => Some(libc::SYS_poll),
        _ if is_clock => Some(libc::SYS_clock_nanosleep),
        _ => Some(libc::SYS_nanosleep),
    }
}

fn sleep_of(pid: Pid, tid: Tid, clocks: &mut Clocks) -> Option<Sleep> {
    let seen = attributes::read_scheduled((pid, tid)).ok()??;
    let processor = procfs::stat::read((pid, tid)).ok()?.processor;
    let behind_ns = clocks.behind_ns(processor)?;
    Some(Sleep {
        since_ns: seen.exec_start_ns as i64 + behind_ns,
        number: seen.voluntary_switches,
    })
}

/// What is known of a thread's sleep, once it is stopped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Since when it had been asleep: the moment of the look if it ran since.
    pub(super) since_ns: i64,
    /// How often it had gone to sleep when the stop woke it, if it was in that sleep when it was looked at.
    pub(super) sleeps_before: Option<u64>,
    /// The same now, the stop counted.
    pub(super) sleeps_now: Option<u64>,
    /// The call that the kernel had made again, if it is still in that.
    pub(super) restarted: Option<i64>,
}

impl Look {
    /// Compares with the thread, which is stopped now and has gone to sleep so often.
    pub(super) fn after_stop(&self, sleeps_now: Option<u64>) -> Seen {
        // The stop is one more voluntary switch; a second one was another sleep.
        let same = self.sleep.filter(|sleep| {
            let more = sleeps_now.and_then(|now| now.checked_sub(sleep.number));
            more.is_some_and(|more| (1..=self.stops).contains(&more))
        });
        Seen {
            since_ns: same.map_or(self.at_ns, |sleep| sleep.since_ns),
            sleeps_before: same.map(|sleep| sleep.number),
            sleeps_now,
            restarted: self.restarted.filter(|_| same.is_some()),
        }
    }
}

impl Clocks {
    fn behind_ns(&mut self, processor: u32) -> Option<i64> {
        if let Some(known) = self.behind_ns.get(&processor) {
            return *known;
        }
        let measured = self.measure(processor);
        self.behind_ns.insert(processor, measured);
        measured
    }

    /// Sleeps for a moment on a processor, and compares its clock with the monotonic clock.
    fn measure(&mut self, processor: u32) -> Option<i64> {
        let this = Tid::this();
        if self.home.is_none() {
            // A sleep of a moment then takes no longer than that.
            let _ = crate::sys::process::set_timer_slack(1);
            self.home = Some(sched::getaffinity(this).ok()?);
        }
        let mut only = vec![0; processor as usize / 8 + 1];
        only[processor as usize / 8] = 1 << (processor % 8);
        sched::setaffinity(this, &only).ok()?;
        let mut behind: Option<i64> = None;
        for _ in 0..MEASUREMENTS {
            let began = now_ns(Clock::Monotonic).ok()?;
            std::thread::sleep(Duration::from_nanos(1));
            let seen = attributes::read_scheduled((Pid::this(), this)).ok()??;
            // The time is read last: what keeps us from running in between makes the answer larger, and the least counts.
            let now = now_ns(Clock::Monotonic).ok()?;
            let seen = now - seen.exec_start_ns as i64;
            behind = Some(behind.map_or(seen, |least| least.min(seen)));
            if now - began < UNDISTURBED_NS {
                break;
            }
        }
        behind
    }
}

impl Drop for Clocks {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            // Where it fails we stay on the last processor looked at: slower, not wrong.
            let _ = sched::setaffinity(Tid::this(), home);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_behind_a_restart_is_told_by_where_it_waits() {
        let of = |wchan: &str, first| restarted(wchan.as_bytes(), &[first, 0, 0, 0, 0, 0]);
        let clock = Some(libc::SYS_clock_nanosleep);
        assert_eq!(of("do_syscall_64", 1), clock);
        assert_eq!(of("hrtimer_nanosleep", -6_i64 as u64), clock);
        assert_eq!(
            of("hrtimer_nanosleep", 0x7ffe_0000),
            Some(libc::SYS_nanosleep)
        );
        assert_eq!(of("futex_do_wait", 0x7ffe_0000), Some(libc::SYS_futex));
        assert_eq!(of("do_sys_poll", 0x7ffe_0000), Some(libc::SYS_poll));
        assert_eq!(of("0", 1), None);
    }

    #[test]
    fn a_sleeping_thread_is_seen_since_when_it_sleeps() {
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let began = now_ns(Clock::Monotonic).expect("clock");
            send.send((Tid::this(), began)).expect("sent");
            std::thread::sleep(Duration::from_secs(5));
        });
        let (tid, began) = receive.recv().expect("received");
        std::thread::sleep(Duration::from_millis(300));
        let look = look(Pid::this(), tid, &mut Clocks::default(), |_, _| true);
        let Some(sleep) = look.sleep else {
            // Kernels that keep no scheduler statistics.
            assert!(matches!(
                attributes::read_scheduled((Pid::this(), tid)),
                Ok(None)
            ));
            return;
        };
        let after_ms = (sleep.since_ns - began) / 1_000_000;
        assert!(
            (-2..150).contains(&after_ms),
            "{after_ms} ms after it began"
        );
    }
}
