//! From the fact to operations. Pure.

use crate::plan::{Builder, Object, Report};
use crate::snapshot::{Interval, IntervalTimers, Notify, PosixTimer};

const NANOS: u64 = 1_000_000_000;
const MICROS: u64 = 1_000_000;
/// `PR_TIMER_CREATE_RESTORE_IDS` and its values (Linux 6.15): `timer_create` takes the id it is given.
const RESTORE_IDS: u64 = 77;
const ON: u64 = 1;
const OFF: u64 = 0;
/// Highest id that is worth counting up to on kernels without it.
const MAX_COUNTED: u32 = 100_000;

/// Adds the timers, not running.
pub fn plan_create(b: &mut Builder, timers: &[PosixTimer], has_ids: bool, report: &mut Report) {
    if timers.is_empty() {
        return;
    }
    b.object(Object::Task("ids of timers"));
    if has_ids {
        b.call_returns(libc::SYS_prctl, &[RESTORE_IDS, ON], 0);
        for timer in timers {
            create(b, timer);
        }
        b.object(Object::Task("ids of timers"));
        b.call_returns(libc::SYS_prctl, &[RESTORE_IDS, OFF], 0);
        return;
    }
    let mut next = 0;
    for timer in timers {
        if timer.id > MAX_COUNTED {
            report.refuse(
                format!("timer {}", timer.id),
                "this kernel cannot make a timer of a given id, and counting up to it would take too long",
                "restore on Linux 6.15 or later",
            );
            return;
        }
        for skipped in next..timer.id {
            skip(b, skipped);
        }
        create(b, timer);
        next = timer.id + 1;
    }
}

fn create(b: &mut Builder, timer: &PosixTimer) {
    b.object(Object::Named(format!("timer {}", timer.id)));
    let event = b.put(&event(timer));
    let id = b.put(&timer.id.to_le_bytes());
    b.call_returns(libc::SYS_timer_create, &[timer.clock as u64, event, id], 0);
}

/// Makes and deletes the timer that gets this id (older kernels count up).
fn skip(b: &mut Builder, id: u32) {
    b.object(Object::Named(format!("id {id} of no timer")));
    let none = PosixTimer {
        id,
        clock: libc::CLOCK_MONOTONIC,
        notify: Notify::None,
        value: 0,
        overrun: 0,
        spec: Interval::default(),
    };
    let event = b.put(&event(&none));
    let at = b.put(&id.to_le_bytes());
    b.call_returns(libc::SYS_timer_create, &[none.clock as u64, event, at], 0);
    b.call_returns(libc::SYS_timer_delete, &[u64::from(id)], 0);
}

/// Returns the `struct sigevent`, 64 bytes: value, signal, kind, thread.
fn event(timer: &PosixTimer) -> Vec<u8> {
    let (signal, kind, tid) = match timer.notify {
        Notify::None => (0, libc::SIGEV_NONE, 0),
        Notify::Signal(signal) => (signal, libc::SIGEV_SIGNAL, 0),
        Notify::Thread { signal, tid } => (signal, libc::SIGEV_THREAD_ID, tid),
        Notify::SignalThread(signal) => (signal, libc::SIGEV_THREAD, 0),
    };
    let mut bytes = timer.value.to_le_bytes().to_vec();
    bytes.extend_from_slice(&signal.to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&tid.to_le_bytes());
    bytes.resize(64, 0);
    bytes
}

/// Adds the start of those that ran.
pub fn plan_start(b: &mut Builder, timers: &[PosixTimer]) {
    for timer in timers
        .iter()
        .filter(|timer| timer.spec != Interval::default())
    {
        b.object(Object::Named(format!("timer {}", timer.id)));
        let Interval {
            interval_ns,
            value_ns,
        } = timer.spec;
        let words = [
            interval_ns / NANOS,
            interval_ns % NANOS,
            value_ns / NANOS,
            value_ns % NANOS,
        ];
        let spec = b.put_words(&words);
        let args = [u64::from(timer.id), 0, spec, 0];
        b.call_returns(libc::SYS_timer_settime, &args, 0);
    }
}

/// Adds the start of the `setitimer` timers that ran.
pub fn plan_interval_timers(b: &mut Builder, timers: &IntervalTimers) {
    let all = [
        (libc::ITIMER_REAL, timers.real),
        (libc::ITIMER_VIRTUAL, timers.virt),
        (libc::ITIMER_PROF, timers.prof),
    ];
    for (which, spec) in all {
        if spec == Interval::default() {
            continue;
        }
        b.object(Object::Task("interval timer"));
        // Rounded up: a timer that has a nanosecond left must not be set to 0, which stops it.
        let micros = |ns: u64| ns.div_ceil(1000);
        let (interval, value) = (micros(spec.interval_ns), micros(spec.value_ns));
        let words = [
            interval / MICROS,
            interval % MICROS,
            value / MICROS,
            value % MICROS,
        ];
        let at = b.put_words(&words);
        b.call_returns(libc::SYS_setitimer, &[which as u64, at, 0], 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(id: u32) -> PosixTimer {
        PosixTimer {
            id,
            clock: libc::CLOCK_MONOTONIC,
            notify: Notify::Thread {
                signal: 34,
                tid: 77,
            },
            value: 0x1122,
            overrun: 0,
            spec: Interval::default(),
        }
    }

    #[test]
    fn older_kernels_count_up_to_the_id() {
        let (mut b, mut report) = (Builder::for_test(), Report::default());
        plan_create(&mut b, &[timer(1), timer(3)], false, &mut report);
        let made: Vec<i64> = b.calls().iter().map(|call| call.0).collect();
        let (create, delete) = (libc::SYS_timer_create, libc::SYS_timer_delete);
        assert_eq!(made, [create, delete, create, create, delete, create]);
        plan_create(&mut b, &[timer(1 << 30)], false, &mut report);
        assert_eq!(report.refusals.len(), 1);
    }

    #[test]
    fn newer_kernels_are_told_the_id() {
        let (mut b, mut report) = (Builder::for_test(), Report::default());
        plan_create(&mut b, &[timer(1 << 30)], true, &mut report);
        let calls = b.calls();
        assert_eq!(calls[0].1[..2], [77, 1]);
        assert_eq!(b.data_at(calls[1].1[2], 4), (1_u32 << 30).to_le_bytes());
        // sigev_value, sigev_signo and sigev_notify, sigev_notify_thread_id.
        assert_eq!(b.words_at(calls[1].1[1], 3), [0x1122, 4 << 32 | 34, 77]);
        assert_eq!(calls[2].1[..2], [77, 0]);
    }

    #[test]
    fn a_nanosecond_left_does_not_stop_an_interval_timer() {
        let mut b = Builder::for_test();
        let timers = IntervalTimers {
            prof: Interval {
                interval_ns: 2_000_001_000,
                value_ns: 1,
            },
            ..IntervalTimers::default()
        };
        plan_interval_timers(&mut b, &timers);
        let calls = b.calls();
        assert_eq!((calls.len(), calls[0].1[0]), (1, libc::ITIMER_PROF as u64));
        assert_eq!(b.words_at(calls[0].1[1], 4), [2, 1, 0, 1]);
    }
}
