//! A file system of memory that is mounted nowhere: a folder that nobody else sees and that goes with its last descriptor.

use super::{Result, check};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `FSOPEN_CLOEXEC`, `FSMOUNT_CLOEXEC` (`linux/mount.h`, Linux 5.2).
const CLOEXEC: u32 = 1;
/// `FSCONFIG_SET_STRING`.
const SET_STRING: u32 = 1;
/// `FSCONFIG_CMD_CREATE`.
const CMD_CREATE: u32 = 6;
/// `MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC`.
const ATTRIBUTES: u32 = 2 | 4 | 8;

/// Makes one, without a limit of its own, and returns its folder. It takes `CAP_SYS_ADMIN`.
pub fn folder() -> Result<OwnedFd> {
    // SAFETY: `fsopen` takes a name that ends with a zero, and a number.
    let context = owned("fsopen", unsafe {
        libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), CLOEXEC)
    })?;
    configure(&context, SET_STRING, Some((c"size", c"0")))?;
    configure(&context, SET_STRING, Some((c"mode", c"0700")))?;
    configure(&context, CMD_CREATE, None)?;
    // SAFETY: `fsmount` takes three numbers.
    owned("fsmount", unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, ATTRIBUTES)
    })
}

fn configure(context: &OwnedFd, command: u32, pair: Option<(&CStr, &CStr)>) -> Result<()> {
    let null = std::ptr::null();
    let (key, value) = pair.map_or((null, null), |(key, value)| (key.as_ptr(), value.as_ptr()));
    let fd = context.as_raw_fd();
    // SAFETY: `fsconfig` takes numbers, and a name and a value that end with a zero, or none.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, fd, command, key, value, 0) };
    check("fsconfig", result).map(drop)
}

fn owned(call: &'static str, result: libc::c_long) -> Result<OwnedFd> {
    let fd = check(call, result)?;
    // SAFETY: the kernel just made this descriptor for us; nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use crate::sys::folder as files;
    use std::io::Write;

    #[test]
    fn files_in_it_are_found_by_its_descriptor() {
        // Without the right to mount there is nothing to test.
        let Ok(folder) = super::folder() else { return };
        let mut file = files::create(&folder, "a").expect("made");
        file.write_all(b"abc").expect("written");
        assert_eq!(files::names(&folder), Ok(vec!["a".to_string()]));
    }
}
