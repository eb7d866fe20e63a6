//! `/proc/PID/timers`: POSIX timers of a process, without their times (`show_timer` in `fs/proc/base.c`).

use super::text::{Line, lines};
use super::{Result, Subject};
use crate::sys::Pid;

const FILE: &str = "timers";

/// One timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerLine {
    /// Its id.
    pub id: i32,
    /// Signal sent at expiry.
    pub signal: i32,
    /// `sigev_value`.
    pub sigval: u64,
    /// `sigev_notify`: `SIGEV_NONE`, `SIGEV_SIGNAL`, `SIGEV_THREAD`, or `SIGEV_THREAD_ID`.
    pub notify: i32,
    /// Who gets the signal, by the number in the reader's pid namespace: a thread for `SIGEV_THREAD_ID`, else the process.
    pub tid: i32,
    /// Its clock; negative for the CPU clock of a process or thread.
    pub clock: i32,
}

/// Reads the timers of a process.
pub fn read(pid: Pid) -> Result<Vec<TimerLine>> {
    parse(&Subject::from(pid).read(FILE)?)
}

/// Parses the bytes of `timers`.
pub fn parse(bytes: &[u8]) -> Result<Vec<TimerLine>> {
    let mut timers = Vec::new();
    let mut rows = lines(FILE, bytes);
    while let Some(mut line) = rows.next() {
        line.expect(b"ID:", "ID")?;
        let id = line.number("a timer's id")?;
        let mut line = next(&mut rows, b"signal:", "signal", bytes)?;
        let signal = line.number("a signal")?;
        line.expect(b"/", "a slash")?;
        let sigval = line.hex("a value")?;
        let mut line = next(&mut rows, b"notify:", "notify", bytes)?;
        let (notify, tid) = notify(&mut line)?;
        let mut line = next(&mut rows, b"ClockID:", "ClockID", bytes)?;
        let clock = line.number("a clock")?;
        timers.push(TimerLine {
            id,
            signal,
            sigval,
            notify,
            tid,
            clock,
        });
    }
    Ok(timers)
}

/// Returns the next line, after its key.
fn next<'a>(
    rows: &mut impl Iterator<Item = Line<'a>>,
    key: &[u8],
    expected: &'static str,
    bytes: &'a [u8],
) -> Result<Line<'a>> {
    let at_end = || {
        Line::new(
            FILE,
            bytes.split_inclusive(|&b| b == b'\n').count() + 1,
            b"",
        )
    };
    let mut line = rows.next().unwrap_or_else(at_end);
    line.expect(key, expected)?;
    Ok(line)
}

/// Parses `signal/pid.2634`: how, and who.
fn notify(line: &mut Line<'_>) -> Result<(i32, i32)> {
    line.skip_blanks();
    let how = match line.until(b'/', "signal, none or thread")? {
        b"signal" => libc::SIGEV_SIGNAL,
        b"none" => libc::SIGEV_NONE,
        b"thread" => libc::SIGEV_THREAD,
        _ => return Err(line.error("signal, none or thread")),
    };
    let how = match line.until(b'.', "pid or tid")? {
        b"pid" => how,
        // The kernel takes the bit off before it looks for the word, so that this stands beside `signal`.
        b"tid" => how | libc::SIGEV_THREAD_ID,
        _ => return Err(line.error("pid or tid")),
    };
    Ok((how, line.number("a pid")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_notify_is_read() {
        let timers = parse(
            b"ID: 0\nsignal: 14/000000000000002a\nnotify: signal/pid.2634\nClockID: 1\n\
              ID: 7\nsignal: 34/00007f00deadbeef\nnotify: signal/tid.2635\nClockID: -6\n\
              ID: 8\nsignal: 0/0000000000000000\nnotify: none/pid.0\nClockID: 0\n",
        );
        let timers = timers.expect("parses");
        let first = TimerLine {
            id: 0,
            signal: 14,
            sigval: 42,
            notify: libc::SIGEV_SIGNAL,
            tid: 2634,
            clock: 1,
        };
        assert_eq!(timers[0], first);
        assert_eq!(
            (timers[1].notify, timers[1].tid),
            (libc::SIGEV_THREAD_ID, 2635)
        );
        assert_eq!((timers[1].sigval, timers[1].clock), (0x7f00_dead_beef, -6));
        assert_eq!(timers[2].notify, libc::SIGEV_NONE);
        assert_eq!(parse(b"").expect("parses"), []);
        let error = parse(b"ID: 0\nsignal: 14/0\n").expect_err("cut");
        assert!(
            error
                .to_string()
                .starts_with("timers, line 3: expected notify"),
            "{error}"
        );
    }

    #[test]
    fn our_own_can_be_read() {
        read(Pid::this()).expect("timers");
    }
}
