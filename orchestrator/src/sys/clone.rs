//! Making processes: raw `clone3`, with a number of our choice and a stack in shared memory.
//!
//! The C library's `fork` is not used: it runs handlers, and a child with `CLONE_VM` must not return through our frames.
//! The child begins where its stack says, as the gate's `ret` takes it from there.

use super::mem::SharedMapping;
use super::{Error, Pid, Result};
use arch::native::{gate, start};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

bitflags::bitflags! {
    /// `CLONE_*`, for `clone3`, `unshare` and `setns`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct CloneFlags: u64 {
        /// Shares the address space.
        const VM = 0x100;
        /// Shares root, working directory and umask.
        const FS = 0x200;
        /// Shares the descriptor table.
        const FILES = 0x400;
        /// Shares the signal handlers.
        const SIGHAND = 0x800;
        /// Returns a descriptor of the child.
        const PIDFD = 0x1000;
        /// The child is traced as its parent is.
        const PTRACE = 0x2000;
        /// The parent waits until the child executes a program or ends.
        const VFORK = 0x4000;
        /// The child's parent is ours.
        const PARENT = 0x8000;
        /// A new mount namespace.
        const NEWNS = 0x20000;
        /// No tracer may be forced upon the child.
        const UNTRACED = 0x80_0000;
        /// A new cgroup namespace.
        const NEWCGROUP = 0x200_0000;
        /// A new UTS namespace.
        const NEWUTS = 0x400_0000;
        /// A new IPC namespace.
        const NEWIPC = 0x800_0000;
        /// A new user namespace.
        const NEWUSER = 0x1000_0000;
        /// A new pid namespace.
        const NEWPID = 0x2000_0000;
        /// A new network namespace.
        const NEWNET = 0x4000_0000;
        /// A new time namespace, for children.
        const NEWTIME = 0x80;
        /// Signals that are caught get their default action.
        const CLEAR_SIGHAND = 0x1_0000_0000;
        /// The child begins in the cgroup given.
        const INTO_CGROUP = 0x2_0000_0000;
    }
}

/// `struct clone_args` as of 5.7.
#[repr(C)]
#[derive(Debug, Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const _: () = assert!(size_of::<CloneArgs>() == 88);

/// What child is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// What it shares and what is new.
    pub flags: CloneFlags,
    /// Signal at its end; 0 = none.
    pub exit_signal: i32,
    /// Its number in each pid namespace, from its own outwards; empty = the kernel's choice.
    pub set_tid: &'a [i32],
    /// The cgroup's folder, for [`CloneFlags::INTO_CGROUP`].
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// How the child begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// As a call of the function at `entry` with one argument. It must not return.
    Call {
        /// Address of an `extern "C" fn(u64) -> !`, in the arena or, where it will be mapped, in ourselves.
        entry: u64,
        /// Its argument.
        arg: u64,
    },
    /// By `ret` to the address that already stands at the top of its stack (`arch::abi::restore::StackTop`).
    Prepared,
}

/// A child that was made.
#[derive(Debug)]
pub struct Cloned {
    /// Its number.
    pub pid: Pid,
    /// Its descriptor, with [`CloneFlags::PIDFD`].
    pub pidfd: Option<OwnedFd>,
}

/// Makes a child whose stack ends at offset `stack_top` of `arena` and grows down from there.
///
/// Signals are the caller's to block: with [`CloneFlags::VM`] a handler would run in two processes at once. With
/// [`CloneFlags::VM`] and without [`CloneFlags::VFORK`] both also run on one thread's storage: the child's code must use none.
///
/// # Panics
/// Where `stack_top` lies outside of `arena`, is no multiple of 16, or has no room for the words of `start`.
pub fn clone3(
    arena: &mut SharedMapping,
    stack_top: usize,
    start: Start,
    request: &Request<'_>,
) -> Result<Cloned> {
    assert!(
        stack_top <= arena.len() && stack_top.is_multiple_of(16),
        "no stack ends at {stack_top:#x}"
    );
    let stack_top = match start {
        Start::Prepared => stack_top,
        Start::Call { entry, arg } => {
            let words = start::start_words(entry, arg);
            let at = stack_top.checked_sub(size_of_val(&words).next_multiple_of(16));
            let at = at.expect("a stack has room for the words");
            arena.put_all(at, &words);
            at
        }
    };
    // The kernel refuses a pointer to no numbers.
    let set_tid = match request.set_tid {
        [] => 0,
        numbers => numbers.as_ptr().expose_provenance(),
    };
    let mut pidfd = -1i32;
    let args = CloneArgs {
        flags: request.flags.bits(),
        pidfd: std::ptr::from_mut(&mut pidfd).expose_provenance() as u64,
        exit_signal: request.exit_signal as u64,
        stack: arena.addr(),
        stack_size: stack_top as u64,
        set_tid: set_tid as u64,
        set_tid_size: request.set_tid.len() as u64,
        cgroup: request
            .cgroup
            .map_or(0, |cgroup| cgroup.as_fd().as_raw_fd() as u64),
        ..CloneArgs::default()
    };
    let pid = enter(&args)?;
    let with_pidfd = request.flags.contains(CloneFlags::PIDFD);
    Ok(Cloned {
        pid,
        // SAFETY: with CLONE_PIDFD the kernel stored a descriptor there that it made for us.
        pidfd: with_pidfd.then(|| unsafe { OwnedFd::from_raw_fd(pidfd) }),
    })
}

fn enter(args: &CloneArgs) -> Result<Pid> {
    let at = std::ptr::from_ref(args).expose_provenance() as u64;
    let size = size_of::<CloneArgs>() as u64;
    // SAFETY: 1. `args` is a `clone_args` of that size; its pointers are null or point to what lives in `clone3` meanwhile.
    // 2. Its stack is not ours, so that the child never returns through this frame but goes where its stack says.
    let result = unsafe { gate::syscall(libc::SYS_clone3 as u64, at, size, 0, 0, 0, 0) };
    i32::try_from(result)
        .ok()
        .filter(|&pid| pid > 0)
        .map(Pid)
        .ok_or_else(|| Error::new("clone3", Errno::from_raw(result.unsigned_abs() as i32)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mem::Place;
    use crate::sys::signal::SignalsBlocked;
    use crate::sys::wait::{WaitStatus, wait_tid};

    /// Leaves with the argument as status.
    extern "C" fn leave(status: u64) -> ! {
        // SAFETY: `_exit` ends the process and touches nothing.
        unsafe { libc::_exit(status as i32) }
    }

    /// Writes to the word whose address is the argument, then leaves.
    extern "C" fn mark(word: u64) -> ! {
        let word = std::ptr::with_exposed_provenance_mut::<u64>(word as usize);
        // SAFETY: the test passes the address of an aligned word of a mapping that outlives the child.
        unsafe { word.write_volatile(word.addr() as u64 & 15) };
        leave(9)
    }

    fn spawn(
        arena: &mut SharedMapping,
        entry: u64,
        arg: u64,
        request: &Request<'_>,
    ) -> Result<Cloned> {
        let _quiet = SignalsBlocked::new()?;
        clone3(arena, 64 << 10, Start::Call { entry, arg }, request)
    }

    #[test]
    fn a_child_starts_at_its_entry_with_the_number_wanted() {
        let mut arena = SharedMapping::anonymous(64 << 10, Place::Anywhere).expect("map");
        let free = (20_000..32_000).rev().map(Pid);
        let free = free
            .clone()
            .find(|&pid| crate::sys::signal::kill(pid, 0).is_err());
        let wanted = free.expect("a free number");
        let request = Request {
            flags: CloneFlags::PIDFD,
            exit_signal: libc::SIGCHLD,
            set_tid: &[wanted.0],
            ..Request::default()
        };
        match spawn(&mut arena, leave as *const () as u64, 42, &request) {
            Ok(child) => {
                assert_eq!(child.pid, wanted);
                assert!(child.pidfd.is_some());
                let status = wait_tid(child.pid.leader()).expect("wait");
                assert_eq!(status, WaitStatus::Exited(42));
            }
            Err(error) => {
                assert_eq!(error.errno, Errno::EPERM);
                assert!(!nix::unistd::geteuid().is_root(), "root may choose");
            }
        }
    }

    #[test]
    fn a_child_in_our_memory_runs_first() {
        let mut arena = SharedMapping::anonymous(64 << 10, Place::Anywhere).expect("map");
        let request = Request {
            flags: CloneFlags::VM | CloneFlags::VFORK,
            exit_signal: libc::SIGCHLD,
            ..Request::default()
        };
        let word = arena.addr() + 8;
        let child = spawn(&mut arena, mark as *const () as u64, word, &request).expect("clone");
        assert_eq!(arena.read_at::<u64>(8), 8, "it wrote before we went on");
        let status = wait_tid(child.pid.leader()).expect("wait");
        assert_eq!(status, WaitStatus::Exited(9));
    }

    #[test]
    fn a_number_that_is_taken_is_refused() {
        let mut arena = SharedMapping::anonymous(64 << 10, Place::Anywhere).expect("map");
        let request = Request {
            set_tid: &[Pid::this().0],
            ..Request::default()
        };
        let error = spawn(&mut arena, leave as *const () as u64, 0, &request).expect_err("taken");
        assert_eq!(error.call, "clone3");
        assert!(matches!(error.errno, Errno::EEXIST | Errno::EPERM));
    }
}
