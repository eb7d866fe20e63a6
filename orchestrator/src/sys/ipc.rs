//! System V inter-process communication.

use super::{Result, check};

/// Removes a segment of shared memory: it is gone with its last attachment.
pub fn remove_shm(id: u32) -> Result<()> {
    let none = std::ptr::null_mut();
    // SAFETY: IPC_RMID looks at no structure.
    let result = unsafe { libc::shmctl(id as i32, libc::IPC_RMID, none) };
    check("shmctl(IPC_RMID)", result.into()).map(drop)
}
