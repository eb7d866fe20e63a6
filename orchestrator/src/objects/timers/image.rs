//! Between the facts and their records: `setitimer` timers in microseconds, POSIX timers in nanoseconds.

use crate::image::error::{Checked, wrong};
use crate::image::limits::{SECOND_NS, nanoseconds, pid, signal};
use crate::snapshot::{Interval, IntervalTimers, Notify, PosixTimer};
use proto::pb;

/// Nanoseconds in a microsecond.
const MICROSECOND_NS: u64 = 1000;
/// `SIGEV_*` of `include/uapi/asm-generic/siginfo.h`.
const SIGEV_SIGNAL: u32 = 0;
const SIGEV_NONE: u32 = 1;
const SIGEV_THREAD: u32 = 2;
const SIGEV_THREAD_ID: u32 = 4;

/// Returns the record of both sorts of timer.
pub(crate) fn to_record(interval: &IntervalTimers, posix: &[PosixTimer]) -> pb::TaskTimersEntry {
    pb::TaskTimersEntry {
        real: interval_to_record(&interval.real),
        virt: interval_to_record(&interval.virt),
        prof: interval_to_record(&interval.prof),
        posix: posix.iter().map(posix_to_record).collect(),
    }
}

/// Returns the `setitimer` timers in three records.
pub(crate) fn interval_timers(records: [&pb::ItimerEntry; 3]) -> Checked<IntervalTimers> {
    Ok(IntervalTimers {
        real: interval_from_record(records[0]).map_err(|wrong| wrong.of("ITIMER_REAL"))?,
        virt: interval_from_record(records[1]).map_err(|wrong| wrong.of("ITIMER_VIRTUAL"))?,
        prof: interval_from_record(records[2]).map_err(|wrong| wrong.of("ITIMER_PROF"))?,
    })
}

/// Returns the POSIX timers in `records`.
pub(crate) fn posix_timers(records: &[pb::PosixTimerEntry]) -> Checked<Vec<PosixTimer>> {
    let timer = |record: &pb::PosixTimerEntry| {
        posix_from_record(record)
            .map_err(|wrong| wrong.of(&format!("POSIX timer {}", record.it_id)))
    };
    let mut timers = records.iter().map(timer).collect::<Checked<Vec<_>>>()?;
    timers.sort_by_key(|timer| timer.id);
    match timers.windows(2).find(|pair| pair[0].id == pair[1].id) {
        Some(pair) => wrong!("POSIX timer {} is there twice", pair[0].id),
        None => Ok(timers),
    }
}

fn interval_to_record(timer: &Interval) -> pb::ItimerEntry {
    pb::ItimerEntry {
        isec: timer.interval_ns / SECOND_NS,
        iusec: timer.interval_ns % SECOND_NS / MICROSECOND_NS,
        vsec: timer.value_ns / SECOND_NS,
        vusec: timer.value_ns % SECOND_NS / MICROSECOND_NS,
    }
}

fn interval_from_record(record: &pb::ItimerEntry) -> Checked<Interval> {
    Ok(Interval {
        interval_ns: nanoseconds(record.isec, record.iusec, MICROSECOND_NS)?,
        value_ns: nanoseconds(record.vsec, record.vusec, MICROSECOND_NS)?,
    })
}

fn posix_to_record(timer: &PosixTimer) -> pb::PosixTimerEntry {
    let (it_sigev_notify, si_signo, notify_thread_id) = match timer.notify {
        Notify::None => (SIGEV_NONE, 0, None),
        Notify::Signal(signal) => (SIGEV_SIGNAL, signal, None),
        Notify::SignalThread(signal) => (SIGEV_THREAD, signal, None),
        Notify::Thread { signal, tid } => (SIGEV_THREAD_ID, signal, Some(tid)),
    };
    pb::PosixTimerEntry {
        it_id: timer.id,
        clock_id: timer.clock as u32,
        si_signo,
        it_sigev_notify,
        sival_ptr: timer.value,
        overrun: timer.overrun,
        isec: timer.spec.interval_ns / SECOND_NS,
        insec: timer.spec.interval_ns % SECOND_NS,
        vsec: timer.spec.value_ns / SECOND_NS,
        vnsec: timer.spec.value_ns % SECOND_NS,
        notify_thread_id,
    }
}

fn posix_from_record(record: &pb::PosixTimerEntry) -> Checked<PosixTimer> {
    if record.it_id > i32::MAX as u32 {
        return wrong!("no id of a timer");
    }
    let number = signal(record.si_signo)?;
    let notify = match (record.it_sigev_notify, record.notify_thread_id) {
        (SIGEV_NONE, _) => Notify::None,
        (SIGEV_SIGNAL, _) => Notify::Signal(number),
        (SIGEV_THREAD, _) => Notify::SignalThread(number),
        (SIGEV_THREAD_ID, Some(tid)) => Notify::Thread {
            signal: number,
            tid: pid(tid as u32)?,
        },
        (SIGEV_THREAD_ID, None) => return wrong!("it notifies a thread that is not named"),
        (other, _) => return wrong!("way of notification {other} is not known"),
    };
    if number == 0 && notify != Notify::None {
        return wrong!("it notifies by signal 0");
    }
    Ok(PosixTimer {
        id: record.it_id,
        clock: record.clock_id as i32,
        notify,
        value: record.sival_ptr,
        overrun: record.overrun,
        spec: Interval {
            interval_ns: nanoseconds(record.isec, record.insec, 1)?,
            value_ns: nanoseconds(record.vsec, record.vnsec, 1)?,
        },
    })
}
