//! What has to be done even if this process is killed: a forked process of ours waits for our end and does it.

use super::pipe::pipe;
use super::wait::{WaitStatus, wait_tid};
use super::{Pid, Result, check};
use nix::errno::Errno;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

/// Does one write to a file when this process ends without having dropped it.
///
/// The kernel closes our end of a pipe however we end, and the other process reads its end of file then. It has a session
/// of its own, so that what is sent to our group does not reach it, and our signal mask.
#[derive(Debug)]
pub struct WriteAtEnd {
    pipe: OwnedFd,
    child: Pid,
}

impl WriteAtEnd {
    /// Has `word` written to `file` at our end.
    pub fn new(file: &File, word: &'static [u8]) -> Result<Self> {
        let (read, write) = pipe(libc::O_CLOEXEC)?;
        // SAFETY: the child makes system calls only, on what was there before the fork, and does not return.
        let child = check("fork", i64::from(unsafe { libc::fork() }))?;
        if child == 0 {
            // Ours is to be the only one.
            drop(write);
            wait_and_write(&read, file, word);
        }
        Ok(Self {
            pipe: write,
            child: Pid(child as i32),
        })
    }
}

impl Drop for WriteAtEnd {
    fn drop(&mut self) {
        // Any byte says that there is nothing left to do. The child has no handler, and takes nothing that blocks.
        let _ = nix::unistd::write(&self.pipe, b"x");
        while wait_tid(self.child.leader()).is_ok_and(|status: WaitStatus| !status.is_end()) {}
    }
}

/// The child: waits, and writes if nobody said otherwise.
fn wait_and_write(pipe: &OwnedFd, mut file: &File, word: &[u8]) -> ! {
    let _ = super::process::start_session();
    let mut got = nix::unistd::read(pipe, &mut [0]);
    while got == Err(Errno::EINTR) {
        got = nix::unistd::read(pipe, &mut [0]);
    }
    if got == Ok(0) {
        let _ = file.write_all(word);
    }
    // SAFETY: it ends the process and touches nothing.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Seek as _};
    use std::os::fd::AsRawFd as _;

    fn file() -> File {
        let memory = nix::sys::memfd::memfd_create(c"at-end", nix::sys::memfd::MFdFlags::empty());
        File::from(memory.expect("a memfd"))
    }

    #[test]
    fn it_is_written_at_the_end_and_not_before() {
        let (mut kept, mut ended) = (file(), file());
        drop(WriteAtEnd::new(&kept, b"word").expect("fork"));
        let WriteAtEnd { pipe, child } =
            &*std::mem::ManuallyDrop::new(WriteAtEnd::new(&ended, b"word").expect("fork"));
        // SAFETY: the number is that of our end, which nobody uses again.
        unsafe { libc::close(pipe.as_raw_fd()) };
        let status = wait_tid(child.leader());
        assert_eq!(status, Ok(WaitStatus::Exited(0)));
        let mut words = [String::new(), String::new()];
        for (file, word) in [&mut kept, &mut ended].into_iter().zip(&mut words) {
            file.rewind().expect("rewind");
            file.read_to_string(word).expect("read");
        }
        assert_eq!(words, ["", "word"]);
    }
}
