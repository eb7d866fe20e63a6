//! Pipes: which ends are inside, and what lies in them.

use super::FileTable;
use crate::dump::Error;
use crate::error::Refusal;
use crate::external::{External, Object};
use crate::snapshot::*;
use crate::sys::{self, Pid, RemoteFd, fd as kernel};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// A pipe and an end of it to read it by.
#[derive(Debug)]
pub struct FoundPipe {
    /// Its number: the inode's.
    inode: u64,
    /// Any end.
    end: OwnedFd,
    /// Whether the reading and the writing end are inside.
    has: [bool; 2],
    /// The first descriptor that refers to it.
    named_by: (Pid, RemoteFd),
    has_packets: bool,
}

impl FileTable {
    /// Returns an end of a pipe.
    pub(super) fn pipe(
        &mut self,
        inode: u64,
        flags: u32,
        named_by: (Pid, RemoteFd),
        own: OwnedFd,
    ) -> FileKind {
        add(&mut self.pipes, inode, flags, named_by, own);
        FileKind::Pipe(PipeEnd {
            pipe_id: inode as u32,
        })
    }

    /// Returns a named pipe; whoever has its other end finds it again by its name.
    pub(super) fn fifo(
        &mut self,
        node: RegularFile,
        flags: u32,
        named_by: (Pid, RemoteFd),
        (inode, own): (u64, OwnedFd),
    ) -> FileKind {
        add(&mut self.fifos, inode, flags, named_by, own);
        FileKind::Fifo(Fifo {
            pipe_id: inode as u32,
            node,
        })
    }

    /// A pipe of which one end only is inside is refused, unless nobody has the other.
    pub(super) fn refuse_half_outside(&self, refusals: &mut Vec<Refusal>) {
        let external: Vec<u64> = self.choices.external.iter().filter_map(pipe).collect();
        let half = self.pipes.iter().filter(|pipe| pipe.has != [true, true]);
        for pipe in half.filter(|pipe| !external.contains(&pipe.inode)) {
            let ready = sys::poll::poll_readable(&[pipe.end.as_fd()], Some(Duration::ZERO));
            let is_alone = ready.is_ok_and(|ready| ready[0].hung_up || ready[0].error);
            if !is_alone {
                let (pid, fd) = pipe.named_by;
                refusals.push(Refusal {
                    task: pid.0,
                    object: format!("descriptor {fd} (pipe:[{}])", pipe.inode),
                    reason: "a process outside holds the other end of this pipe".into(),
                    remedy: format!(
                        "use --external pipe[{0}], and at the restore --inherit-fd fd[N]:pipe[{0}]; or start the program with its input and output in files or /dev/null",
                        pipe.inode
                    ),
                });
            }
        }
    }

    /// Reads what the pipes and the named ones hold, and leaves it in them.
    ///
    /// # Errors
    /// A pipe cannot be read.
    pub fn read_pipes(&self) -> Result<[Vec<PipeBuffer>; 2], Error> {
        let read = |pipes: &[FoundPipe]| pipes.iter().map(read_pipe).collect::<Result<_, _>>();
        Ok([read(&self.pipes)?, read(&self.fifos)?])
    }
}

/// Returns the inode of a pipe that the user leaves outside.
fn pipe(external: &External) -> Option<u64> {
    match external.object {
        Some(Object::Pipe(inode)) => Some(inode),
        _ => None,
    }
}

fn add(
    pipes: &mut Vec<FoundPipe>,
    inode: u64,
    flags: u32,
    named_by: (Pid, RemoteFd),
    own: OwnedFd,
) {
    let mode = flags & libc::O_ACCMODE as u32;
    let has = [mode != libc::O_WRONLY as u32, mode != libc::O_RDONLY as u32];
    let has_packets = flags & libc::O_DIRECT as u32 != 0;
    match pipes.iter_mut().find(|pipe| pipe.inode == inode) {
        Some(pipe) => {
            pipe.has = [pipe.has[0] | has[0], pipe.has[1] | has[1]];
            pipe.has_packets |= has_packets;
        }
        None => pipes.push(FoundPipe {
            inode,
            end: own,
            has,
            named_by,
            has_packets,
        }),
    }
}

fn read_pipe(pipe: &FoundPipe) -> Result<PipeBuffer, Error> {
    use std::os::unix::fs::OpenOptionsExt;
    let capacity = sys::pipe::pipe_size(&pipe.end).map_err(Error::Own)?;
    let path = format!("/proc/self/fd/{}", pipe.end.as_raw_fd());
    let reader = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(Error::Pipe)?;
    let held = kernel::readable_bytes(&reader).map_err(Error::Own)?;
    let mut data = Vec::new();
    let mut packets = Vec::new();
    if held > 0 {
        let (from, to) = sys::pipe::pipe(libc::O_CLOEXEC).map_err(Error::Own)?;
        sys::pipe::set_pipe_size(&to, capacity).map_err(Error::Own)?;
        let copied = sys::pipe::tee(&reader, &to, capacity, sys::pipe::Splice::empty())
            .map_err(Error::Own)?;
        if copied != held {
            return Err(Error::Pipe(std::io::Error::other(
                "a pipe gave fewer bytes than it holds",
            )));
        }
        (data, packets) = read_packets(from.into(), held, pipe.has_packets)?;
    }
    Ok(PipeBuffer {
        pipe_id: pipe.inode as u32,
        capacity: Some(capacity as u32),
        data,
        packets,
    })
}

/// Reads all of a pipe, and the lengths of its packets. A read ends where a packet does, whatever the mode of the end that
/// is read (`PIPE_BUF_FLAG_PACKET`, `pipe_read` in `fs/pipe.c`), and takes all there is of a stream: a stream is one read.
fn read_packets(
    mut from: std::fs::File,
    held: usize,
    has_packets: bool,
) -> Result<(Vec<u8>, Vec<u32>), Error> {
    use std::io::Read;
    let mut data = vec![0; held];
    let mut packets = Vec::new();
    let mut at = 0;
    while at < held {
        let len = from.read(&mut data[at..]).map_err(Error::Pipe)?;
        if len == 0 {
            return Err(Error::Pipe(std::io::ErrorKind::UnexpectedEof.into()));
        }
        packets.push(len as u32);
        at += len;
    }
    if packets.len() == 1 && !has_packets {
        packets.clear();
    }
    if packets.iter().any(|&len| len as usize > libc::PIPE_BUF) {
        return Err(Error::Pipe(std::io::Error::other(
            "it holds packets and, before them, bytes of no packet",
        )));
    }
    Ok((data, packets))
}
