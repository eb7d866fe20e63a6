//! Process numbers that the restored tree needs, and who has them.

use super::error::Error;
use crate::procfs::{attributes, stat, status, tasks};
use crate::sys::{self, Pid, signal};
use nix::errno::Errno;
use std::time::{Duration, Instant};

/// How long a number may stay taken whose holders have ended. The last of a process is done by itself where its parent ignores
/// its end (`exit_notify`, `kernel/exit.c`): it is seen no more, and has its number until it gets its turn once more. What a dump
/// has killed below a parent is init's to wait for, which may take its time.
pub(super) const RELEASE: Duration = Duration::from_secs(2);
/// Between two looks at such a number.
pub(super) const PAUSE: Duration = Duration::from_millis(5);

/// Waits a moment for a process to be gone that has a number and has ended.
pub(super) fn await_release(pid: i32, began: Instant) {
    while is_taken(pid) && is_given_up(pid) && began.elapsed() < RELEASE {
        std::thread::sleep(PAUSE);
    }
}

/// Returns why there is no process with this pid.
pub(super) fn refused(pid: i32, source: sys::Error) -> Error {
    match source.errno {
        Errno::EEXIST => Error::PidTaken {
            pid,
            name: holder(pid),
        },
        Errno::EPERM => Error::PidRefused { pid, source },
        _ => Error::Call {
            doing: "make the root of the tree",
            source,
        },
    }
}

/// Returns who has a pid: a process or a thread by name, or a group or session whose leader has gone by one of its members.
pub(super) fn holder(pid: i32) -> String {
    let Ok(name) = attributes::read_comm(Pid(pid)) else {
        return member(pid);
    };
    let name = String::from_utf8_lossy(&name).into_owned();
    let group = status::read(Pid(pid)).map_or(pid, |status| status.tgid);
    match stat::read(Pid(pid)) {
        _ if group != pid => format!("{name}, a thread of process {group}"),
        Ok(stat) if stat.state == b'Z' => format!(
            "{name}, which has ended and is waited for by its parent {}",
            stat.ppid
        ),
        _ => name,
    }
}

/// Returns whether a process has a pid, be it a dead one.
fn is_taken(pid: i32) -> bool {
    signal::kill(Pid(pid), 0).is_ok()
}

/// Returns whether all that are seen to have a pid, as their own or as that of their group or session, have ended, and are
/// init's to wait for.
pub(super) fn is_given_up(pid: i32) -> bool {
    const INIT: i32 = 1;
    let is_over = |stat: &stat::Stat| stat.state == b'Z' && stat.ppid == INIT;
    match attributes::read_comm(Pid(pid)) {
        Ok(_) => stat::read(Pid(pid)).is_ok_and(|stat| is_over(&stat)),
        Err(_) => members(pid).all(|stat| is_over(&stat)),
    }
}

/// Returns the processes of a group or session.
fn members(number: i32) -> impl Iterator<Item = stat::Stat> {
    let all = tasks::processes().unwrap_or_default().into_iter();
    let all = all.filter_map(|pid| stat::read(pid).ok());
    all.filter(move |stat| stat.pgrp == number || stat.session == number)
}

/// Returns the words for a number that no process has, but whose group or session is left.
fn member(number: i32) -> String {
    let Some(found) = members(number).next() else {
        return "a process group or session of that number".into();
    };
    let kind = match found.session == number {
        true => "session",
        false => "process group",
    };
    let name = String::from_utf8_lossy(&found.comm);
    format!("the {kind} of process {} ({name})", found.pid)
}
