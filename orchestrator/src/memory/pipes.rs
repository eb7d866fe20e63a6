//! The page pipe: the parasite hands out references to pages, the kernel copies them into the page file.
//!
//! One request fills up to [`PIPES`] pipes of 1 MiB by vmsplice, and looks for all-zero pages in the window that comes
//! next; then the pipes are spliced into the file. A request costs two context switches, so it moves tens of MiB. The
//! write ends are in the target while this lasts: the self-cure closes them if this process dies.

use super::output::PageOutput;
use super::select::Wanted;
use super::{Error, Tally};
use crate::infect::Infected;
use crate::infect::questions::{Arg, Buffer, Questions, u32_at};
use crate::snapshot::PAGE_SIZE;
use crate::sys::pipe::{Splice, set_pipe_size, splice};
use crate::sys::{self, RemoteFd};
use arch::abi::program::{Check, Op, special};
use std::os::fd::OwnedFd;

/// Most pipes: 16 MiB at one request.
const PIPES: usize = 16;
/// Wanted capacity of a pipe, the most that needs no privilege (`fs.pipe-max-size`).
const CAPACITY: usize = 1 << 20;
/// Least capacity worth the work.
const LEAST_CAPACITY: usize = 64 << 10;
/// Most that is spliced at a time. A file system with large folios makes one of each write (`generic_perform_write`):
/// of 1 MiB, they come from the largest free blocks, which on a virtual machine the host often has taken back; 1 GiB to
/// ext4 then took 2.0 s, in pieces of this size 0.6 s (medians beside the same run of the peer, docs/measurements.md).
const PIECE: usize = 64 << 10;
/// Size of `struct iovec`.
const IOVEC: usize = 16;

/// A pipe: the end that we read, and the descriptor that the target writes to.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: i32,
    pages: u64,
}

/// A piece of memory in a window.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u64,
    pages: u64,
    zeros_are_holes: bool,
}

/// Pipes into the target, and the window of pages that wait.
#[derive(Debug)]
pub struct Lane {
    pid: i32,
    pipes: Vec<Pipe>,
    window: Vec<Piece>,
    waiting: u64,
    room: u64,
}

impl Lane {
    /// Makes pipes in the target; `None` where it has no descriptors left for them.
    ///
    /// # Errors
    /// The parasite does not answer.
    pub fn open(infected: &mut Infected) -> Result<Option<Self>, Error> {
        let pid = infected.frozen().pid();
        let failed = |source: sys::Error| Error::Pipe {
            pid: pid.0,
            source: Box::new(source),
        };
        let mut questions = Questions::default();
        let asked: Vec<_> = (0..PIPES)
            .map(|_| {
                let ends = questions.space(8);
                (
                    questions.ask(
                        libc::SYS_pipe2 as u32,
                        [ends.into(), Arg::Value(libc::O_CLOEXEC as u64)],
                    ),
                    ends,
                )
            })
            .collect();
        let answers = infected.ask(&questions).map_err(|source| Error::Pipe {
            pid: pid.0,
            source: Box::new(source),
        })?;
        let ends: Vec<[i32; 2]> = asked
            .iter()
            .filter_map(|&(asked, ends)| {
                answers
                    .filled(asked, ends)
                    .map(|bytes| [u32_at(bytes, 0) as i32, u32_at(bytes, 4) as i32])
            })
            .collect();
        let close = |fd: i32| {
            Op::call(libc::SYS_close as u32, [fd as u64, 0, 0, 0, 0, 0]).check(Check::Ignore, 0)
        };
        infected.set_cleanup(
            &ends
                .iter()
                .flatten()
                .map(|&fd| close(fd))
                .collect::<Vec<_>>(),
        );
        let pidfd = sys::fd::pidfd_open(pid).map_err(failed)?;
        let mut pipes = Vec::new();
        for [read, write] in ends {
            let read = sys::fd::pidfd_getfd(&pidfd, RemoteFd(read)).map_err(failed)?;
            let capacity = set_pipe_size(&read, CAPACITY)
                .or_else(|_| sys::pipe::pipe_size(&read))
                .map_err(failed)?;
            pipes.push(Pipe {
                read,
                write,
                pages: capacity as u64 / PAGE_SIZE,
            });
        }
        let room = pipes.iter().map(|pipe| pipe.pages).sum();
        let lane = Self {
            pid: pid.0,
            pipes,
            window: Vec::new(),
            waiting: 0,
            room,
        };
        if lane.room * PAGE_SIZE < LEAST_CAPACITY as u64 {
            lane.close_in_target(infected)?;
            return Ok(None);
        }
        Ok(Some(lane))
    }

    /// Adds a run; full windows are moved.
    ///
    /// # Errors
    /// The parasite or the page file failed.
    pub fn push(
        &mut self,
        infected: &mut Infected,
        run: &Wanted,
        output: &mut PageOutput,
        tally: &mut Tally,
    ) -> Result<(), Error> {
        let mut start = run.start;
        while start < run.end {
            let pages = ((run.end - start) / PAGE_SIZE).min(self.room - self.waiting);
            self.window.push(Piece {
                start,
                pages,
                zeros_are_holes: run.zeros_are_holes,
            });
            self.waiting += pages;
            start += pages * PAGE_SIZE;
            if self.waiting == self.room {
                self.flush(infected, output, tally)?;
            }
        }
        Ok(())
    }

    /// Moves what waits.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn flush(
        &mut self,
        infected: &mut Infected,
        output: &mut PageOutput,
        tally: &mut Tally,
    ) -> Result<(), Error> {
        let window = std::mem::take(&mut self.window);
        self.waiting = 0;
        if window.is_empty() {
            return Ok(());
        }
        tally.scanned += window.iter().map(|piece| piece.pages).sum::<u64>();
        let pieces = self.without_zeros(infected, &window, tally)?;
        self.fill_and_splice(infected, &pieces, output, tally)
    }

    fn failed(&self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Pipe {
            pid: self.pid,
            source: Box::new(source),
        }
    }

    /// Asks the parasite which pages are zeros and leaves them out.
    fn without_zeros(
        &self,
        infected: &mut Infected,
        window: &[Piece],
        tally: &mut Tally,
    ) -> Result<Vec<Piece>, Error> {
        let mut questions = Questions::default();
        let bitmaps: Vec<Option<Buffer>> = window
            .iter()
            .map(|piece| {
                piece.zeros_are_holes.then(|| {
                    let bitmap = questions.space(piece.pages.div_ceil(8) as usize);
                    let op =
                        Op::special(special::ZERO_SCAN, [piece.start, piece.pages, 0, 0, 0, 0])
                            .check(Check::Ignore, 0);
                    questions.add(op, &[(2, bitmap)]);
                    bitmap
                })
            })
            .collect();
        let answers = infected
            .ask(&questions)
            .map_err(|source| self.failed(source))?;
        let mut pieces = Vec::new();
        for (piece, bitmap) in window.iter().zip(bitmaps) {
            match bitmap {
                None => pieces.push(*piece),
                Some(bitmap) => tally.zero += split(piece, answers.buffer(bitmap), &mut pieces),
            }
        }
        Ok(pieces)
    }

    fn fill_and_splice(
        &mut self,
        infected: &mut Infected,
        pieces: &[Piece],
        output: &mut PageOutput,
        tally: &mut Tally,
    ) -> Result<(), Error> {
        let loads = self.share_out(pieces);
        let mut questions = Questions::default();
        let mut asked = Vec::new();
        for (pipe, load) in self
            .pipes
            .iter()
            .zip(&loads)
            .filter(|(_, load)| !load.is_empty())
        {
            let mut iovecs = Vec::with_capacity(load.len() * IOVEC);
            for piece in load {
                iovecs.extend_from_slice(&piece.start.to_le_bytes());
                iovecs.extend_from_slice(&(piece.pages * PAGE_SIZE).to_le_bytes());
            }
            let table = questions.with(&iovecs);
            let args = [
                Arg::Value(pipe.write as u64),
                table.into(),
                Arg::Value(load.len() as u64),
                Arg::Value(u64::from(Splice::NONBLOCK.bits())),
            ];
            asked.push((questions.ask(libc::SYS_vmsplice as u32, args), pipe, load));
        }
        if asked.is_empty() {
            return Ok(());
        }
        let answers = infected
            .ask(&questions)
            .map_err(|source| self.failed(source))?;
        for (asked, pipe, load) in asked {
            let bytes = load
                .iter()
                .map(|piece| piece.pages * PAGE_SIZE)
                .sum::<u64>();
            if answers.count(asked) != bytes {
                let errno = answers.result(asked).err().unwrap_or(libc::EIO);
                return Err(self.failed(std::io::Error::from_raw_os_error(errno)));
            }
            splice_all(pipe, bytes, output).map_err(|error| output.failure(error))?;
            for piece in load {
                output.account(piece.start, piece.pages);
            }
            tally.written += bytes / PAGE_SIZE;
        }
        tally.pipes = self.pipes.len() as u64;
        Ok(())
    }

    /// Cuts the pieces so that each pipe gets what it has room for, in order.
    fn share_out(&self, pieces: &[Piece]) -> Vec<Vec<Piece>> {
        let mut loads = vec![Vec::new(); self.pipes.len()];
        let (mut at, mut room) = (0, self.pipes[0].pages);
        for piece in pieces {
            let mut rest = *piece;
            while rest.pages > 0 {
                if room == 0 {
                    at += 1;
                    room = self.pipes[at].pages;
                }
                let pages = rest.pages.min(room);
                loads[at].push(Piece { pages, ..rest });
                rest = Piece {
                    start: rest.start + pages * PAGE_SIZE,
                    pages: rest.pages - pages,
                    ..rest
                };
                room -= pages;
            }
        }
        loads
    }

    /// Moves what waits and takes the pipes out of the target.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn close(
        mut self,
        infected: &mut Infected,
        output: &mut PageOutput,
        tally: &mut Tally,
    ) -> Result<(), Error> {
        let moved = self.flush(infected, output, tally);
        let closed = self.close_in_target(infected);
        moved.and(closed)
    }

    fn close_in_target(&self, infected: &mut Infected) -> Result<(), Error> {
        infected.run_cleanup().map_err(|source| self.failed(source))
    }
}

fn splice_all(pipe: &Pipe, bytes: u64, output: &PageOutput) -> std::io::Result<()> {
    let mut left = bytes as usize;
    while left > 0 {
        let moved = splice(
            (&pipe.read, None),
            (output.fd(), None),
            left.min(PIECE),
            Splice::MOVE,
        )
        .map_err(|error| std::io::Error::from_raw_os_error(error.errno as i32))?;
        if moved == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        left -= moved;
    }
    Ok(())
}

/// Adds the parts of a piece that are not zeros and returns the number of zero pages.
fn split(piece: &Piece, bitmap: &[u8], pieces: &mut Vec<Piece>) -> u64 {
    let is_zero = |page: u64| bitmap[page as usize / 8] >> (page % 8) & 1 != 0;
    let mut zeros = 0;
    let mut page = 0;
    while page < piece.pages {
        let begin = page;
        while page < piece.pages && !is_zero(page) {
            page += 1;
        }
        if page > begin {
            pieces.push(Piece {
                start: piece.start + begin * PAGE_SIZE,
                pages: page - begin,
                ..*piece
            });
        }
        while page < piece.pages && is_zero(page) {
            zeros += 1;
            page += 1;
        }
    }
    zeros
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_split_at_its_zero_pages() {
        let piece = Piece {
            start: 0x1000,
            pages: 10,
            zeros_are_holes: true,
        };
        let mut pieces = Vec::new();
        assert_eq!(split(&piece, &[0b1000_0011, 0b10], &mut pieces), 4);
        let found: Vec<_> = pieces
            .iter()
            .map(|piece| (piece.start, piece.pages))
            .collect();
        assert_eq!(found, [(0x3000, 5), (0x9000, 1)]);
    }
}
