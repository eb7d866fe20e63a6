//! Between the fact and its record.

use crate::image::error::{Checked, wrong};
use crate::image::limits::{SECOND_NS, nanoseconds};
use crate::snapshot::{Interval, OpenFile, TimerFd};
use proto::pb;

/// Highest number of a clock (`CLOCK_TAI`).
const MAX_CLOCK: u32 = 11;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(file: &OpenFile, fown: pb::FownEntry, fact: &TimerFd) -> pb::TimerfdEntry {
    pb::TimerfdEntry {
        id: file.id.0,
        flags: file.flags,
        fown,
        clockid: fact.clock as u32,
        ticks: fact.ticks,
        settime_flags: fact.settime_flags,
        vsec: fact.spec.value_ns / SECOND_NS,
        vnsec: fact.spec.value_ns % SECOND_NS,
        isec: fact.spec.interval_ns / SECOND_NS,
        insec: fact.spec.interval_ns % SECOND_NS,
    }
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::TimerfdEntry) -> Checked<TimerFd> {
    if record.clockid > MAX_CLOCK {
        return wrong!("a timerfd has no clock {}", record.clockid);
    }
    Ok(TimerFd {
        clock: record.clockid as i32,
        ticks: record.ticks,
        settime_flags: record.settime_flags,
        spec: Interval {
            interval_ns: nanoseconds(record.isec, record.insec, 1)?,
            value_ns: nanoseconds(record.vsec, record.vnsec, 1)?,
        },
    })
}
