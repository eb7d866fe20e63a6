//! From the fact to operations. Pure.

use crate::plan::Builder;
use crate::snapshot::TimerFd;

const NANOS: u64 = 1_000_000_000;
/// `TFD_TIMER_ABSTIME`.
const ABSTIME: u32 = 1;
/// `TFD_TIMER_CANCEL_ON_SET`.
const CANCEL_ON_SET: u32 = 2;
/// `TFD_IOC_SET_TICKS` (`include/uapi/linux/timerfd.h`, needs CONFIG_CHECKPOINT_RESTORE).
const SET_TICKS: u64 = 0x4008_5400;

/// Adds the creation, not yet running.
pub fn plan_create(b: &mut Builder, timer: &TimerFd, flags: u32) -> i32 {
    let flags = u64::from(flags & libc::O_NONBLOCK as u32);
    b.open(libc::SYS_timerfd_create, &[timer.clock as u64, flags])
}

/// Adds the start, then the expirations that were not yet read, which setting a timer forgets.
///
/// A periodic timer that has expired stands still until it is read, and has nothing left (`timerfd_tmrproc`,
/// `fs/timerfd.c`): it is made to expire at once, and that is its one expiration.
pub fn plan_start(b: &mut Builder, fd: i32, timer: &TimerFd, wall_clock_ns: Option<u64>) {
    b.object(crate::plan::Object::Descriptor(fd, "timerfd".into()));
    if timer.is_armed() {
        let (flags, value) = start(timer, wall_clock_ns);
        let interval = timer.spec.interval_ns;
        let words = [
            interval / NANOS,
            interval % NANOS,
            value / NANOS,
            value % NANOS,
        ];
        let spec = b.put_words(&words);
        let args = [fd as u64, u64::from(flags), spec, 0];
        b.call_returns(libc::SYS_timerfd_settime, &args, 0);
    }
    if timer.ticks != u64::from(stands_still(timer)) {
        let ticks = b.put_words(&[timer.ticks]);
        b.call_returns(libc::SYS_ioctl, &[fd as u64, SET_TICKS, ticks], 0);
    }
}

fn stands_still(timer: &TimerFd) -> bool {
    timer.ticks != 0 && timer.spec.value_ns == 0 && timer.spec.interval_ns != 0
}

/// Returns flags and first expiry. A moment of the wall clock stays that moment, however long the program was away; every
/// other timer has left what it had left.
fn start(timer: &TimerFd, wall_clock_ns: Option<u64>) -> (u32, u64) {
    let is_wall = matches!(
        timer.clock,
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_ALARM
    );
    match wall_clock_ns {
        Some(wall) if is_wall && timer.settime_flags & ABSTIME != 0 && timer.spec.value_ns != 0 => {
            let flags = timer.settime_flags & (ABSTIME | CANCEL_ON_SET);
            (flags, wall.saturating_add(timer.spec.value_ns))
        }
        _ if stands_still(timer) => (0, 1),
        _ => (0, timer.spec.value_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Interval;

    fn timer(clock: i32, settime_flags: u32) -> TimerFd {
        TimerFd {
            clock,
            ticks: 0,
            settime_flags,
            spec: Interval {
                interval_ns: 0,
                value_ns: 5,
            },
        }
    }

    #[test]
    fn only_moments_of_the_wall_clock_are_absolute() {
        let wall = Some(100);
        assert_eq!(start(&timer(libc::CLOCK_REALTIME, 3), wall), (3, 105));
        assert_eq!(start(&timer(libc::CLOCK_REALTIME, 0), wall), (0, 5));
        assert_eq!(start(&timer(libc::CLOCK_REALTIME, 1), None), (0, 5));
        assert_eq!(start(&timer(libc::CLOCK_MONOTONIC, 1), wall), (0, 5));
    }

    #[test]
    fn an_expired_period_goes_on() {
        let mut periodic = timer(libc::CLOCK_MONOTONIC, 0);
        periodic.spec = Interval {
            interval_ns: 100,
            value_ns: 0,
        };
        assert_eq!(start(&periodic, None), (0, 0));
        periodic.ticks = 1;
        assert_eq!(start(&periodic, None), (0, 1));
    }
}
