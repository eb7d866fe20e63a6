//! System V inter-process communication, and the file system of POSIX message queues.

use super::{Error, Result, check};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `MSG_COPY` (Linux 3.8): the message of this number is copied, and stays.
const MSG_COPY: i32 = 0o40000;
/// `GETALL` of `semctl` (`include/uapi/linux/sem.h`).
const GETALL: i32 = 13;

/// Removes a segment of shared memory: it is gone with its last attachment.
pub fn remove_shm(id: u32) -> Result<()> {
    let none = std::ptr::null_mut();
    // SAFETY: IPC_RMID looks at no structure.
    let result = unsafe { libc::shmctl(id as i32, libc::IPC_RMID, none) };
    check("shmctl(IPC_RMID)", result.into()).map(drop)
}

/// Attaches a segment for reading, for as long as we live, and returns where it is.
pub fn attach_shm(id: u32) -> Result<u64> {
    // SAFETY: an attachment at an address of the kernel's choice, of which nobody has a reference.
    let at = unsafe { libc::shmat(id as i32, std::ptr::null(), libc::SHM_RDONLY) };
    match at as isize {
        -1 => Err(Error::new("shmat", Errno::last())),
        _ => Ok(at as u64),
    }
}

/// Returns the values of the semaphores of a set, of which there are `count`.
pub fn semaphores(id: u32, count: usize) -> Result<Vec<u16>> {
    let mut values = vec![0u16; count];
    // SAFETY: the kernel writes as many values as the set has, which nobody can change.
    let result = unsafe { libc::semctl(id as i32, 0, GETALL, values.as_mut_ptr()) };
    check("semctl(GETALL)", result.into()).map(|_| values)
}

/// Returns how many bytes a queue of messages may hold.
pub fn queue_capacity(id: u32) -> Result<u64> {
    let mut is = std::mem::MaybeUninit::<libc::msqid_ds>::zeroed();
    // SAFETY: the kernel fills the structure.
    let result = unsafe { libc::msgctl(id as i32, libc::IPC_STAT, is.as_mut_ptr()) };
    check("msgctl(IPC_STAT)", result.into())?;
    // SAFETY: it is filled, and was zeros before.
    Ok(unsafe { is.assume_init() }.msg_qbytes)
}

/// Returns type and bytes of a message of a queue by its number, of at most `most` bytes; it stays where it is.
pub fn look_at_message(id: u32, number: u32, most: usize) -> Result<(i64, Vec<u8>)> {
    let mut words = vec![0u64; 1 + most.div_ceil(8)];
    let flags = MSG_COPY | libc::IPC_NOWAIT;
    let number = i64::from(number);
    // SAFETY: there is room for the type and `most` bytes.
    let got = unsafe { libc::msgrcv(id as i32, words.as_mut_ptr().cast(), most, number, flags) };
    let len = check("msgrcv(MSG_COPY)", got as libc::c_long)?;
    let bytes = words[1..].iter().flat_map(|word| word.to_le_bytes());
    Ok((words[0] as i64, bytes.take(len).collect()))
}

const SYS_FSOPEN: i64 = 430;
const SYS_FSCONFIG: i64 = 431;
const SYS_FSMOUNT: i64 = 432;
/// `FSCONFIG_CMD_CREATE` (`include/uapi/linux/mount.h`).
const CREATE: i32 = 6;

/// Returns the root of the file system of the POSIX message queues of the caller's IPC namespace, mounted nowhere.
pub fn message_queues() -> Result<OwnedFd> {
    let name = c"mqueue";
    // SAFETY: the name ends.
    let context = unsafe { libc::syscall(SYS_FSOPEN, name.as_ptr(), 1) };
    let context = owned("fsopen", context)?;
    let raw = context.as_raw_fd();
    // SAFETY: this command looks at no memory.
    let made = unsafe { libc::syscall(SYS_FSCONFIG, raw, CREATE, 0, 0, 0) };
    check("fsconfig", made)?;
    // SAFETY: numbers only.
    let mount = unsafe { libc::syscall(SYS_FSMOUNT, raw, 1, 0) };
    owned("fsmount", mount)
}

fn owned(call: &'static str, result: libc::c_long) -> Result<OwnedFd> {
    let fd = check(call, result)?;
    // SAFETY: the call has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
