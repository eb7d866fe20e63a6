//! Pipes, and moving pages through them without copying.

use super::{Error, Named, Result, check};
use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

bitflags::bitflags! {
    /// `SPLICE_F_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Splice: u32 {
        /// Move pages where possible.
        const MOVE = libc::SPLICE_F_MOVE;
        /// Do not wait for the pipe.
        const NONBLOCK = libc::SPLICE_F_NONBLOCK;
        /// More will come.
        const MORE = libc::SPLICE_F_MORE;
    }
}

impl Splice {
    fn for_nix(self) -> SpliceFFlags {
        SpliceFFlags::from_bits_retain(self.bits())
    }
}

/// Makes a pipe and returns its reading and its writing end.
pub fn pipe(flags: i32) -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::from_bits_retain(flags)).named("pipe2")
}

/// Returns how many bytes the pipe can hold.
pub fn pipe_size(pipe: impl AsFd) -> Result<usize> {
    let fd = pipe.as_fd().as_raw_fd();
    // SAFETY: F_GETPIPE_SZ takes no argument.
    check("fcntl(F_GETPIPE_SZ)", unsafe {
        libc::fcntl(fd, libc::F_GETPIPE_SZ).into()
    })
}

/// Sets how many bytes the pipe can hold, rounded up by the kernel, and returns it: `EPERM` above `pipe-max-size` without
/// `CAP_SYS_RESOURCE`.
pub fn set_pipe_size(pipe: impl AsFd, bytes: usize) -> Result<usize> {
    let call = "fcntl(F_SETPIPE_SZ)";
    let fd = pipe.as_fd().as_raw_fd();
    let bytes = i32::try_from(bytes).map_err(|_| Error::new(call, Errno::EINVAL))?;
    // SAFETY: F_SETPIPE_SZ takes a number.
    check(call, unsafe {
        libc::fcntl(fd, libc::F_SETPIPE_SZ, bytes).into()
    })
}

/// Moves at most `len` bytes between a pipe and a file or another pipe; a file's position moves unless an offset is given.
pub fn splice(
    (from, from_offset): (impl AsFd, Option<&mut i64>),
    (to, to_offset): (impl AsFd, Option<&mut i64>),
    len: usize,
    flags: Splice,
) -> Result<usize> {
    nix::fcntl::splice(from, from_offset, to, to_offset, len, flags.for_nix()).named("splice")
}

/// Puts references to our own pages into a pipe: what they hold when they are read is what the reader sees.
pub fn vmsplice(pipe: impl AsFd, memory: &[IoSlice<'_>], flags: Splice) -> Result<usize> {
    nix::fcntl::vmsplice(pipe, memory, flags.for_nix()).named("vmsplice")
}

/// Copies at most `len` bytes from pipe to pipe without taking them.
pub fn tee(from: impl AsFd, to: impl AsFd, len: usize, flags: Splice) -> Result<usize> {
    nix::fcntl::tee(from, to, len, flags.for_nix()).named("tee")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tee_leaves_the_bytes_and_splice_takes_them() {
        let (read, write) = pipe(0).expect("pipe");
        let (read_copy, write_copy) = pipe(0).expect("pipe");
        let bytes = [7u8; 100];
        let put = vmsplice(&write, &[IoSlice::new(&bytes)], Splice::empty()).expect("vmsplice");
        assert_eq!(put, 100);
        assert_eq!(tee(&read, &write_copy, 4096, Splice::NONBLOCK), Ok(100));
        let file = crate::sys::mem::memfd_create(c"test", 0).expect("memfd");
        let mut offset = 50;
        let moved = splice(
            (&read, None),
            (&file, Some(&mut offset)),
            4096,
            Splice::empty(),
        );
        assert_eq!((moved, offset), (Ok(100), 150));
        let left = [&read, &read_copy].map(crate::sys::fd::readable_bytes);
        assert_eq!(left, [Ok(0), Ok(100)]);
    }

    #[test]
    fn the_size_can_be_set() {
        let (read, _write) = pipe(0).expect("pipe");
        assert_eq!(set_pipe_size(&read, 5000), Ok(8192));
        assert_eq!(pipe_size(&read), Ok(8192));
    }
}
