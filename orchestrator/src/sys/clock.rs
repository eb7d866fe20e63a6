//! Clocks.

use super::{Named, Result};
use nix::time::ClockId;

/// A clock of the whole system, as the calling process's time namespace shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Wall clock.
    Realtime,
    /// Since some moment, without suspend.
    Monotonic,
    /// Since boot, with suspend.
    Boottime,
}

/// Returns the time in nanoseconds.
pub fn now_ns(clock: Clock) -> Result<i64> {
    let clock = match clock {
        Clock::Realtime => ClockId::CLOCK_REALTIME,
        Clock::Monotonic => ClockId::CLOCK_MONOTONIC,
        Clock::Boottime => ClockId::CLOCK_BOOTTIME,
    };
    let time = nix::time::clock_gettime(clock).named("clock_gettime")?;
    // Until the year 2262.
    Ok(time.tv_sec().saturating_mul(1_000_000_000) + time.tv_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_go_on() {
        let before = now_ns(Clock::Monotonic).expect("clock");
        assert!(now_ns(Clock::Monotonic).expect("clock") >= before && before > 0);
        assert!(now_ns(Clock::Boottime).expect("clock") >= before);
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let wall = wall.expect("after 1970").as_secs() as i64;
        let ours = now_ns(Clock::Realtime).expect("clock") / 1_000_000_000;
        assert!((ours - wall).abs() <= 1);
    }
}
