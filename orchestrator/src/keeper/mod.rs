//! The keeper: a process of ours that holds between two dumps what tracking lives by, and what is known of it.
//!
//! ```text
//! pre-dump ... ends            keeper                    pre-dump
//!      \--- spawns ----> holds userfaultfds, a note <----- connects, fetches all (pidfd_getfd), ends the keeper,
//!                        waits for the end of the root     tracks anew, spawns the next keeper
//! ```
//!
//! The note says which image set was the last, by the id of the dump, and of each process when it was started, so that a number
//! that is another's by now is noticed. Whoever begins to track anew ends the keeper first: if it is killed then, descriptors and
//! note are gone with it, and everything counts as written. There is no moment at which a note tells of an older set than the
//! one that the bits are about.
//!
//! A keeper is found by an abstract Unix socket that is named after the root of the tree, and known to be ours by the user that
//! the kernel says is behind it. It has a session of its own, no terminal, no folder, and no descriptors but those it keeps.

use crate::memory::dirty::Method;
use crate::procfs;
use crate::sys::poll::poll_readable;
use crate::sys::{self, Pid, RemoteFd, fd};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// First word of the note.
const MAGIC: &str = "orchestrator-keeper-1";
/// Name of the memory that the note is in.
const NOTE: &std::ffi::CStr = c"orchestrator-keeper";
/// The link of a descriptor of it.
const NOTE_LINK: &[u8] = b"/memfd:orchestrator-keeper (deleted)";
/// Most bytes of a note: a line for each process.
const MAX_NOTE: u64 = 64 << 20;
/// How long a keeper may take to end or to begin.
const LIMIT: Duration = Duration::from_secs(10);
/// `comm`.
const NAME: &std::ffi::CStr = c"orch-keeper";

/// A process that is tracked.
#[derive(Debug)]
pub struct Tracked {
    /// The process.
    pub pid: Pid,
    /// When it was started, in clock ticks since boot: with its number, which one it is.
    pub started: u64,
    /// How.
    pub method: Method,
    /// The descriptor that tracking lives by.
    pub held: Option<OwnedFd>,
}

/// What a keeper keeps.
#[derive(Debug)]
pub struct Kept {
    /// Which dump tracking began with.
    pub run_id: Vec<u8>,
    /// The processes.
    pub tasks: Vec<Tracked>,
    pidfd: OwnedFd,
}

/// What can go wrong with a keeper.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `/proc`.
    #[error(transparent)]
    Proc(#[from] procfs::Error),
    /// A system call.
    #[error(transparent)]
    Call(#[from] sys::Error),
    /// It cannot be started.
    #[error("the process that keeps track between dumps cannot be started")]
    Start(#[source] std::io::Error),
    /// It says nothing, or does not end.
    #[error("the process that keeps track between dumps {0}")]
    Silent(&'static str),
}

fn address(root: Pid, started: u64) -> Option<SocketAddr> {
    SocketAddr::from_abstract_name(format!("orchestrator/keeper/{}/{started}", root.0)).ok()
}

/// Returns when a process was started.
///
/// # Errors
/// It is gone.
pub fn started(pid: Pid) -> Result<u64, procfs::Error> {
    Ok(procfs::stat::read(pid)?.starttime)
}

/// Finds the keeper of the tree of `root`, and fetches what it has.
///
/// # Errors
/// It cannot be asked. That there is none is no error.
pub fn find(root: Pid) -> Result<Option<Kept>, Error> {
    let Some(stream) =
        address(root, started(root)?).and_then(|at| UnixStream::connect_addr(&at).ok())
    else {
        return Ok(None);
    };
    let peer = sys::socket::peer(&stream)?;
    if peer.uid != sys::process::effective_uid() {
        return Ok(None);
    }
    let pid = Pid(peer.pid);
    let pidfd = fd::pidfd_open(pid)?;
    let Some(note) = note_of(pid) else {
        return Ok(None);
    };
    let note = File::from(fd::pidfd_getfd(&pidfd, note)?);
    let mut words = vec![0; note.metadata().map_or(0, |meta| meta.len().min(MAX_NOTE)) as usize];
    if note.read_exact_at(&mut words, 0).is_err() {
        return Ok(None);
    }
    let fetch = |number: i32| fd::pidfd_getfd(&pidfd, RemoteFd(number)).ok();
    let parsed = parse(&String::from_utf8_lossy(&words), fetch);
    Ok(parsed.map(|(run_id, tasks)| Kept {
        run_id,
        tasks,
        pidfd,
    }))
}

fn note_of(pid: Pid) -> Option<RemoteFd> {
    let all = std::fs::read_dir(format!("/proc/{}/fd", pid.0)).ok()?;
    let numbers = all
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut numbers = numbers.map(RemoteFd);
    numbers.find(|&number| procfs::fd::read_target(pid, number).is_ok_and(|link| link == NOTE_LINK))
}

/// Reads a note: the id of the dump, then a line for each process: number, start, method, number of the descriptor or `-`.
fn parse(note: &str, fetch: impl Fn(i32) -> Option<OwnedFd>) -> Option<(Vec<u8>, Vec<Tracked>)> {
    let mut lines = note.lines();
    let run_id = lines.next()?.strip_prefix(MAGIC)?.trim();
    let tasks = lines.filter_map(|line| {
        let mut words = line.split(' ');
        let pid = Pid(words.next()?.parse().ok()?);
        let started = words.next()?.parse().ok()?;
        let method = Method::named(words.next()?)?;
        let held = match words.next()? {
            "-" => None,
            number => Some(fetch(number.parse().ok()?)?),
        };
        Some(Tracked {
            pid,
            started,
            method,
            held,
        })
    });
    Some((run_id.as_bytes().to_vec(), tasks.collect()))
}

fn write(run_id: &[u8], tasks: &[Tracked]) -> String {
    let mut note = format!("{MAGIC} {}\n", String::from_utf8_lossy(run_id));
    for task in tasks {
        let held = match &task.held {
            Some(held) => held.as_raw_fd().to_string(),
            None => "-".into(),
        };
        let method = task.method.name();
        note += &format!("{} {} {method} {held}\n", task.pid.0, task.started);
    }
    note
}

impl Kept {
    /// Ends the keeper. What was fetched of it is all that is left then.
    ///
    /// # Errors
    /// It does not end.
    pub fn end(&self) -> Result<(), Error> {
        match fd::pidfd_send_signal(&self.pidfd, libc::SIGKILL) {
            Err(error) if error.errno as i32 != libc::ESRCH => return Err(error.into()),
            _ => {}
        }
        let ready = poll_readable(&[self.pidfd.as_fd()], Some(LIMIT))?;
        match ready.iter().any(|ready| ready.any()) {
            true => Ok(()),
            false => Err(Error::Silent("does not end")),
        }
    }
}

/// Starts a keeper for the tree of `root`, which has these processes, tracked since the dump `run_id`. It lives until the root
/// has ended, or it is ended.
///
/// # Errors
/// It cannot be started.
pub fn keep(root: Pid, run_id: &[u8], tasks: &[Tracked]) -> Result<(), Error> {
    let mut note = File::from(sys::mem::memfd_create(NOTE, 0)?);
    note.write_all(write(run_id, tasks).as_bytes())
        .map_err(Error::Start)?;
    let held = tasks.iter().filter_map(|task| task.held.as_ref());
    let held: Vec<BorrowedFd<'_>> = held.map(AsFd::as_fd).chain([note.as_fd()]).collect();
    let numbers: Vec<String> = held.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    for fd in &held {
        fd::keep_on_exec(fd)?;
    }
    let mut child = Command::new("/proc/self/exe")
        .args(["keeper", &root.0.to_string()])
        .arg(started(root)?.to_string())
        .args(numbers)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::Start)?;
    let mut word = [0];
    let mut out = child.stdout.take().expect("it is piped");
    match out.read(&mut word) {
        Ok(1) => Ok(()),
        _ => Err(Error::Silent("could not begin")),
    }
}

/// What a keeper does: it is this program, started anew, with the descriptors that it keeps.
pub fn run(root: i32, start: u64, keep: &[i32]) -> ExitCode {
    match begin(Pid(root), start, keep) {
        Ok((pidfd, _name)) => {
            // Nothing is to be done about an error but to end, which drops the tracking.
            while !matches!(poll_readable(&[pidfd.as_fd()], None), Ok(ready) if ready[0].any()) {}
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn begin(root: Pid, start: u64, keep: &[i32]) -> Result<(OwnedFd, UnixListener), Error> {
    sys::process::leave_session();
    sys::process::set_name(NAME)?;
    close_others(keep)?;
    let pidfd = fd::pidfd_open(root)?;
    if started(root)? != start {
        return Err(Error::Silent("came too late"));
    }
    let at = address(root, start).ok_or(Error::Silent("has no name"))?;
    let name = UnixListener::bind_addr(&at).map_err(Error::Start)?;
    let mut out = std::io::stdout();
    out.write_all(b"r")
        .and_then(|()| out.flush())
        .map_err(Error::Start)?;
    // Whoever waits for the end of the one that started us must not wait for ours.
    fd::become_null(1)?;
    Ok((pidfd, name))
}

fn close_others(keep: &[i32]) -> sys::Result<()> {
    let mut kept: Vec<u32> = keep.iter().map(|&fd| fd as u32).collect();
    kept.sort_unstable();
    let mut first = 3;
    for &fd in &kept {
        if fd > first {
            fd::close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    fd::close_range(first, u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let task = |held| Tracked {
            pid: Pid(7),
            started: 42,
            method: Method::WpAsync,
            held,
        };
        let file = || Some(OwnedFd::from(tempfile::tempfile().expect("file")));
        let note = write(b"id", &[task(None), task(file())]);
        let (run_id, tasks) = parse(&note, |_| file()).expect("a note");
        assert_eq!(run_id, b"id");
        let told: Vec<_> = tasks
            .iter()
            .map(|task| (task.pid.0, task.started, task.held.is_some()))
            .collect();
        assert_eq!(told, [(7, 42, false), (7, 42, true)]);
        assert!(parse("something else", |_| None).is_none());
        // One whose descriptor cannot be had is not tracked.
        let (_, tasks) = parse(&note, |_| None).expect("a note");
        assert_eq!(tasks.len(), 1);
    }
}
