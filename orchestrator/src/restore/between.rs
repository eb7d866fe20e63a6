//! A child of ours that makes the root of a tree and ends, before anything goes on.
//!
//! Two kinds of roots need one. A root that is to be nobody's child of ours is an orphan once its maker has ended, and the
//! kernel has given it to the reaper by then (`forget_original_parent`, `kernel/exit.c`). And a root whose session has lost its
//! leader can only be born into it: the child takes the leader's number, founds the session and makes the root, as a brother
//! where that is to be our child. That it has ended is taken note of last of all: until then its number, its session and its
//! group are there (`release_task`), and processes of the tree can join the group.

use arch::abi::program::{ARGS, Check, Op, special};
use arch::abi::restore::Ctx;
use nix::errno::Errno;
use std::os::fd::OwnedFd;

use super::error::{Doing, Result};
use super::launch::{
    CHILD, CTX_AT, DATA_AT, HEAD_AT, PROGRAM_LEN, Pad, Parent, STACK_LEN, entry, padded,
};
use super::numbers::refused;
use crate::sys::clone::{self, CloneFlags, Request, Start};
use crate::sys::signal::SignalsBlocked;
use crate::sys::wait::{wait_ended, wait_tid};
use crate::sys::{self, Pid, fd};

/// Operations that it has at most.
const MOST: usize = 3;
/// Its stack, context, operations and results on the launch pad.
const STACK_TOP: usize = DATA_AT + PROGRAM_LEN + STACK_LEN;
const OWN_CTX_AT: usize = STACK_TOP;
const OWN_OPS_AT: usize = OWN_CTX_AT + size_of::<Ctx>();
const OWN_RESULTS_AT: usize = OWN_OPS_AT + MOST * size_of::<Op>();
/// Bytes of a launch pad.
pub(super) const PAD_LEN: usize = (OWN_RESULTS_AT + MOST * size_of::<i64>()).next_multiple_of(4096);

/// A child that has ended. Forgotten, it is gone with all its numbers.
#[derive(Debug)]
pub(super) struct Between {
    pid: Pid,
}

impl Drop for Between {
    fn drop(&mut self) {
        // It has called exit_group, and is our own.
        let _ = wait_tid(self.pid.leader());
    }
}

/// Makes the root by way of such a child, in a session of this number or in our own.
pub(super) fn start(
    mut pad: Pad,
    pid: Pid,
    (parent, session): (Parent, Option<Pid>),
) -> Result<(OwnedFd, Between)> {
    let made_at = put_program(&mut pad, pid, (parent, session));
    let number = session.map(|session| session.0);
    let request = Request {
        flags: CHILD,
        exit_signal: libc::SIGCHLD,
        set_tid: number.as_slice(),
        cgroup: None,
    };
    let start = entry(pad.memory.addr() + OWN_CTX_AT as u64);
    let quiet = SignalsBlocked::new().doing("block signals")?;
    let cloned = clone::clone3(&mut pad.memory, STACK_TOP, start, &request);
    drop(quiet);
    let doing = "make the parent of the tree";
    let between = match (cloned, number) {
        (Ok(cloned), _) => Between { pid: cloned.pid },
        (Err(error), Some(number)) => return Err(refused(number, error)),
        (Err(error), None) => return Err(error).doing(doing),
    };
    wait_ended(between.pid.leader()).doing(doing)?;
    for at in 0..made_at {
        result(&pad, at, "setsid").doing("found the session of the tree")?;
    }
    result(&pad, made_at, "clone3").map_err(|error| refused(pid.0, error))?;
    match pad.failure() {
        Some(error) => Err(error),
        None => {
            let pidfd = fd::pidfd_open(pid).doing("find the root of the tree")?;
            Ok((pidfd, between))
        }
    }
}

/// Returns what an operation of the child has told.
fn result(pad: &Pad, at: usize, call: &'static str) -> sys::Result<i64> {
    let value: i64 = pad.memory.read_at(OWN_RESULTS_AT + at * size_of::<i64>());
    match value {
        0.. => Ok(value),
        _ => Err(sys::Error::new(
            call,
            Errno::from_raw(value.unsigned_abs() as i32),
        )),
    }
}

/// Writes its program: the session, the root on the launch pad's stack, the end. Returns which operation makes the root.
fn put_program(pad: &mut Pad, pid: Pid, (parent, session): (Parent, Option<Pid>)) -> usize {
    let base = pad.memory.addr();
    let Start::Call { entry, arg } = entry(base + CTX_AT as u64) else {
        unreachable!("the root begins as a call");
    };
    let words = arch::native::start::start_words(entry, arg);
    let stack = STACK_LEN - size_of_val(&words).next_multiple_of(16);
    pad.memory.put_all(stack, &words);
    let number = pad.put(&pid.0.to_le_bytes());
    // A brother's signal is the one that its maker sends.
    let (flags, signal) = match parent {
        Parent::Us => (CHILD | CloneFlags::PARENT, 0),
        Parent::Ours | Parent::Reaper => (CHILD, libc::SIGCHLD as u64),
    };
    // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup.
    let size = stack as u64;
    let args = pad.put_words(&[flags.bits(), 0, 0, 0, signal, base, size, 0, number, 1, 0]);
    pad.memory.write_at(DATA_AT, &pad.data);
    let call = |nr: i64, args: &[u64]| {
        // What became of it is looked at by us: the program in the pad's head is the root's.
        Op::call(nr as u32, padded(args)).check(Check::Ignore, 0)
    };
    let mut ops = Vec::new();
    ops.extend(session.map(|_| call(libc::SYS_setsid, &[])));
    let made_at = ops.len();
    ops.push(call(libc::SYS_clone3, &[args, 88]));
    ops.push(Op::special(special::EXIT, [0; ARGS]));
    pad.memory.put_all(OWN_OPS_AT, &ops);
    let ctx = Ctx {
        ops: base + OWN_OPS_AT as u64,
        results: base + OWN_RESULTS_AT as u64,
        head: base + HEAD_AT as u64,
        count: ops.len() as u32,
        id: 1,
        ..Ctx::default()
    };
    pad.memory.put(OWN_CTX_AT, ctx);
    made_at
}
