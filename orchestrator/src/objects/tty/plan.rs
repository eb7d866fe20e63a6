//! From the fact to operations. Pure.
//!
//! A terminal whose other side is outside belongs to whoever holds that, so it cannot be made again: a job of a shell gets
//! the terminal of the shell that restores it.

use super::refill::{Side, Step};
use crate::plan::{Builder, Object};
use crate::snapshot::{Terminal, TerminalInfo, Termios};

/// Numbers of `include/uapi/asm-generic/ioctls.h`.
const TCSETS2: u64 = 0x402c_542b;
const TCXONC: u64 = 0x540a;
const TIOCSCTTY: u64 = 0x540e;
const TIOCSPGRP: u64 = 0x5410;
const TIOCSWINSZ: u64 = 0x5414;
const TIOCEXCL: u64 = 0x540c;
const TIOCNOTTY: u64 = 0x5422;
const TIOCPKT: u64 = 0x5420;
const TIOCGPTPEER: u64 = 0x5441;
const TIOCSPTLCK: u64 = 0x4004_5431;
const TIOCSLCKTRMIOS: u64 = 0x5457;
/// Control characters of the kernel's `struct termios` (NCCS).
const CONTROL_CHARACTERS: usize = 19;

/// Returns the path to open for a terminal, or why there is none and what helps.
pub fn path<'a>(
    terminal: &'a Terminal,
    callers: Option<&'a [u8]>,
    is_shell_job: bool,
) -> Result<&'a [u8], (&'static str, &'static str)> {
    if !is_shell_job {
        let reason = "it is the terminal of another session";
        return Err((
            reason,
            "restore with --shell-job, to use the caller's terminal",
        ));
    }
    // /dev/tty means the caller's in any case.
    if terminal.node.path == b"/dev/tty" {
        return Ok(&terminal.node.path);
    }
    let reason = "the caller has no terminal to take its place";
    callers.ok_or((reason, "restore from a terminal"))
}

/// Adds what a job in the foreground has: the terminal's attention, and its settings. All signals are blocked, so asking
/// for it stops nobody (`__tty_check_change`, `drivers/tty/tty_jobctrl.c`).
pub fn plan_foreground(b: &mut Builder, fd: i32, info: &TerminalInfo, pgid: i32) {
    b.object(Object::Descriptor(fd, "terminal in the foreground".into()));
    plan_group(b, fd, pgid);
    if let Some(termios) = &info.termios {
        plan_settings(b, fd, termios);
    }
}

fn ioctl(b: &mut Builder, fd: i32, request: u64, argument: u64) {
    b.call_returns(libc::SYS_ioctl, &[fd as u64, request, argument], 0);
}

fn ioctl_of(b: &mut Builder, fd: i32, request: u64, bytes: &[u8]) {
    let at = b.put(bytes);
    ioctl(b, fd, request, at);
}

/// Adds the foreground group of the caller's terminal.
pub fn plan_group(b: &mut Builder, fd: i32, pgid: i32) {
    ioctl_of(b, fd, TIOCSPGRP, &pgid.to_le_bytes());
}

/// Adds that the caller, a leader, takes a terminal for its session; from another one if it must.
pub fn plan_take(b: &mut Builder, fd: i32, by_force: bool) {
    ioctl(b, fd, TIOCSCTTY, by_force.into());
}

/// Adds that the caller has this controlling terminal no more.
pub fn plan_give_up(b: &mut Builder, fd: i32) {
    ioctl(b, fd, TIOCNOTTY, 0);
}

/// Adds settings. Of a master: its slave's.
pub fn plan_settings(b: &mut Builder, fd: i32, termios: &Termios) {
    ioctl_of(b, fd, TCSETS2, &bytes(termios));
}

/// Adds which bits of the settings may not be changed.
pub fn plan_locked_settings(b: &mut Builder, fd: i32, termios: &Termios) {
    ioctl_of(b, fd, TIOCSLCKTRMIOS, &bytes(termios));
}

/// Adds the size of a window: rows, columns, and pixels of both.
pub fn plan_window(b: &mut Builder, fd: i32, size: [u16; 4]) {
    let bytes: Vec<u8> = size.iter().flat_map(|side| side.to_le_bytes()).collect();
    ioctl_of(b, fd, TIOCSWINSZ, &bytes);
}

/// Adds whether the slave of a master is locked.
pub fn plan_lock(b: &mut Builder, master: i32, on: bool) {
    ioctl_of(b, master, TIOCSPTLCK, &i32::from(on).to_le_bytes());
}

/// Adds that nobody else can open a terminal.
pub fn plan_exclusive(b: &mut Builder, fd: i32) {
    ioctl(b, fd, TIOCEXCL, 0);
}

/// Adds the opening of a master's slave, which is not locked, and returns its number (Linux 4.13).
pub fn plan_peer(b: &mut Builder, master: i32, flags: u32) -> i32 {
    let args = [master as u64, TIOCGPTPEER, u64::from(flags)];
    b.open(libc::SYS_ioctl, &args)
}

/// Adds the steps that make a pair what it was.
pub fn plan_steps(b: &mut Builder, master: i32, slave: Option<i32>, steps: &[Step]) {
    let of = |side: &Side| match side {
        Side::Master => master,
        // The slave of one that nobody has opened has nothing to be done.
        Side::Slave => slave.unwrap_or(master),
    };
    for step in steps {
        match step {
            Step::Settings(termios) => plan_settings(b, master, termios),
            Step::Write(side, bytes) => b.write_all(of(side), bytes),
            Step::Flow(side, action) => ioctl(b, of(side), TCXONC, *action),
            Step::Packet(on) => ioctl_of(b, master, TIOCPKT, &i32::from(*on).to_le_bytes()),
            Step::Await => plan_await(b, master),
        }
    }
}

/// Adds the wait for news of packet mode; should they not come, the restore fails.
fn plan_await(b: &mut Builder, master: i32) {
    const PATIENCE_S: u64 = 10;
    let polled = [
        master.to_le_bytes(),
        i32::from(libc::POLLPRI | libc::POLLIN).to_le_bytes(),
    ]
    .concat();
    let polled = b.put(&polled);
    let timeout = b.put_words(&[PATIENCE_S, 0]);
    b.call_returns(libc::SYS_ppoll, &[polled, 1, timeout, 0, 8], 1);
}

/// Returns the kernel's `struct termios2`, which begins with a `struct termios`.
fn bytes(termios: &Termios) -> Vec<u8> {
    let flags = termios.flags.iter().flat_map(|flags| flags.to_le_bytes());
    let chars = termios.chars.iter().copied().chain([0; CONTROL_CHARACTERS]);
    let speed = termios.speed.iter().flat_map(|speed| speed.to_le_bytes());
    flags
        .chain([termios.line])
        .chain(chars.take(CONTROL_CHARACTERS))
        .chain(speed)
        .collect()
}
