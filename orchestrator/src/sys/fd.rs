//! Descriptors: of processes, of other processes, and what `fcntl` says of our own.

use super::{Error, Pid, RemoteFd, Result, Tid, check};
use nix::errno::Errno;
use std::cmp::Ordering;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Takes a descriptor that a system call returned.
pub(super) fn owned(call: &'static str, result: libc::c_long) -> Result<OwnedFd> {
    let fd = check(call, result)?;
    // SAFETY: the kernel just made this descriptor for us; nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Returns a descriptor of the process.
pub fn pidfd_open(pid: Pid) -> Result<OwnedFd> {
    // SAFETY: `pidfd_open` takes two numbers.
    owned("pidfd_open", unsafe {
        libc::syscall(libc::SYS_pidfd_open, pid.0, 0)
    })
}

/// Returns a duplicate of a descriptor of the process behind `pidfd`, closed on exec.
pub fn pidfd_getfd(pidfd: impl AsFd, fd: RemoteFd) -> Result<OwnedFd> {
    let pidfd = pidfd.as_fd().as_raw_fd();
    // SAFETY: `pidfd_getfd` takes three numbers.
    owned("pidfd_getfd", unsafe {
        libc::syscall(libc::SYS_pidfd_getfd, pidfd, fd.0, 0)
    })
}

/// Returns a duplicate of a descriptor that this program was started with, closed on exec.
pub fn inherited(fd: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes two numbers; where there is no such descriptor it fails.
    let copy = owned("fcntl(F_DUPFD_CLOEXEC)", unsafe {
        libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0).into()
    });
    copy.map_err(|error| error.errno.into())
}

/// Closes a descriptor that this program was started with, and that nothing of it owns.
pub fn close_inherited(fd: i32) {
    let number = fd as u32;
    if fd > libc::STDERR_FILENO {
        // One that is not open needs no closing.
        let _ = close_range(number, number);
    }
}

/// Sends a signal to the process behind `pidfd`, which cannot be another one of the same number.
pub fn pidfd_send_signal(pidfd: impl AsFd, sig: i32) -> Result<()> {
    let pidfd = pidfd.as_fd().as_raw_fd();
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed; the rest are numbers.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, sig, info, 0) };
    check("pidfd_send_signal", result).map(drop)
}

/// `PIDFD_GET_INFO` of `linux/pidfd.h`, for the first form of `struct pidfd_info`.
const PIDFD_GET_INFO: u64 = 0xc040_ff0b;

/// Returns how the process has ended that a pidfd refers to, as `wait(2)` tells it; `None` where it has not been waited for, or
/// the kernel does not keep it (before 6.15).
pub fn pidfd_exit_status(pidfd: impl AsFd) -> Option<u32> {
    /// `PIDFD_INFO_EXIT`.
    const EXIT: u64 = 1 << 3;
    // The mask comes first, the exit status last.
    let mut info = [EXIT, 0, 0, 0, 0, 0, 0, 0];
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes the 64 bytes of `struct pidfd_info` through the pointer.
    let result = unsafe { libc::ioctl(fd, PIDFD_GET_INFO, info.as_mut_ptr()) };
    let is_told = result == 0 && info[0] & EXIT != 0;
    is_told.then_some((info[7] >> 32) as u32)
}

/// Returns a timer of the monotonic clock, not set, closed on exec.
pub fn timerfd() -> Result<OwnedFd> {
    // SAFETY: `timerfd_create` takes two numbers.
    owned("timerfd_create", unsafe {
        libc::syscall(
            libc::SYS_timerfd_create,
            libc::CLOCK_MONOTONIC,
            libc::TFD_CLOEXEC,
        )
    })
}

/// Looks at a timer, so that it counts the expirations that it has missed.
pub fn timerfd_look(timer: impl AsFd) -> Result<()> {
    let mut spec = [0_i64; 4];
    let fd = timer.as_fd().as_raw_fd();
    // SAFETY: the kernel writes one `struct itimerspec`, which is four words.
    let result = unsafe { libc::syscall(libc::SYS_timerfd_gettime, fd, spec.as_mut_ptr()) };
    check("timerfd_gettime", result).map(drop)
}

/// What two threads may share (`linux/kcmp.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kcmp {
    /// Two descriptors: the same open file description.
    File(RemoteFd, RemoteFd),
    /// Address space.
    Vm,
    /// Descriptor table.
    Files,
    /// Root, working directory, umask.
    Fs,
    /// Signal handlers.
    SigHand,
    /// I/O context.
    Io,
    /// System V semaphore undo list.
    SysvSem,
}

/// Compares what two threads have; `Equal` means shared, and the order is the same whenever it is asked for while both live.
pub fn kcmp(a: Tid, b: Tid, what: Kcmp) -> Result<Ordering> {
    let (kind, index_a, index_b) = match what {
        Kcmp::File(a, b) => (0, a.0, b.0),
        Kcmp::Vm => (1, 0, 0),
        Kcmp::Files => (2, 0, 0),
        Kcmp::Fs => (3, 0, 0),
        Kcmp::SigHand => (4, 0, 0),
        Kcmp::Io => (5, 0, 0),
        Kcmp::SysvSem => (6, 0, 0),
    };
    let (index_a, index_b) = (i64::from(index_a), i64::from(index_b));
    // SAFETY: without KCMP_EPOLL_TFD no argument is a pointer.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, a.0, b.0, kind, index_a, index_b) };
    order(check("kcmp", result)?)
}

/// Compares descriptor `fd` of thread `a` with the file that target number `nth` (from 0) of those with descriptor `target`
/// refers to, in the epoll instance `epoll` of thread `b`: `ENOENT` where there is none.
pub fn kcmp_epoll_tfd(
    a: Tid,
    fd: RemoteFd,
    b: Tid,
    (epoll, target, nth): (RemoteFd, i32, u32),
) -> Result<Ordering> {
    /// `KCMP_EPOLL_TFD`.
    const EPOLL_TFD: i32 = 7;
    let slot = [epoll.0 as u32, target as u32, nth];
    let fd = i64::from(fd.0);
    // SAFETY: the last argument points to a `struct kcmp_epoll_slot`, three `u32`.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, a.0, b.0, EPOLL_TFD, fd, slot.as_ptr()) };
    order(check("kcmp(KCMP_EPOLL_TFD)", result)?)
}

fn order(result: usize) -> Result<Ordering> {
    match result {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        _ => Err(Error::new("kcmp", Errno::EPROTO)),
    }
}

/// Closes our descriptors from `first` to `last`, both included.
pub fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: `close_range` takes three numbers. That descriptors which others own are closed is the caller's wish.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    check("close_range", result).map(drop)
}

/// Duplicates a descriptor to the first free number that is not below `lowest`, closed on exec.
pub fn dup_at_least(fd: impl AsFd, lowest: i32) -> Result<OwnedFd> {
    let fd = fcntl(
        "fcntl(F_DUPFD_CLOEXEC)",
        fd,
        libc::F_DUPFD_CLOEXEC,
        lowest as usize,
    )?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Has a descriptor stay open in programs that are executed.
pub fn keep_on_exec(fd: impl AsFd) -> Result<()> {
    fcntl("fcntl(F_SETFD)", fd, libc::F_SETFD, 0).map(drop)
}

/// Makes our descriptor `number`, one of the first three, one of /dev/null.
pub fn become_null(number: i32) -> Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null");
    let null = null.map_err(|_| Error::new("open", Errno::ENXIO))?;
    // SAFETY: the standard library uses the first three by number, and does not mind what they are.
    let result = unsafe { libc::dup2(null.as_raw_fd(), number) };
    check("dup2", result.into()).map(drop)
}

/// Makes an `fcntl` whose argument is a number.
fn fcntl(call: &'static str, fd: impl AsFd, command: i32, arg: usize) -> Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: callers of this function use commands that take a number.
    check(call, unsafe { libc::fcntl(fd, command, arg) }.into())
}

/// Returns the status flags (`O_*`) of the open file description.
pub fn status_flags(fd: impl AsFd) -> Result<u32> {
    fcntl("fcntl(F_GETFL)", fd, libc::F_GETFL, 0).map(|flags| flags as u32)
}

/// Sets the status flags that can be changed.
pub fn set_status_flags(fd: impl AsFd, flags: u32) -> Result<()> {
    fcntl("fcntl(F_SETFL)", fd, libc::F_SETFL, flags as usize).map(drop)
}

/// Returns whether the descriptor is closed on exec.
pub fn close_on_exec(fd: impl AsFd) -> Result<bool> {
    fcntl("fcntl(F_GETFD)", fd, libc::F_GETFD, 0).map(|flags| flags & 1 != 0)
}

/// Sets whether the descriptor is closed on exec.
pub fn set_close_on_exec(fd: impl AsFd, on: bool) -> Result<()> {
    fcntl("fcntl(F_SETFD)", fd, libc::F_SETFD, on.into()).map(drop)
}

/// Who gets the signals of an open file description: `struct f_owner_ex`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileOwner {
    /// `F_OWNER_TID` (0), `F_OWNER_PID` (1) or `F_OWNER_PGRP` (2).
    pub kind: i32,
    /// The thread, process or group; 0 = nobody.
    pub pid: i32,
}

/// Returns who gets the signals.
pub fn file_owner(fd: impl AsFd) -> Result<FileOwner> {
    /// `F_GETOWN_EX` of `asm-generic/fcntl.h`.
    const F_GETOWN_EX: i32 = 16;
    let mut owner = FileOwner::default();
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the kernel writes one `struct f_owner_ex` through the pointer to `owner`, which is laid out as one.
    let result = unsafe { libc::fcntl(fd, F_GETOWN_EX, &raw mut owner) };
    check("fcntl(F_GETOWN_EX)", result.into())?;
    Ok(owner)
}

/// Returns the real and effective user of who set the owner (`F_GETOWNER_UIDS`); needs `CONFIG_CHECKPOINT_RESTORE`.
pub fn file_owner_uids(fd: impl AsFd) -> Result<[u32; 2]> {
    /// `F_GETOWNER_UIDS` of `asm-generic/fcntl.h`.
    const F_GETOWNER_UIDS: i32 = 17;
    let mut uids = [0u32; 2];
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the kernel writes two `uid_t` through the pointer to `uids`.
    let result = unsafe { libc::fcntl(fd, F_GETOWNER_UIDS, uids.as_mut_ptr()) };
    check("fcntl(F_GETOWNER_UIDS)", result.into())?;
    Ok(uids)
}

/// Returns the signal sent when I/O is possible; 0 = SIGIO.
pub fn io_signal(fd: impl AsFd) -> Result<i32> {
    /// `F_GETSIG` of `asm-generic/fcntl.h`.
    const F_GETSIG: i32 = 11;
    fcntl("fcntl(F_GETSIG)", fd, F_GETSIG, 0).map(|sig| sig as i32)
}

/// Returns the seals of a memfd.
pub fn seals(fd: impl AsFd) -> Result<u32> {
    fcntl("fcntl(F_GET_SEALS)", fd, libc::F_GET_SEALS, 0).map(|seals| seals as u32)
}

/// Returns the lease held through the description: `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
pub fn lease(fd: impl AsFd) -> Result<i32> {
    fcntl("fcntl(F_GETLEASE)", fd, libc::F_GETLEASE, 0).map(|lease| lease as i32)
}

/// Returns how many bytes could be read at once.
pub fn readable_bytes(fd: impl AsFd) -> Result<usize> {
    let mut bytes = 0i32;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: FIONREAD writes one `int` through the pointer to `bytes`.
    let result = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut bytes) };
    check("ioctl(FIONREAD)", result.into())?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Returns how long what is written to the file behind a descriptor will live (`F_GET_RW_HINT`); 0 = not said.
pub fn write_hint(fd: impl AsFd) -> Option<u64> {
    /// `F_GET_RW_HINT` of `linux/fcntl.h`.
    const GET_RW_HINT: i32 = 1024 + 11;
    let mut hint = 0u64;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: F_GET_RW_HINT writes one `u64` through the pointer to `hint`.
    let result = unsafe { libc::fcntl(fd, GET_RW_HINT, &raw mut hint) };
    (result == 0).then_some(hint)
}

/// `EPIOCGPARAMS` of `linux/eventpoll.h`.
const EPIOCGPARAMS: u64 = 0x8008_8a02;

/// Returns how an epoll polls network devices, as microseconds and packets at a time and whether that is preferred to
/// interrupts; `None` where it does not, or the kernel cannot (before 6.9).
pub fn busy_poll(epoll: impl AsFd) -> Option<(u32, u16, bool)> {
    let mut params = [0u8; 8];
    let fd = epoll.as_fd().as_raw_fd();
    // SAFETY: EPIOCGPARAMS writes the 8 bytes of `struct epoll_params` through the pointer.
    let result = unsafe { libc::ioctl(fd, EPIOCGPARAMS, params.as_mut_ptr()) };
    let [usecs @ .., low, high, preferred, _] = params;
    let is_set = result == 0 && params != [0; 8];
    let (usecs, budget) = (u32::from_le_bytes(usecs), u16::from_le_bytes([low, high]));
    is_set.then_some((usecs, budget, preferred != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pipe;

    #[test]
    fn our_own_descriptors_can_be_taken_and_compared() {
        let (read, write) = pipe::pipe(0).expect("pipe");
        let this = pidfd_open(Pid::this()).expect("pidfd");
        let remote = |fd: &OwnedFd| RemoteFd(fd.as_raw_fd());
        let copy = pidfd_getfd(&this, remote(&read)).expect("getfd");
        let tid = Pid::this().leader();
        let compare = |a, b| kcmp(tid, tid, Kcmp::File(a, b)).expect("kcmp");
        assert_eq!(compare(remote(&read), remote(&copy)), Ordering::Equal);
        let order = compare(remote(&read), remote(&write));
        assert_ne!(order, Ordering::Equal);
        assert_eq!(compare(remote(&write), remote(&read)), order.reverse());
        assert_eq!(kcmp(tid, tid, Kcmp::Vm), Ok(Ordering::Equal));
    }

    #[test]
    fn an_epoll_target_is_compared_with_a_descriptor() {
        // SAFETY: `epoll_create1` takes a number.
        let epoll = owned("epoll_create1", unsafe { libc::epoll_create1(0).into() });
        let epoll = epoll.expect("epoll");
        let (read, write) = pipe::pipe(0).expect("pipe");
        let mut event = libc::epoll_event { events: 1, u64: 0 };
        let (instance, target) = (epoll.as_raw_fd(), read.as_raw_fd());
        // SAFETY: the kernel reads one event through the pointer.
        let added =
            unsafe { libc::epoll_ctl(instance, libc::EPOLL_CTL_ADD, target, &raw mut event) };
        assert_eq!(added, 0);
        let instance = RemoteFd(instance);
        let tid = Pid::this().leader();
        let compare = |fd: &OwnedFd, target| {
            kcmp_epoll_tfd(tid, RemoteFd(fd.as_raw_fd()), tid, (instance, target, 0))
        };
        assert_eq!(compare(&read, target), Ok(Ordering::Equal));
        assert_ne!(compare(&write, target), Ok(Ordering::Equal));
        let none = compare(&read, write.as_raw_fd()).expect_err("not watched");
        assert_eq!(none.errno, Errno::ENOENT);
    }

    #[test]
    fn flags_are_read_and_written() {
        let (read, write) = pipe::pipe(libc::O_CLOEXEC).expect("pipe");
        assert_eq!(close_on_exec(&read), Ok(true));
        set_close_on_exec(&read, false).expect("set");
        assert_eq!(close_on_exec(&read), Ok(false));
        set_status_flags(&read, libc::O_NONBLOCK as u32).expect("set");
        assert_ne!(
            status_flags(&read).expect("get") & libc::O_NONBLOCK as u32,
            0
        );
        assert_eq!(file_owner(&read).expect("owner").pid, 0);
        assert_eq!(io_signal(&read), Ok(0));
        nix::unistd::write(&write, b"abc").expect("write");
        assert_eq!(readable_bytes(&read), Ok(3));
        let high = dup_at_least(&read, 100).expect("dup");
        assert!(high.as_raw_fd() >= 100);
    }
}
