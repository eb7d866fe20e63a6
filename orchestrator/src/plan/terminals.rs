//! Pseudo-terminals whose masters are in the tree, and the terminals of sessions.
//!
//! The kernel's rules: a master is one open file description, made together with its pair; a session gets its terminal from its
//! leader, and those born after that have it; it is taken from all of them when the last descriptor of the slave is closed.
//! So the root makes all pairs before it has children, with what waits in them, at temporary numbers that all inherit and
//! keep until everything is made. The leader of a session takes its terminal before it has children; who had none at the
//! dump gives it up at the end. All signals are blocked, so no change of a terminal stops anybody (`__tty_check_change`,
//! `drivers/tty/tty_jobctrl.c`), and no leader ends that has a terminal, so nobody is hung up.

use super::descriptors::{plan_pidfd, set_flags};
use super::program::{Builder, Object};
use super::task::Making;
use crate::external::Object as Outside;
use crate::objects::regular::plan::open_flags;
use crate::objects::tty;
use crate::objects::tty::refill::{self, Pair};
use crate::snapshot::terminal::{KIND_EXTERNAL, KIND_PTY, slave_device, slave_index};
use crate::snapshot::{
    FileKind, Flow, LineEnd, OpenFile, Snapshot, Task, Terminal, TerminalInfo, Termios, Waiting,
};
use arch::abi::program::special;

/// Path of masters.
const PTMX: &[u8] = b"/dev/ptmx";

/// A pair, by the temporary descriptors of its two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pty {
    /// The master.
    pub master: i32,
    /// The slave; none where nobody has opened it.
    pub slave: Option<i32>,
}

/// Returns the device number of the terminal of a task's session that the task has; 0 = none.
pub fn of_task(snapshot: &Snapshot, task: &Task) -> u32 {
    let of_session = || {
        let mut infos = snapshot.terminals.iter();
        let info = infos.find(|info| info.sid != 0 && info.sid == task.sid);
        info.map_or(0, TerminalInfo::terminal)
    };
    task.terminal.unwrap_or_else(of_session)
}

/// Returns the foreground group of the terminal of a session; `None` where no record tells it.
pub fn foreground(snapshot: &Snapshot, sid: i32) -> Option<i32> {
    let mut infos = snapshot.terminals.iter();
    let info = infos.find(|info| info.sid == sid && sid != 0 && info.pgrp != 0);
    info.map(|info| info.pgrp)
}

/// Returns the pairs of a snapshot: index, master, and slave where there is a record of it.
pub fn pairs(snapshot: &Snapshot) -> Vec<(u32, &TerminalInfo, Option<&TerminalInfo>)> {
    let infos = &snapshot.terminals;
    let masters = infos.iter().filter(|info| info.is_master());
    let mut pairs: Vec<_> = masters
        .filter_map(|master| {
            let index = master.index?;
            let slave = infos.iter().find(|info| {
                let is_slave = info.kind == KIND_PTY && !info.is_master() && !info.is_hung_up();
                is_slave && info.index == Some(index)
            });
            Some((index, master, slave))
        })
        .collect();
    // Ascending, as the kernel gives the lowest free index.
    pairs.sort_by_key(|(index, ..)| *index);
    pairs
}

/// Adds all pairs of the tree.
pub fn plan_pairs(m: &mut Making<'_>) {
    let snapshot = m.snapshot;
    let pairs = pairs(snapshot);
    let scratch = m.above + 2 * pairs.len() as i32;
    for (index, master, slave) in pairs {
        let object = format!("pseudo-terminal {index}");
        if m.ptys.contains_key(&index) {
            m.report.refuse(object, "two masters have this index", "");
            continue;
        }
        if m.host.ptys.contains(&index) {
            let reason = format!("its number is in use here: /dev/pts/{index} is there");
            let remedy = "restore where it is free, say in a container";
            m.report.refuse(object, reason, remedy);
            continue;
        }
        m.b.object(Object::Named(object));
        let path = node_of(snapshot, master.id);
        let pty = plan_pair(m, (index, path), (master, slave), scratch);
        m.ptys.insert(index, pty);
    }
}

/// Returns the path by which a terminal was opened.
fn node_of(snapshot: &Snapshot, id: u32) -> &[u8] {
    let mut nodes = snapshot.files.iter().filter_map(|file| match &file.kind {
        FileKind::Terminal(terminal) if terminal.info_id == id => Some(&terminal.node.path[..]),
        _ => None,
    });
    nodes.next().unwrap_or(PTMX)
}

fn plan_pair(
    m: &mut Making<'_>,
    (index, path): (u32, &[u8]),
    (master, slave): (&TerminalInfo, Option<&TerminalInfo>),
    scratch: i32,
) -> Pty {
    let at = m.b.fds.take_from(m.above);
    let path = m.b.put_cstr(path);
    let args = [path, u64::from(index), at as u64, scratch as u64];
    let op = m.b.special(special::PTY, &args);
    *op = op.check(arch::abi::program::Check::Equal, i64::from(at));
    let own = slave
        .or(Some(master))
        .and_then(|info| info.termios.as_ref());
    let size = slave.unwrap_or(master).winsize;
    let pty = match master.is_unopened && slave.is_none() {
        true => Pty {
            master: at,
            slave: None,
        },
        false => {
            tty::plan::plan_lock(&mut m.b, at, false);
            let flags = (libc::O_RDWR | libc::O_NOCTTY) as u32;
            let fd = tty::plan::plan_peer(&mut m.b, at, flags);
            let raised = super::descriptors::raise(m, fd);
            m.b.close(fd);
            Pty {
                master: at,
                slave: Some(raised),
            }
        }
    };
    if let (Some(slave), Some(fd)) = (slave, pty.slave) {
        plan_node(m, slave, fd);
    }
    if let Some(size) = size.filter(|size| *size != [0; 4]) {
        tty::plan::plan_window(&mut m.b, at, size);
    }
    if let Some(termios) = own {
        plan_content(&mut m.b, pty, termios, (master, slave));
        let locked = slave.unwrap_or(master).termios_locked.as_ref();
        if let Some(locked) = locked {
            tty::plan::plan_locked_settings(&mut m.b, at, locked);
        }
    }
    pty
}

/// Adds owner and mode of a slave's node, where they are not those of a new one.
fn plan_node(m: &mut Making<'_>, slave: &TerminalInfo, fd: i32) {
    let [_, _, _, uid] = m.host.creds.uids;
    if slave.uid != uid || slave.gid != 0 {
        let args = [fd as u64, slave.uid.into(), slave.gid.into()];
        m.b.call_returns(libc::SYS_fchown, &args, 0);
    }
    let mut nodes = m.snapshot.files.iter().filter_map(|file| match &file.kind {
        FileKind::Terminal(terminal) if terminal.info_id == slave.id => terminal.node.mode,
        _ => None,
    });
    if let Some(mode) = nodes.next() {
        let args = [fd as u64, u64::from(mode & 0o7777)];
        m.b.call_returns(libc::SYS_fchmod, &args, 0);
    }
}

/// Adds settings, and what waits.
fn plan_content(
    b: &mut Builder,
    pty: Pty,
    termios: &Termios,
    (master, slave): (&TerminalInfo, Option<&TerminalInfo>),
) {
    let input = slave.map_or(&[][..], |slave| &slave.waiting);
    let lines = by_lines(input, termios);
    let flow = [master.flow, slave.map_or(Flow::Running, |slave| slave.flow)];
    let pair = Pair {
        input: &lines,
        output: &master.waiting,
        flow,
        termios,
        packet_mode: master.packet_mode,
        packet_status: master.packet_status,
    };
    tty::plan::plan_steps(b, pty.master, pty.slave, &refill::steps(&pair));
}

/// Returns input as lines, where they are read by lines and the images (those of the peer) hold bytes alone.
fn by_lines(input: &[Waiting], termios: &Termios) -> Vec<Waiting> {
    let is_plain = input.iter().all(|waiting| waiting.end == LineEnd::Open);
    if !(refill::is_by_line(termios) && is_plain) {
        return input.to_vec();
    }
    let bytes: Vec<u8> = input.iter().flat_map(|line| &line.bytes).copied().collect();
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    let line = |line: &[u8]| Waiting {
        bytes: line.to_vec(),
        end: match line.last() {
            Some(b'\n') => LineEnd::Byte,
            _ => LineEnd::Open,
        },
    };
    lines.map(line).collect()
}

/// Adds that a leader takes the terminal of its session.
pub fn plan_controlling(m: &mut Making<'_>) {
    let task = m.own.task;
    let device = of_task(m.snapshot, task);
    if task.sid != task.pid || device == 0 {
        return;
    }
    m.b.object(Object::Task("controlling terminal"));
    if let Some(pty) = of_device(m, device) {
        match pty.slave {
            Some(slave) => tty::plan::plan_take(&mut m.b, slave, false),
            None => {
                let reason = "nobody has opened its slave, as the images say";
                m.report.refuse("controlling terminal", reason, "");
            }
        }
        return;
    }
    if let Some(info) = outside(m.snapshot, device) {
        return plan_outside(m, info);
    }
    if let Some(path) = outer(m) {
        let fd = m.b.open_path(&path, (libc::O_RDWR | libc::O_NOCTTY) as u32);
        // From whoever has it: the session of this very command, most of all.
        tty::plan::plan_take(&mut m.b, fd, true);
        m.b.close(fd);
    }
}

/// Returns the terminal of a session of the tree that is somebody else's, or the machine's.
fn outside(snapshot: &Snapshot, device: u32) -> Option<&TerminalInfo> {
    let mut infos = snapshot.terminals.iter();
    infos.find(|info| {
        info.terminal() == device && (info.kind == KIND_EXTERNAL || info.is_of_machine())
    })
}

/// Adds that a leader takes such a terminal, from whoever has it.
fn plan_outside(m: &mut Making<'_>, info: &TerminalInfo) {
    let fd = match info.given {
        Some((pid, given)) => {
            let pidfd = plan_pidfd(m, pid);
            let fd =
                m.b.open(libc::SYS_pidfd_getfd, &[pidfd as u64, given as u64]);
            m.b.close(pidfd);
            fd
        }
        None if info.kind == KIND_EXTERNAL => {
            return refuse_not_given(m, info.id, "controlling terminal");
        }
        None => {
            let path = node_of(m.snapshot, info.id);
            m.b.open_path(path, (libc::O_RDWR | libc::O_NOCTTY) as u32)
        }
    };
    tty::plan::plan_take(&mut m.b, fd, true);
    m.b.close(fd);
}

/// Refuses a terminal that nobody has given.
pub fn refuse_not_given(m: &mut Making<'_>, id: u32, what: &str) {
    let mut infos = m.snapshot.terminals.iter();
    let numbers = infos.find(|info| info.id == id);
    let [rdev, dev] = numbers.map_or([0; 2], |info| [info.rdev.into(), info.dev.into()]);
    let key = Outside::Terminal(rdev, dev);
    let remedy = format!("give it with --inherit-fd fd[N]:{key}");
    let reason = "it was somebody else's at the dump";
    m.report.refuse(what, reason, &remedy);
}

/// Returns whether a terminal is opened by its name: one of the machine's, unless it stands for the caller's.
fn is_by_name(m: &Making<'_>, info: &TerminalInfo) -> bool {
    let mut tasks = m.snapshot.tasks.iter();
    let is_callers = m.settings.shell_job && info.sid != 0;
    info.is_of_machine() && (!is_callers || tasks.any(|task| task.pid == info.sid))
}

/// Returns the pair of a device number.
fn of_device(m: &Making<'_>, device: u32) -> Option<Pty> {
    m.ptys.get(&slave_index(device)?).copied()
}

/// Returns the path of the caller's terminal, which stands for one outside of the tree; refuses where that may not be.
fn outer(m: &mut Making<'_>) -> Option<Vec<u8>> {
    let (reason, remedy) = match (&m.host.terminal, m.settings.shell_job) {
        (Some(path), true) => return Some(path.clone()),
        (_, false) => (
            "it is the terminal of another session",
            "restore with --shell-job, to use the caller's terminal",
        ),
        (None, true) => (
            "the caller has no terminal to take its place",
            "restore from a terminal",
        ),
    };
    m.report.refuse("controlling terminal", reason, remedy);
    None
}

/// Adds the foreground group of a leader's terminal, once all groups are there. One that nobody is in any more makes itself
/// known: see [`plan_helper_in_foreground`].
pub fn plan_foreground(m: &mut Making<'_>) {
    let task = m.own.task;
    let device = of_task(m.snapshot, task);
    if task.sid != task.pid || device == 0 {
        return;
    }
    let group = foreground(m.snapshot, task.sid).unwrap_or(task.pgid);
    let mut members = m.family.members.iter();
    let is_there = members.any(|member| member.pgid == group && !member.is_helper());
    let pty = of_device(m, device);
    if group == task.pgid && pty.is_some() || !is_there && pty.is_some() {
        return;
    }
    m.b.object(Object::Task("foreground of its terminal"));
    match pty.and_then(|pty| pty.slave) {
        Some(slave) => tty::plan::plan_group(&mut m.b, slave, group),
        None => {
            let fd = m.b.open_path(b"/dev/tty", libc::O_RDWR as u32);
            if is_there {
                tty::plan::plan_group(&mut m.b, fd, group);
            }
            // Its own settings: whoever has the terminal set it otherwise since.
            let infos = &m.snapshot.terminals;
            let info = infos.iter().find(|info| info.terminal() == device);
            if let Some(termios) = info.and_then(|info| info.termios.as_ref()) {
                tty::plan::plan_settings(&mut m.b, fd, termios);
            }
            m.b.close(fd);
        }
    }
}

/// Adds that a helper, alone in its group, puts it into the foreground.
pub fn plan_helper_in_foreground(m: &mut Making<'_>, member: usize) {
    let member = &m.family.members[member];
    let (group, sid) = (member.pid, member.sid);
    let is_alone = |other: &super::family::Member| other.pgid != group || other.pid == group;
    if foreground(m.snapshot, sid) != Some(group) || !m.family.members.iter().all(is_alone) {
        return;
    }
    let mut infos = m.snapshot.terminals.iter();
    let device = infos
        .find(|info| info.sid == sid)
        .map_or(0, TerminalInfo::terminal);
    if let Some(slave) = of_device(m, device).and_then(|pty| pty.slave) {
        m.b.object(Object::Task("foreground of a terminal"));
        tty::plan::plan_group(&mut m.b, slave, group);
    }
}

/// Adds a description of a terminal at the lowest free number; `None` for one that lies outside.
pub fn make(m: &mut Making<'_>, file: &OpenFile, terminal: &Terminal) -> Option<i32> {
    let infos = &m.snapshot.terminals;
    let info = infos.iter().find(|info| info.id == terminal.info_id)?;
    let flags = open_flags(file.flags) | libc::O_NOCTTY as u32;
    if info.is_hung_up() {
        return Some(plan_hung_up(&mut m.b, flags));
    }
    if is_by_name(m, info) {
        return Some(m.b.open_path(&terminal.node.path, flags));
    }
    let pty = of_device(m, info.terminal())?;
    if info.is_master() {
        let args = [pty.master as u64, libc::F_DUPFD as u64, 0];
        let fd = m.b.open(libc::SYS_fcntl, &args);
        set_flags(&mut m.b, fd, file.flags & super::descriptors::SETFL);
        return Some(fd);
    }
    if info.kind != KIND_PTY {
        let is_own = of_task(m.snapshot, m.own.task) == info.terminal();
        if is_own {
            return Some(m.b.open_path(&terminal.node.path, flags));
        }
        m.report
            .lose("that a descriptor of a terminal was opened as /dev/tty");
    }
    Some(tty::plan::plan_peer(&mut m.b, pty.master, flags))
}

/// Adds a slave whose master is closed again. Any index will do: nothing leads to the terminal any more.
fn plan_hung_up(b: &mut Builder, flags: u32) -> i32 {
    let master = b.open_path(PTMX, (libc::O_RDWR | libc::O_NOCTTY) as u32);
    tty::plan::plan_lock(b, master, false);
    let slave = tty::plan::plan_peer(b, master, flags);
    b.close(master);
    slave
}

/// Adds what keeps others out, and the end of the temporary descriptors.
pub fn plan_finish(m: &mut Making<'_>) {
    let device = of_task(m.snapshot, m.own.task);
    if m.is_root() {
        let snapshot = m.snapshot;
        for (index, master, slave) in pairs(snapshot) {
            let Some(&pty) = m.ptys.get(&index) else {
                continue;
            };
            m.b.object(Object::Named(format!("pseudo-terminal {index}")));
            if master.locked {
                tty::plan::plan_lock(&mut m.b, pty.master, true);
            } else if pty.slave.is_none() {
                tty::plan::plan_lock(&mut m.b, pty.master, false);
            }
            if master.exclusive {
                tty::plan::plan_exclusive(&mut m.b, pty.master);
            }
            if let (Some(slave), true) = (pty.slave, slave.is_some_and(|info| info.exclusive)) {
                tty::plan::plan_exclusive(&mut m.b, slave);
            }
        }
    }
    if device == 0 {
        plan_give_up(m);
    }
    m.b.object(Object::Task("temporary descriptors of terminals"));
    for pty in m.ptys.clone().into_values() {
        m.b.close(pty.master);
        if let Some(slave) = pty.slave {
            m.b.close(slave);
        }
    }
}

/// Adds that a task that had no terminal gives up the one that it was born with. The leader's is another matter: it has it.
fn plan_give_up(m: &mut Making<'_>) {
    let sid = m.own.task.sid;
    let leader = m.snapshot.tasks.iter().find(|task| task.pid == sid);
    let born_with = match leader {
        Some(leader) => of_task(m.snapshot, leader),
        // The session of the caller, whose terminal has no part in the tree.
        None => return,
    };
    let slave = of_device(m, born_with).and_then(|pty| pty.slave);
    if let (Some(slave), true) = (slave, sid != m.own.task.pid) {
        m.b.object(Object::Task("no controlling terminal"));
        tty::plan::plan_give_up(&mut m.b, slave);
    }
}

/// Returns the device number of every pair.
pub fn is_inside(snapshot: &Snapshot, device: u32) -> bool {
    let mut pairs = snapshot.terminals.iter().filter(|info| info.is_master());
    pairs.any(|info| info.index.map(slave_device) == Some(device))
}
