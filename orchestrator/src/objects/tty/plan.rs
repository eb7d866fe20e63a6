//! From the fact to operations. Pure.
//!
//! A terminal belongs to whoever holds its other side, so it cannot be made again: a job of a shell gets the terminal of the
//! shell that restores it.

use crate::plan::{Builder, Object};
use crate::snapshot::file::Termios;
use crate::snapshot::{Terminal, TerminalInfo};

/// `TCSETS` and `TIOCSPGRP` (`include/uapi/asm-generic/ioctls.h`).
const TCSETS: u64 = 0x5402;
const TIOCSPGRP: u64 = 0x5410;
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
    let group = b.put(&pgid.to_le_bytes());
    b.call_returns(libc::SYS_ioctl, &[fd as u64, TIOCSPGRP, group], 0);
    if let Some(termios) = &info.termios {
        let settings = b.put(&bytes(termios));
        b.call_returns(libc::SYS_ioctl, &[fd as u64, TCSETS, settings], 0);
    }
}

/// Returns the kernel's `struct termios`.
fn bytes(termios: &Termios) -> Vec<u8> {
    let mut bytes: Vec<u8> = termios
        .flags
        .iter()
        .flat_map(|flags| flags.to_le_bytes())
        .collect();
    bytes.push(termios.line);
    bytes.extend(
        termios
            .chars
            .iter()
            .copied()
            .chain([0; CONTROL_CHARACTERS])
            .take(CONTROL_CHARACTERS),
    );
    bytes
}
