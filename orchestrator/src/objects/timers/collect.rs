//! From the kernel to the fact: `/proc/PID/timers` lists POSIX timers, their times are asked inside.

use crate::infect::questions::{Answers, Arg, Asked, Buffer, Questions, u64_at};
use crate::procfs::timers::TimerLine;
use crate::snapshot::{Interval, IntervalTimers, Notify, PosixTimer};

/// Questions about the timers of a process.
#[derive(Debug)]
pub struct Timers {
    interval: [(Asked, Buffer); 3],
    posix: Vec<(TimerLine, Asked, Buffer, Asked)>,
}

impl Timers {
    /// Asks for the interval timers and for the POSIX timers listed.
    pub fn ask(questions: &mut Questions, listed: &[TimerLine]) -> Self {
        let interval = [0u64, 1, 2].map(|which| {
            let buffer = questions.space(32);
            (
                questions.ask(
                    libc::SYS_getitimer as u32,
                    [Arg::Value(which), buffer.into()],
                ),
                buffer,
            )
        });
        let posix = listed
            .iter()
            .map(|line| {
                let id = Arg::Value(line.id as u64);
                let buffer = questions.space(32);
                let spec = questions.ask(libc::SYS_timer_gettime as u32, [id, buffer.into()]);
                (
                    *line,
                    spec,
                    buffer,
                    questions.ask(libc::SYS_timer_getoverrun as u32, [id]),
                )
            })
            .collect();
        Self { interval, posix }
    }

    /// Returns the interval timers.
    pub fn read_interval(&self, answers: &Answers) -> IntervalTimers {
        let [real, virt, prof] = self
            .interval
            .map(|(asked, buffer)| spec(answers.filled(asked, buffer), 1000));
        IntervalTimers { real, virt, prof }
    }

    /// Returns the POSIX timers.
    pub fn read_posix(&self, answers: &Answers) -> Vec<PosixTimer> {
        self.posix
            .iter()
            .map(|(line, asked, buffer, overrun)| PosixTimer {
                id: line.id as u32,
                clock: line.clock,
                notify: notify(line),
                value: line.sigval,
                overrun: answers.result(*overrun).map_or(0, |count| count as u32),
                spec: spec(answers.filled(*asked, *buffer), 1),
            })
            .collect()
    }
}

/// Reads an interval and a value of seconds and `unit_ns` each.
fn spec(bytes: Option<&[u8]>, unit_ns: u64) -> Interval {
    let Some(bytes) = bytes else {
        return Interval::default();
    };
    let ns = |at| {
        u64_at(bytes, at)
            .saturating_mul(1_000_000_000)
            .saturating_add(u64_at(bytes, at + 8) * unit_ns)
    };
    Interval {
        interval_ns: ns(0),
        value_ns: ns(16),
    }
}

fn notify(line: &TimerLine) -> Notify {
    let signal = line.signal as u32;
    match line.notify {
        libc::SIGEV_NONE => Notify::None,
        libc::SIGEV_THREAD_ID => Notify::Thread {
            signal,
            tid: line.tid,
        },
        libc::SIGEV_THREAD => Notify::SignalThread(signal),
        _ => Notify::Signal(signal),
    }
}
