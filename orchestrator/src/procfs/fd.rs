//! Which descriptors a process has, and what each refers to.

use super::tasks::numbered_entries;
use super::{Error, Result, Subject};
use crate::sys::{Pid, RemoteFd};
use std::os::unix::ffi::OsStringExt;

/// Returns the descriptors of a process, by number.
pub fn read(pid: Pid) -> Result<Vec<RemoteFd>> {
    let numbers = numbered_entries(&Subject::from(pid).path("fd"))?;
    Ok(numbers.into_iter().map(RemoteFd).collect())
}

/// Returns what the kernel calls the file behind a descriptor: a path, or `pipe:[7]`, `anon_inode:[eventpoll]` and their like.
pub fn read_target(pid: Pid, fd: RemoteFd) -> Result<Vec<u8>> {
    read_link(pid, &format!("fd/{fd}"))
}

/// Returns what the link `name` (`exe`, `cwd`, `root`, `ns/pid`, `fd/3`, ...) in a process's folder points to.
pub fn read_link(pid: Pid, name: &str) -> Result<Vec<u8>> {
    let path = Subject::from(pid).path(name);
    match std::fs::read_link(&path) {
        Ok(target) => Ok(target.into_os_string().into_vec()),
        Err(source) => Err(Error::Read { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn our_own_descriptor_is_found() {
        let file = std::fs::File::open("/dev/null").expect("open");
        let fd = RemoteFd(file.as_raw_fd());
        assert!(read(Pid::this()).expect("list").contains(&fd));
        assert_eq!(read_target(Pid::this(), fd).expect("link"), b"/dev/null");
    }
}
