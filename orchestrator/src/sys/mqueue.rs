//! POSIX message queues. A message can be had only by taking it: so all are taken and put back, by a process that goes on
//! with it if we are killed.

use super::clone::{CloneFlags, Request, Start, clone3};
use super::mem::{Place, SharedMapping};
use super::wait::wait_tid;
use super::{Error, Result, check};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd};

/// `struct mq_attr` (`include/uapi/linux/mqueue.h`).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct RawAttributes {
    flags: i64,
    max_messages: i64,
    message_size: i64,
    messages: i64,
    reserved: [i64; 4],
}

const _: () = assert!(size_of::<RawAttributes>() == 64);

/// What a queue may hold, and how much it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Most messages.
    pub max_messages: u64,
    /// Most bytes of a message.
    pub message_size: u64,
    /// Messages.
    pub messages: u64,
}

/// Returns the attributes of a queue.
pub fn attributes(queue: impl AsFd) -> Result<Attributes> {
    let mut is = RawAttributes::default();
    let fd = queue.as_fd().as_raw_fd();
    let none = std::ptr::null::<RawAttributes>();
    // SAFETY: 1. No new attributes are given.  2. The kernel fills one structure of its layout.
    let got = unsafe { libc::syscall(libc::SYS_mq_getsetattr, fd, none, &raw mut is) };
    check("mq_getsetattr", got)?;
    Ok(Attributes {
        max_messages: is.max_messages as u64,
        message_size: is.message_size as u64,
        messages: is.messages as u64,
    })
}

/// Removes the name of a queue of the caller's IPC namespace.
pub fn unlink(name: &std::ffi::CStr) -> Result<()> {
    // SAFETY: the name ends.
    let result = unsafe { libc::syscall(libc::SYS_mq_unlink, name.as_ptr()) };
    check("mq_unlink", result).map(drop)
}

/// Bytes of the stack of who takes and puts back.
const STACK: usize = 64 << 10;
/// How often a message is offered that the kernel has no room for at the moment.
const ATTEMPTS: u32 = 1000;

/// A message that was taken.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    len: usize,
    priority: u32,
}

/// What the process in our memory works on. It calls nothing that allocates.
#[derive(Debug)]
struct Work<'a> {
    fd: i32,
    most: usize,
    bytes: &'a mut [u8],
    taken: &'a mut [Taken],
    count: usize,
    returned: usize,
    error: i32,
}

/// Returns the messages of a queue in the order in which they are received, each with its priority: they are taken, and put
/// back. `queue` is open for both directions, and waits for nothing. Nobody else may use it meanwhile, and the caller blocks
/// all signals.
pub fn messages(queue: impl AsFd) -> Result<Vec<(u32, Vec<u8>)>> {
    let is = attributes(&queue)?;
    let count = is.messages as usize;
    if count == 0 {
        return Ok(Vec::new());
    }
    let most = is.message_size as usize;
    // The kernel asks for room for the largest message at each.
    let mut bytes = vec![0; most.saturating_mul(count)];
    let mut taken = vec![Taken::default(); count];
    let mut work = Work {
        fd: queue.as_fd().as_raw_fd(),
        most,
        bytes: &mut bytes,
        taken: &mut taken,
        count: 0,
        returned: 0,
        error: 0,
    };
    let mut stack = SharedMapping::anonymous(STACK, Place::Anywhere)?;
    let start = Start::Call {
        entry: take_and_put_back as *const () as u64,
        arg: std::ptr::from_mut(&mut work).expose_provenance() as u64,
    };
    let request = Request {
        // We wait until it has ended; killed, we leave it our memory.
        flags: CloneFlags::VM | CloneFlags::VFORK,
        exit_signal: libc::SIGCHLD,
        ..Request::default()
    };
    let child = clone3(&mut stack, STACK, start, &request)?;
    wait_tid(child.pid.leader())?;
    let Work {
        count,
        returned,
        error,
        ..
    } = work;
    if returned < count || error != 0 {
        let call = match returned < count {
            true => "mq_timedsend",
            false => "mq_timedreceive",
        };
        return Err(Error::new(call, Errno::from_raw(error)));
    }
    let mut left = &bytes[..];
    let message = |taken: &Taken| {
        let (message, rest) = left.split_at(taken.len);
        left = rest;
        (taken.priority, message.to_vec())
    };
    Ok(taken[..count].iter().map(message).collect())
}

/// The process: takes what there is, and puts it back in the same order, which is the order in which it is received again.
extern "C" fn take_and_put_back(work: u64) -> ! {
    let work = std::ptr::with_exposed_provenance_mut::<Work<'_>>(work as usize);
    // SAFETY: `messages` passes the address of its own, and stands still until this process has ended.
    let work = unsafe { &mut *work };
    let mut used = 0;
    while work.count < work.taken.len() {
        match receive(work.fd, &mut work.bytes[used..used + work.most]) {
            Ok(taken) => {
                used += taken.len;
                work.taken[work.count] = taken;
                work.count += 1;
            }
            Err(errno) => {
                work.error = errno;
                break;
            }
        }
    }
    let mut at = 0;
    for index in 0..work.count {
        let taken = work.taken[index];
        if let Err(errno) = send(work.fd, &work.bytes[at..at + taken.len], taken.priority) {
            work.error = errno;
            break;
        }
        at += taken.len;
        work.returned += 1;
    }
    // SAFETY: it ends the process and touches nothing.
    unsafe { libc::_exit(0) }
}

fn receive(fd: i32, bytes: &mut [u8]) -> std::result::Result<Taken, i32> {
    let mut priority = 0u32;
    let none = std::ptr::null::<libc::timespec>();
    // SAFETY: the kernel writes at most `bytes.len()` bytes and one priority.
    let got = unsafe {
        libc::syscall(
            libc::SYS_mq_timedreceive,
            fd,
            bytes.as_mut_ptr(),
            bytes.len(),
            &raw mut priority,
            none,
        )
    };
    match got {
        0.. => Ok(Taken {
            len: got as usize,
            priority,
        }),
        _ => Err(Errno::last_raw()),
    }
}

fn send(fd: i32, bytes: &[u8], priority: u32) -> std::result::Result<(), i32> {
    let none = std::ptr::null::<libc::timespec>();
    let mut errno = 0;
    for _ in 0..ATTEMPTS {
        // SAFETY: the kernel reads `bytes.len()` bytes.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_mq_timedsend,
                fd,
                bytes.as_ptr(),
                bytes.len(),
                priority,
                none,
            )
        };
        if sent == 0 {
            return Ok(());
        }
        errno = Errno::last_raw();
        // SAFETY: it takes nothing.
        unsafe { libc::sched_yield() };
    }
    Err(errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::signal::SignalsBlocked;
    use std::os::fd::{FromRawFd, OwnedFd};

    #[test]
    fn messages_are_seen_and_stay_in_their_order() {
        let name = std::ffi::CString::new(format!("orchestrator-test-{}", std::process::id()));
        let name = name.expect("no zero inside");
        let wanted = RawAttributes {
            max_messages: 5,
            message_size: 9,
            ..RawAttributes::default()
        };
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NONBLOCK;
        // SAFETY: the name ends, and the attributes are of the kernel's layout.
        let made = unsafe {
            libc::syscall(
                libc::SYS_mq_open,
                name.as_ptr(),
                flags,
                0o600,
                &raw const wanted,
            )
        };
        let Ok(fd) = check("mq_open", made) else {
            return println!("skipped: no POSIX message queues (messages_are_seen)");
        };
        // SAFETY: the call has just made it.
        let queue = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        unlink(&name).expect("unlink");
        let sent: [(u32, &[u8]); 4] = [(1, b"first"), (7, b"urgent"), (1, b"second"), (0, b"")];
        for (priority, bytes) in sent {
            send(queue.as_raw_fd(), bytes, priority).expect("send");
        }
        let wanted: Vec<(u32, Vec<u8>)> = [1, 0, 2, 3]
            .map(|at: usize| (sent[at].0, sent[at].1.to_vec()))
            .to_vec();
        let _quiet = SignalsBlocked::new().expect("block");
        for _ in 0..2 {
            assert_eq!(messages(&queue).as_ref(), Ok(&wanted));
        }
    }
}
