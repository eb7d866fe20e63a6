//! The guard: a process of ours that has a copy of every userfaultfd that the daemon has. It lives as long as the daemon, and where
//! that is gone with memory still to come, it ends or stops all whose memory it was.
//!
//! Copies travel in a socket, by which they are held from the moment they are sent. What a daemon is told of in an event, a child's
//! memory, it sends before it does anything else; a daemon that is killed between the two leaves a child that nobody has.

use super::error::{Doing, Error, Result};
use crate::procfs;
use crate::sys::socket::{receive_with, send_with};
use crate::sys::{self, Pid, fd, signal};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// `comm`.
const NAME: &std::ffi::CStr = c"orch-guard";
const HOLD: u32 = 1;
const RELEASE: u32 = 2;
/// Bytes of a message: what to do, number of the space, process.
const LEN: usize = 12;
/// How often it looks for more to end: who is being born when the others end is found then.
const LOOKS: usize = 500;
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What becomes of a tree whose memory does not come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnFailure {
    /// It is killed.
    #[default]
    Kill,
    /// It is stopped: what it waits for never comes, but it can be looked at.
    Stop,
}

impl OnFailure {
    fn word(self) -> &'static str {
        match self {
            OnFailure::Kill => "kill",
            OnFailure::Stop => "stop",
        }
    }
}

/// The daemon's hold on its guard.
#[derive(Debug)]
pub struct Guard {
    socket: Option<UnixStream>,
    child: Child,
    on_failure: OnFailure,
}

impl Guard {
    /// Starts a guard.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(on_failure: OnFailure) -> Result<Self> {
        let (ours, its) = UnixStream::pair().map_err(Error::Guard)?;
        let child = Command::new("/proc/self/exe")
            .args(["lazy-guard", on_failure.word()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(its)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(Error::Guard)?;
        Ok(Self {
            socket: Some(ours),
            child,
            on_failure,
        })
    }

    /// Has it hold a space too.
    ///
    /// # Errors
    /// It is gone.
    pub fn hold(&self, id: u32, pid: i32, uffd: impl AsFd) -> Result<()> {
        let socket = self.socket.as_ref().expect("it is there until this goes");
        send_with(socket, &message(HOLD, id, pid), uffd).doing("have lazy memory watched over")
    }

    /// Has it let a space go, whose memory is all there.
    pub fn release(&mut self, id: u32) {
        if let Some(socket) = &mut self.socket {
            // One that is gone holds nothing.
            let _ = socket.write_all(&message(RELEASE, id, 0));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.socket = None;
        if self.on_failure == OnFailure::Kill {
            let _ = self.child.wait();
        }
    }
}

fn message(kind: u32, id: u32, pid: i32) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    let words = [kind, id, pid as u32];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// What a guard does: it is this program, started anew, with the socket as its standard input.
pub fn run(on_failure: OnFailure) -> ExitCode {
    sys::process::leave_session();
    let begun = sys::process::set_name(NAME).and_then(|()| fd::close_range(3, u32::MAX));
    let socket = match (begun, fd::inherited(0)) {
        (Ok(()), Ok(socket)) => socket,
        _ => return ExitCode::FAILURE,
    };
    let mut held: BTreeMap<u32, (i32, OwnedFd)> = BTreeMap::new();
    let mut bytes = [0; LEN];
    while let Ok((LEN, mut fds)) = receive_with(&socket, &mut bytes) {
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        match (word(0), fds.pop()) {
            (HOLD, Some(uffd)) => drop(held.insert(word(4), (word(8) as i32, uffd))),
            _ => drop(held.remove(&word(4))),
        }
    }
    if held.is_empty() {
        return ExitCode::SUCCESS;
    }
    let known: BTreeSet<i32> = held.values().map(|(pid, _)| *pid).collect();
    match on_failure {
        OnFailure::Kill => kill(&known),
        OnFailure::Stop => stop(&known),
    }
    ExitCode::SUCCESS
}

fn kill(known: &BTreeSet<i32>) {
    let mut told = BTreeSet::new();
    for _ in 0..LOOKS {
        let left = lacking(known);
        if left.is_empty() {
            return;
        }
        for pid in left {
            // One that is gone is what is wanted.
            let _ = signal::kill(pid, libc::SIGKILL);
            if told.insert(pid) {
                say(pid, "killed");
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Stops them, and holds their memory as long as any of them is there.
fn stop(known: &BTreeSet<i32>) {
    let mut told = BTreeSet::new();
    loop {
        let left = lacking(known);
        if left.is_empty() {
            return;
        }
        for pid in left {
            if told.insert(pid) {
                let _ = signal::kill(pid, libc::SIGSTOP);
                say(pid, "stopped");
            }
        }
        std::thread::sleep(LOOK_EVERY * 100);
    }
}

fn say(pid: Pid, what: &str) {
    let line = format!(
        "Error (orchestrator): lazy-pages ended before all memory was in place: process {pid} was {what}\n"
    );
    // Nobody may listen any more.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Returns the processes whose memory is not all there: those that are known, all below them, and orphans of their sessions.
fn lacking(known: &BTreeSet<i32>) -> Vec<Pid> {
    let all = procfs::tasks::processes().unwrap_or_default();
    let stats: BTreeMap<i32, procfs::stat::Stat> = all
        .into_iter()
        .filter_map(|pid| Some((pid.0, procfs::stat::read(pid).ok()?)))
        .collect();
    let sessions: BTreeSet<i32> = known
        .iter()
        .filter_map(|pid| Some(stats.get(pid)?.session))
        .chain(known.iter().copied())
        .collect();
    let is_below = |pid: i32| {
        let mut at = pid;
        // No chain of parents is longer than there are processes.
        for _ in 0..stats.len() {
            if known.contains(&at) {
                return true;
            }
            match stats.get(&at) {
                Some(stat) => at = stat.ppid,
                None => return false,
            }
        }
        false
    };
    let mut lacking = Vec::new();
    for (&pid, stat) in &stats {
        if (sessions.contains(&stat.session) || is_below(pid)) && is_registered(pid) {
            lacking.push(Pid(pid));
        }
    }
    lacking
}

/// Returns whether a process has memory that is registered for missing pages.
fn is_registered(pid: i32) -> bool {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let mut flags = smaps
        .lines()
        .filter_map(|line| line.strip_prefix("VmFlags:"));
    flags.any(|flags| flags.split(' ').any(|flag| flag == "um"))
}
