//! From the fact to operations. Pure.
//!
//! A terminal belongs to whoever holds its other side, so it cannot be made again: a job of a shell gets the terminal of the
//! shell that restores it.

use crate::snapshot::Terminal;

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
