//! Terminals: what each is, which session it controls, and whether both of its sides are inside.
//!
//! Each side of a pseudo-terminal is a terminal of its own in the images, told apart by the node that was opened. A slave
//! whose master is not inside belongs to others: it is kept for a job of a shell only.

use super::{FileTable, Refused, regular_of};
use crate::dump::Error;
use crate::error::Refusal;
use crate::procfs;
use crate::snapshot::terminal::{
    KIND_CONSOLE, KIND_CURRENT, KIND_EXTERNAL, KIND_PTY, KIND_SERIAL, KIND_VIRTUAL, PTMX,
    slave_index,
};
use crate::snapshot::*;
use crate::sys::{Pid, RemoteFd, file, poll, tty};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Ids of terminals that are no pseudo-terminals begin here; those of pseudo-terminals follow from their indices.
const OTHERS_FROM: u32 = 1 << 28;

/// A terminal and a descriptor of it.
#[derive(Debug)]
pub struct FoundTerminal {
    /// Any descriptor.
    pub own: OwnedFd,
    /// The first descriptor that refers to it, and its path.
    named_by: (Pid, RemoteFd, String),
}

impl FoundTerminal {
    /// Returns the instance of devpts that the slave of a master is in: the one beside what was opened.
    fn instance(&self) -> Option<u64> {
        let (pid, _, path) = &self.named_by;
        let folder = Path::new(path).parent()?;
        let pts = match folder.ends_with("pts") {
            true => folder.to_path_buf(),
            false => folder.join("pts"),
        };
        let meta = std::fs::metadata(format!("/proc/{pid}/root{}", pts.display()));
        meta.ok().map(|meta| meta.dev())
    }

    fn refusal(&self, reason: String, remedy: &str) -> Refusal {
        let (pid, fd, path) = &self.named_by;
        Refusal {
            task: pid.0,
            object: format!("descriptor {fd} ({path})"),
            reason,
            remedy: remedy.into(),
        }
    }
}

impl FileTable {
    /// Returns the description of a terminal; one that is seen for the first time is asked what it is.
    pub(super) fn terminal(
        &mut self,
        (pid, fd): (Pid, RemoteFd),
        own: OwnedFd,
        link: &[u8],
        stat: &file::FileStat,
    ) -> Result<FileKind, Refused> {
        let path = link.strip_suffix(b" (deleted)").unwrap_or(link);
        let is_external = self.is_external_terminal(stat);
        let mut info = identity(&own, stat);
        if is_external {
            info.kind = KIND_EXTERNAL;
            info.index = None;
            info.rdev = stat.packed_rdev() as u32;
        }
        let is_known = self.terminals.iter().any(|known| known.id == info.id);
        if is_known && info.is_master() {
            let reason = "another master has this index, in another devpts, which is not kept yet";
            return Err((reason.into(), String::new()));
        }
        let node = match is_external {
            true => RegularFile::default(),
            false => regular_of(path, stat, 0),
        };
        let info_id = info.id;
        if !is_known {
            describe(&mut info, &own, stat);
            if is_external {
                info.dev = stat.packed_dev() as u32;
            }
            if let Some(line) = discipline(&info) {
                let reason = format!("its line discipline is {line}, which is not kept");
                return Err((reason, String::new()));
            }
            self.terminals.push(info);
            self.found_terminals.push(FoundTerminal {
                own,
                named_by: (pid, fd, String::from_utf8_lossy(path).into_owned()),
            });
        }
        Ok(FileKind::Terminal(Terminal { info_id, node }))
    }

    /// Finds the sessions of terminals, and refuses those that others have too.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn settle_terminals(
        &mut self,
        tasks: &[&Task],
        refusals: &mut Vec<Refusal>,
    ) -> Result<(), Error> {
        for info in &mut self.terminals {
            let device = info.terminal();
            let mut users = tasks.iter().filter(|task| task.terminal == Some(device));
            if let Some(task) = users.next()
                && !info.is_hung_up()
            {
                info.sid = task.sid;
                info.pgrp = procfs::stat::read(Pid(task.pid))?.tpgid.max(0);
            }
        }
        self.refuse_outer(tasks, refusals);
        let masters: Vec<u32> = self.masters().collect();
        if !masters.is_empty() {
            self.refuse_outsiders(tasks, refusals)?;
        }
        Ok(())
    }

    /// Returns the indices of the masters that are inside.
    pub(super) fn masters(&self) -> impl Iterator<Item = u32> {
        let masters = self.terminals.iter().filter(|info| info.is_master());
        masters.filter_map(|info| info.index)
    }

    fn refuse_outer(&self, tasks: &[&Task], refusals: &mut Vec<Refusal>) {
        if self.choices.shell_job {
            return;
        }
        let masters: BTreeSet<u32> = self.masters().collect();
        let is_inside = |device: u32| slave_index(device).is_some_and(|i| masters.contains(&i));
        // One of the machine's is opened again by its name, unless it is that of a session outside.
        let is_free = |info: &TerminalInfo| {
            let mut tasks = tasks.iter();
            info.is_of_machine()
                && (info.sid == 0 || tasks.any(|task| task.pid == info.sid && task.sid == info.sid))
        };
        let is_outer = |info: &TerminalInfo| {
            info.kind != KIND_EXTERNAL
                && !is_free(info)
                && !info.is_master()
                && !info.is_hung_up()
                && !is_inside(info.terminal())
        };
        for (info, found) in self.terminals.iter().zip(&self.found_terminals) {
            if is_outer(info) {
                let reason = "it is a terminal that others use too".into();
                let remedy = "use --shell-job to keep it for a job of a shell";
                refusals.push(found.refusal(reason, remedy));
            }
        }
        for task in tasks.iter().filter(|task| task.sid == task.pid) {
            let device = task.terminal.unwrap_or(0);
            let is_named = self.terminals.iter().any(|info| info.terminal() == device);
            if device != 0 && !is_inside(device) && !is_named {
                refusals.push(Refusal {
                    task: task.pid,
                    object: "controlling terminal".into(),
                    reason: "it is a terminal that others use too".into(),
                    remedy: "use --shell-job to keep it for a job of a shell".into(),
                });
            }
        }
    }

    /// Refuses masters whose slaves are in use outside: they would be hung up. Says which slaves nobody has opened yet.
    fn refuse_outsiders(
        &mut self,
        tasks: &[&Task],
        refusals: &mut Vec<Refusal>,
    ) -> Result<(), Error> {
        let inside: BTreeSet<i32> = tasks.iter().map(|task| task.pid).collect();
        let others: Vec<i32> = procfs::tasks::processes()?
            .into_iter()
            .map(|pid| pid.0)
            .filter(|pid| !inside.contains(pid))
            .collect();
        let slaves: BTreeSet<u32> = self
            .terminals
            .iter()
            .filter(|info| !info.is_master() && !info.is_hung_up())
            .map(TerminalInfo::terminal)
            .collect();
        for (info, found) in self.terminals.iter_mut().zip(&self.found_terminals) {
            if !info.is_master() {
                continue;
            }
            let device = info.terminal();
            let hung_up = poll::poll_now(found.own.as_fd(), 0).map_err(Error::Own)?;
            let is_closed = hung_up & libc::POLLHUP != 0;
            let has_slave = slaves.contains(&device);
            // Each instance of devpts has the same numbers.
            let session = tty::ask(&found.own, tty::Ask::Session).ok();
            let instance = found.instance();
            let holder = others.iter().find(|&&pid| {
                session.is_some_and(|session| is_controlled(pid, session, device))
                    || (!has_slave && !is_closed && has_open(pid, device, instance))
            });
            if let Some(pid) = holder {
                let reason =
                    format!("process {pid}, which is outside of what is dumped, uses its slave");
                refusals.push(found.refusal(reason, ""));
            }
            info.is_unopened = !has_slave && !is_closed;
        }
        Ok(())
    }
}

/// Returns whether the terminal of a session is the controlling one of a process that lives: of the dead the kernel tells it too.
fn is_controlled(pid: i32, session: i32, device: u32) -> bool {
    procfs::stat::read(Pid(pid)).is_ok_and(|stat| {
        stat.session == session
            && stat.tty_nr as u32 == device
            && !matches!(stat.state, b'Z' | b'X')
    })
}

/// Returns whether a process has a slave open, of one instance of devpts if it is known.
fn has_open(pid: i32, device: u32, instance: Option<u64>) -> bool {
    let Some(index) = slave_index(device) else {
        return false;
    };
    let path = format!("/pts/{index}");
    let fds = procfs::fd::read(Pid(pid)).unwrap_or_default();
    fds.into_iter().any(|fd| {
        let link = procfs::fd::read_target(Pid(pid), fd);
        link.is_ok_and(|link| link.ends_with(path.as_bytes()))
            && match (instance, std::fs::metadata(format!("/proc/{pid}/fd/{fd}"))) {
                (Some(instance), Ok(meta)) => meta.dev() == instance,
                _ => true,
            }
    })
}

/// Returns what tells one terminal from the others. Types of the images: a pseudo-terminal, /dev/console, a virtual
/// console, /dev/tty, a serial line.
fn identity(own: &OwnedFd, stat: &file::FileStat) -> TerminalInfo {
    let rdev = stat.packed_rdev() as u32;
    let (major, minor) = stat.rdev;
    let device = tty::ask(own, tty::Ask::Device)
        .ok()
        .map(|device| device as u32);
    let (kind, index, id) = match (major, minor) {
        (5, 2) => {
            let index = tty::ask(own, tty::Ask::Index).unwrap_or(0) as u32;
            (KIND_PTY, Some(index), 2 * index + 1)
        }
        // Hung up: one for each description, as nothing leads from one to the other.
        (5, 0) | (136..=143, _) if device.is_none() => {
            let index = slave_index(rdev).unwrap_or(0);
            (KIND_PTY, Some(index), 3 * OTHERS_FROM + index)
        }
        (136..=143, _) => {
            let index = slave_index(rdev).unwrap_or(0);
            (KIND_PTY, Some(index), 2 * index)
        }
        (5, 0) => (KIND_CURRENT, None, 2 * OTHERS_FROM + device.unwrap_or(0)),
        (5, 1) => (KIND_CONSOLE, None, OTHERS_FROM + rdev),
        (4, 0..=63) => (KIND_VIRTUAL, None, OTHERS_FROM + rdev),
        _ => (KIND_SERIAL, None, OTHERS_FROM + rdev),
    };
    let is_current = kind == KIND_CURRENT;
    TerminalInfo {
        id,
        kind,
        index,
        rdev: match (rdev, kind) {
            (PTMX, _) => PTMX,
            (_, KIND_PTY) => terminal::slave_device(index.unwrap_or(0)),
            _ => rdev,
        },
        device: device.filter(|_| is_current).unwrap_or(0),
        ..TerminalInfo::default()
    }
}

/// Fills in what a terminal says of itself.
fn describe(info: &mut TerminalInfo, own: &OwnedFd, stat: &file::FileStat) {
    let is_on = |question| tty::ask(own, question).is_ok_and(|answer| answer != 0);
    info.exclusive = is_on(tty::Ask::Exclusive);
    info.termios = tty::settings(own).ok().map(Termios::from);
    let locked = tty::locked_settings(own).ok();
    info.termios_locked = locked
        .filter(|locked| *locked != tty::Settings::default())
        .map(Termios::from);
    info.winsize = tty::window(own).ok();
    info.uid = stat.uid;
    info.gid = stat.gid;
    info.dev = stat.dev.0 << 20 | stat.dev.1;
    if info.is_master() {
        info.locked = is_on(tty::Ask::Locked);
        info.packet_mode = is_on(tty::Ask::Packet);
    }
}

/// Returns the line discipline of a terminal, if it is another than that of new ones (`N_TTY`).
fn discipline(info: &TerminalInfo) -> Option<u8> {
    let line = info.termios.as_ref()?.line;
    (line != 0).then_some(line)
}

impl From<tty::Settings> for Termios {
    fn from(settings: tty::Settings) -> Self {
        Self {
            flags: settings.flags,
            line: settings.line,
            speed: settings.speed,
            chars: settings.chars.to_vec(),
        }
    }
}

impl From<&Termios> for tty::Settings {
    fn from(termios: &Termios) -> Self {
        let mut settings = Self {
            flags: termios.flags,
            line: termios.line,
            speed: termios.speed,
            ..Self::default()
        };
        let chars = settings.chars.iter_mut().zip(&termios.chars);
        chars.for_each(|(to, from)| *to = *from);
        settings
    }
}
