//! Timers of a task. Times are what was left at the freeze, in nanoseconds.

/// A timer's state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interval {
    /// Period, in nanoseconds; 0 = one shot. (`setitimer` keeps microseconds.)
    pub interval_ns: u64,
    /// Time left, in nanoseconds; 0 = disarmed.
    pub value_ns: u64,
}

/// The three `setitimer` timers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IntervalTimers {
    /// `ITIMER_REAL`.
    pub real: Interval,
    /// `ITIMER_VIRTUAL`.
    pub virt: Interval,
    /// `ITIMER_PROF`.
    pub prof: Interval,
}

/// A `timer_create` timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PosixTimer {
    /// Its id.
    pub id: u32,
    /// Clock.
    pub clock: i32,
    /// What happens at expiry.
    pub notify: Notify,
    /// `sigev_value`.
    pub value: u64,
    /// Expirations not yet told.
    pub overrun: u32,
    /// Period and time left.
    pub spec: Interval,
}

/// `sigevent` of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    /// `SIGEV_NONE`.
    None,
    /// `SIGEV_SIGNAL` with this signal.
    Signal(u32),
    /// `SIGEV_THREAD_ID`: this signal to the thread with this id.
    Thread {
        /// The signal.
        signal: u32,
        /// The thread.
        tid: i32,
    },
    /// `SIGEV_THREAD` (made by a C library for itself; the kernel treats it as a signal).
    SignalThread(u32),
}
