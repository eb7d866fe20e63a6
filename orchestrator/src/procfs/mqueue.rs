//! What a POSIX message queue says when it is read as a file (`mqueue_read_file`, `ipc/mqueue.c`).

use super::text::only_line;
use super::{Error, Result, fd, tasks};
use crate::sys::{Pid, file};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// More than it says.
const ROOM: usize = 128;

/// Who is told of the next message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// `SIGEV_*`.
    pub notify: u32,
    /// The signal; 0 = none.
    pub signal: u32,
    /// The process; 0 = nobody is told.
    pub notify_pid: i32,
}

/// Reads a queue that is open for reading.
pub fn read(queue: impl AsFd) -> Result<Told> {
    let failed = |source| Error::Read {
        path: "message queue".into(),
        source,
    };
    let queue = File::from(queue.as_fd().try_clone_to_owned().map_err(failed)?);
    let mut bytes = [0; ROOM];
    let len = queue.read_at(&mut bytes, 0).map_err(failed)?;
    parse(&bytes[..len])
}

/// Parses `QSIZE:6          NOTIFY:0     SIGNO:10    NOTIFY_PID:32580 `.
pub fn parse(bytes: &[u8]) -> Result<Told> {
    let mut line = only_line("message queue", bytes);
    let mut told = Told::default();
    loop {
        let text = std::str::from_utf8(line.word()).unwrap_or_default();
        if text.is_empty() {
            return Ok(told);
        }
        let (name, value) = text.split_once(':').unwrap_or_default();
        let number: i64 = value.parse().map_err(|_| line.error("number"))?;
        match name {
            "NOTIFY" => told.notify = number as u32,
            "SIGNO" => told.signal = number as u32,
            "NOTIFY_PID" => told.notify_pid = number as i32,
            _ => {}
        }
    }
}

/// Returns a process that has a queue open which descriptors call so, but for some.
pub fn opener(
    link: &[u8],
    (dev, ino): ((u32, u32), u64),
    except: impl Fn(Pid) -> bool,
) -> Option<Pid> {
    let all = tasks::processes().unwrap_or_default();
    let name = link.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    all.into_iter().filter(|pid| !except(*pid)).find(|&pid| {
        let fds = fd::read(pid).unwrap_or_default();
        fds.into_iter().any(|fd| {
            // By the name first: to ask a file what it is may take long.
            let link = fd::read_target(pid, fd).unwrap_or_default();
            let is_named = link.windows(name.len()).any(|part| part == name);
            let path = CString::new(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
            is_named && file::statx_path(&path).is_ok_and(|at| (at.dev, at.ino) == (dev, ino))
        })
    })
}

/// Returns a time in nanoseconds.
pub fn nanoseconds((seconds, rest): (i64, u32)) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(i64::from(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_is_parsed() {
        let text = b"QSIZE:6          NOTIFY:0     SIGNO:10    NOTIFY_PID:32580 \n";
        let told = parse(text).expect("the kernel's text");
        assert_eq!((told.notify, told.signal, told.notify_pid), (0, 10, 32580));
        assert!(parse(b"QSIZE:x").is_err());
    }
}
