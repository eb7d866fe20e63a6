//! File handles: files by what their file system numbers them with (`name_to_handle_at(2)`).

use super::{Error, Result, check};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Most bytes of a handle (`MAX_HANDLE_SZ`, `linux/exportfs.h`).
pub const MAX_BYTES: usize = 128;

/// `struct file_handle` with room for the longest.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; MAX_BYTES],
}

const _: () = assert!(size_of::<Handle>() == 8 + MAX_BYTES);

/// Opens the file with this handle, in the file system that `mount` is of, without any right to it (`O_PATH`).
pub fn open(mount: impl AsFd, kind: u32, bytes: &[u8]) -> Result<OwnedFd> {
    let call = "open_by_handle_at";
    if bytes.len() > MAX_BYTES {
        return Err(Error::new(call, Errno::EINVAL));
    }
    let mut handle = Handle {
        bytes: bytes.len() as u32,
        kind: kind as i32,
        data: [0; MAX_BYTES],
    };
    handle.data[..bytes.len()].copy_from_slice(bytes);
    let mount = mount.as_fd().as_raw_fd();
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    let at: *mut Handle = &mut handle;
    // SAFETY: `at` points to a whole `struct file_handle` with the number of bytes that it says.
    let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount, at, flags) };
    let fd = check(call, fd)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
