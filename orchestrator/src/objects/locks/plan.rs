//! From the fact to operations. Pure.
//!
//! A lock that somebody else holds by now makes the restore fail: none waits.

use crate::plan::{Builder, Object};
use crate::snapshot::{FileLock, LockType};

/// `fcntl` commands (`include/uapi/asm-generic/fcntl.h`, `linux/fcntl.h`).
const F_SETLK: u64 = 6;
const F_OFD_SETLK: u64 = 37;
const F_SETLEASE: u64 = 1024;
/// `F_RDLCK`, `F_WRLCK`.
const READ: u64 = 0;
const WRITE: u64 = 1;

/// Adds a lock on a descriptor of the calling task.
pub fn plan_lock(b: &mut Builder, lock: &FileLock) {
    let fd = lock.fd as u64;
    let mode = if lock.is_write { WRITE } else { READ };
    let kind = match lock.kind {
        LockType::Posix | LockType::Ofd => "lock of a range",
        LockType::Flock => "lock",
        LockType::Lease => "lease",
    };
    b.object(Object::Descriptor(lock.fd, kind.into()));
    match lock.kind {
        LockType::Flock => {
            let operation = match lock.is_write {
                true => libc::LOCK_EX,
                false => libc::LOCK_SH,
            };
            let args = [fd, (operation | libc::LOCK_NB) as u64];
            b.call_returns(libc::SYS_flock, &args, 0);
        }
        LockType::Lease => b.call_returns(libc::SYS_fcntl, &[fd, F_SETLEASE, mode], 0),
        LockType::Posix | LockType::Ofd => {
            // type and whence (SEEK_SET), start, length, pid: `struct flock`.
            let range = b.put_words(&[mode, lock.start, lock.len, 0]);
            let command = match lock.kind {
                LockType::Ofd => F_OFD_SETLK,
                _ => F_SETLK,
            };
            b.call_returns(libc::SYS_fcntl, &[fd, command, range], 0);
        }
    }
}
