//! Parents that wait for a child of `vfork`: the kernel has them sleep until the child executes a program or ends, and nothing but
//! SIGKILL wakes them (`wait_for_vfork_done`, `kernel/fork.c`), so that they cannot be stopped by a tracer either.

use super::Error;
use crate::procfs::attributes::{self, Syscall};
use crate::procfs::{self};
use crate::sys::{Pid, Tid};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// How long a child may take to its program: most do it at once, as `posix_spawn` has them.
const GRACE: Duration = Duration::from_millis(500);

/// Refuses a process of which a thread waits so, after a moment. It is not touched.
///
/// # Errors
/// With that thread and its child.
pub(super) fn refuse(pid: Pid, tid: Tid) -> Result<(), Error> {
    let begin = Instant::now();
    while waits(pid, tid) {
        if begin.elapsed() > GRACE {
            return Err(error(pid, tid));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Returns the error for a thread that waits so.
pub(super) fn error(pid: Pid, tid: Tid) -> Error {
    let children = procfs::tasks::read_children(pid, tid).unwrap_or_default();
    Error::Vfork {
        tid: tid.0,
        child: children.last().map_or(0, |child| child.0),
    }
}

/// Returns whether a thread waits so.
pub(super) fn waits(pid: Pid, tid: Tid) -> bool {
    match attributes::read_syscall((pid, tid)) {
        Ok(Syscall::Blocked {
            call: Some((nr, args)),
            ..
        }) => {
            is_call(pid, nr, args[0])
                && procfs::stat::read((pid, tid)).is_ok_and(|stat| stat.state == b'D')
        }
        _ => false,
    }
}

/// Returns whether a system call makes a child and waits for it.
pub(super) fn is_call(pid: Pid, nr: i32, first: u64) -> bool {
    let flags = match i64::from(nr) {
        libc::SYS_vfork => return true,
        libc::SYS_clone => first,
        // Its arguments begin with the flags.
        libc::SYS_clone3 => flags_at(pid, first).unwrap_or(0),
        _ => 0,
    };
    flags & libc::CLONE_VFORK as u64 != 0
}

fn flags_at(pid: Pid, at: u64) -> Option<u64> {
    let mut flags = [0; 8];
    let mem = File::open(format!("/proc/{}/mem", pid.0)).ok()?;
    mem.read_exact_at(&mut flags, at).ok()?;
    Some(u64::from_le_bytes(flags))
}
