//! The page pipe: the parasite hands out references to pages, the kernel copies them into page files.
//!
//! ```text
//! this thread   ask: fill set 0, look for zeros | fill set 1, look | wait for a free set ...
//! lane 0                                        | splice set 0 -> pages-1.img  | set 2 ...
//! lane 1                                                           | splice set 1 -> pages-2.img ...
//! ```
//!
//! Pipes stand in sets. One request fills a set by vmsplice, and looks for all-zero pages in the window that comes next; a
//! lane, a thread of ours with a page file of its own, splices the set into its file while the next is being filled. A file
//! takes bytes from one writer at a time (its inode's lock): two files take twice as many. The write ends are in the target
//! while this lasts: the self-cure closes them if this process dies.

use super::drain::MemReader;
use super::output::PageOutput;
use super::select::Wanted;
use super::{Error, Tally};
use crate::infect::Parasite;
use crate::infect::questions::{Arg, Asked, Buffer, Questions, u32_at};
use crate::snapshot::PAGE_SIZE;
use crate::sys::pipe::{Splice, set_pipe_size, splice};
use crate::sys::{self, RemoteFd};
use arch::abi::program::{Check, Op, special};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Most pipes: 16 MiB in all sets.
const PIPES: usize = 16;
/// Sets for each lane: one is filled while the other is spliced.
const SETS: usize = 2;
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
/// Most pieces of a window, so that what is asked of them fits the leader's room for a batch.
const MAX_PIECES: usize = 2048;

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

/// Pipes into the target.
#[derive(Debug)]
pub struct Pipes {
    pid: i32,
    sets: Vec<Vec<Pipe>>,
    /// Pages that each set holds, at least.
    room: u64,
}

/// What a lane is to do next.
enum Job {
    /// Splice a set that holds these pieces, pipe by pipe.
    Splice(usize, Vec<Vec<Piece>>),
    /// Read pages that the target itself may not read.
    Copy(Wanted),
}

impl Pipes {
    /// Makes pipes in the target for so many lanes; `None` where it has no descriptors left for them.
    ///
    /// # Errors
    /// The parasite does not answer.
    pub fn open(host: &mut impl Parasite, lanes: usize) -> Result<Option<Self>, Error> {
        let pid = host.pid();
        let ends = make_pipes(host)?;
        let failed = |source: sys::Error| Error::Pipe {
            pid: pid.0,
            source: Box::new(source),
        };
        let pidfd = sys::fd::pidfd_open(pid).map_err(failed)?;
        let mut sets: Vec<Vec<Pipe>> = (0..lanes * SETS).map(|_| Vec::new()).collect();
        let count = ends.len() / sets.len() * sets.len();
        for (index, [read, write]) in ends.into_iter().take(count).enumerate() {
            let read = sys::fd::pidfd_getfd(&pidfd, RemoteFd(read)).map_err(failed)?;
            let capacity = set_pipe_size(&read, CAPACITY)
                .or_else(|_| sys::pipe::pipe_size(&read))
                .map_err(failed)?;
            let place = index % sets.len();
            sets[place].push(Pipe {
                read,
                write,
                pages: capacity as u64 / PAGE_SIZE,
            });
        }
        let rooms = sets
            .iter()
            .map(|set| set.iter().map(|pipe| pipe.pages).sum());
        let pipes = Self {
            pid: pid.0,
            room: rooms.min().unwrap_or(0),
            sets,
        };
        if pipes.room * PAGE_SIZE < LEAST_CAPACITY as u64 {
            pipes.close(host)?;
            return Ok(None);
        }
        Ok(Some(pipes))
    }

    /// Moves these runs into the page files, one lane for each, and takes the pipes out of the target.
    ///
    /// # Errors
    /// The parasite or a page file failed.
    pub fn drain(
        self,
        host: &mut impl Parasite,
        wanted: &[Wanted],
        outputs: &mut [PageOutput],
        tally: &mut Tally,
    ) -> Result<(), Error> {
        let (free, freed) = channel();
        let moved = std::thread::scope(|scope| {
            let mut lanes = Vec::new();
            let mut jobs = Vec::new();
            for output in outputs.iter_mut() {
                let (send, receive) = channel();
                let (free, pipes) = (free.clone(), &self);
                jobs.push(send);
                lanes.push(scope.spawn(move || Lane::new(pipes, output, free).run(&receive)));
            }
            drop(free);
            let asked = self.hand_out(host, wanted, &jobs, &freed, tally);
            drop(jobs);
            let ends = lanes.into_iter().map(|lane| lane.join());
            let ends: Vec<Result<Tally, Error>> = ends
                .map(|end| end.expect("a lane does not panic"))
                .collect();
            // What a lane says is the cause where asking ended for want of a lane.
            for end in ends {
                let its = end?;
                tally.written += its.written;
                tally.scanned += its.scanned;
                tally.zero += its.zero;
            }
            asked
        });
        tally.pipes = self.sets.iter().map(Vec::len).sum::<usize>() as u64;
        let closed = self.close(host);
        moved.and(closed)
    }

    /// Fills sets as they become free, in the order of the runs.
    fn hand_out(
        &self,
        host: &mut impl Parasite,
        wanted: &[Wanted],
        jobs: &[Sender<Job>],
        freed: &Receiver<usize>,
        tally: &mut Tally,
    ) -> Result<(), Error> {
        let mut ready: Vec<usize> = (0..self.sets.len()).rev().collect();
        let mut windows = Windows {
            wanted,
            at: wanted.first().map_or(0, |run| run.start),
            room: self.room,
        };
        let mut next = self.look(host, windows.next(), tally)?;
        while let Some(step) = next {
            let pieces = match step {
                Step::Copy(run) => {
                    if jobs[0].send(Job::Copy(run)).is_err() {
                        return Ok(());
                    }
                    next = self.look(host, windows.next(), tally)?;
                    continue;
                }
                Step::Window(pieces) => pieces,
            };
            let Some(set) = ready.pop().or_else(|| freed.recv().ok()) else {
                // The lanes have ended, and say why.
                return Ok(());
            };
            let loads = share_out(&pieces, &self.sets[set]);
            next = self.fill(host, set, &loads, windows.next(), tally)?;
            if jobs[set % jobs.len()]
                .send(Job::Splice(set, loads))
                .is_err()
            {
                return Ok(());
            }
        }
        Ok(())
    }

    fn failed(&self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Pipe {
            pid: self.pid,
            source: Box::new(source),
        }
    }

    /// Has the parasite look for zeros in the first window.
    fn look(
        &self,
        host: &mut impl Parasite,
        step: Option<Step>,
        tally: &mut Tally,
    ) -> Result<Option<Step>, Error> {
        self.fill(host, 0, &[], step, tally)
    }

    /// Has the parasite fill a set, and look for zeros in the window that comes next, which is returned without them.
    fn fill(
        &self,
        host: &mut impl Parasite,
        set: usize,
        loads: &[Vec<Piece>],
        next: Option<Step>,
        tally: &mut Tally,
    ) -> Result<Option<Step>, Error> {
        let mut questions = Questions::default();
        let filled = ask_to_fill(&mut questions, &self.sets[set], loads);
        let bitmaps = match &next {
            Some(Step::Window(window)) => ask_for_zeros(&mut questions, window),
            _ => Vec::new(),
        };
        if questions.is_empty() {
            return Ok(next);
        }
        let answers = host.ask(&questions).map_err(|source| self.failed(source))?;
        for (asked, bytes) in filled {
            if answers.count(asked) != bytes {
                let errno = answers.result(asked).err().unwrap_or(libc::EIO);
                return Err(self.failed(std::io::Error::from_raw_os_error(errno)));
            }
        }
        let Some(Step::Window(window)) = next else {
            return Ok(next);
        };
        tally.scanned += window.iter().map(|piece| piece.pages).sum::<u64>();
        let mut pieces = Vec::new();
        for (piece, bitmap) in window.iter().zip(bitmaps) {
            match bitmap {
                None => pieces.push(*piece),
                Some(bitmap) => tally.zero += split(piece, answers.buffer(bitmap), &mut pieces),
            }
        }
        Ok(Some(Step::Window(pieces)))
    }

    fn close(&self, host: &mut impl Parasite) -> Result<(), Error> {
        host.run_cleanup().map_err(|source| self.failed(source))
    }
}

/// Makes pipes in the target, which its self-cure closes, and returns their numbers there.
fn make_pipes(host: &mut impl Parasite) -> Result<Vec<[i32; 2]>, Error> {
    let pid = host.pid();
    let mut questions = Questions::default();
    let asked: Vec<_> = (0..PIPES)
        .map(|_| {
            let ends = questions.space(8);
            let args = [ends.into(), Arg::Value(libc::O_CLOEXEC as u64)];
            (questions.ask(libc::SYS_pipe2 as u32, args), ends)
        })
        .collect();
    let answers = host.ask(&questions).map_err(|source| Error::Pipe {
        pid: pid.0,
        source: Box::new(source),
    })?;
    let ends: Vec<[i32; 2]> = asked
        .iter()
        .filter_map(|&(asked, ends)| {
            let bytes = answers.filled(asked, ends)?;
            Some([u32_at(bytes, 0) as i32, u32_at(bytes, 4) as i32])
        })
        .collect();
    let close = |&fd: &i32| {
        Op::call(libc::SYS_close as u32, [fd as u64, 0, 0, 0, 0, 0]).check(Check::Ignore, 0)
    };
    let cleanup: Vec<Op> = ends.iter().flatten().map(close).collect();
    host.set_cleanup(&cleanup);
    Ok(ends)
}

/// Asks for the filling of pipes, and returns how many bytes each is to take.
fn ask_to_fill(questions: &mut Questions, set: &[Pipe], loads: &[Vec<Piece>]) -> Vec<(Asked, u64)> {
    let mut filled = Vec::new();
    for (pipe, load) in set.iter().zip(loads).filter(|(_, load)| !load.is_empty()) {
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
        filled.push((
            questions.ask(libc::SYS_vmsplice as u32, args),
            bytes_of(load),
        ));
    }
    filled
}

/// Asks which pages of a window are zeros, and returns the bitmaps of those pieces that may be left out.
fn ask_for_zeros(questions: &mut Questions, window: &[Piece]) -> Vec<Option<Buffer>> {
    let ask = |piece: &Piece| {
        piece.zeros_are_holes.then(|| {
            let bitmap = questions.space(piece.pages.div_ceil(8) as usize);
            let args = [piece.start, piece.pages, 0, 0, 0, 0];
            let op = Op::special(special::ZERO_SCAN, args).check(Check::Ignore, 0);
            questions.add(op, &[(2, bitmap)]);
            bitmap
        })
    };
    window.iter().map(ask).collect()
}

fn bytes_of(load: &[Piece]) -> u64 {
    load.iter().map(|piece| piece.pages * PAGE_SIZE).sum()
}

/// Cuts the pieces so that each pipe gets what it has room for, in order.
fn share_out(pieces: &[Piece], set: &[Pipe]) -> Vec<Vec<Piece>> {
    let mut loads = vec![Vec::new(); set.len()];
    let (mut at, mut room) = (0, set[0].pages);
    for piece in pieces {
        let mut rest = *piece;
        while rest.pages > 0 {
            if room == 0 {
                at += 1;
                room = set[at].pages;
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

/// What comes next of the runs.
#[derive(Debug)]
enum Step {
    /// Pages for one set.
    Window(Vec<Piece>),
    /// A run that the target may not read.
    Copy(Wanted),
}

/// The runs, cut into windows.
#[derive(Debug)]
struct Windows<'a> {
    wanted: &'a [Wanted],
    /// Where the first of the runs goes on.
    at: u64,
    room: u64,
}

impl Iterator for Windows<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let mut window = Vec::new();
        let mut left = self.room;
        while let Some(run) = self.wanted.first() {
            let start = self.at.max(run.start);
            if !run.readable {
                if window.is_empty() {
                    self.wanted = &self.wanted[1..];
                    return Some(Step::Copy(*run));
                }
                break;
            }
            let pages = ((run.end - start) / PAGE_SIZE).min(left);
            if pages == 0 || window.len() == MAX_PIECES {
                break;
            }
            window.push(Piece {
                start,
                pages,
                zeros_are_holes: run.zeros_are_holes,
            });
            left -= pages;
            self.at = start + pages * PAGE_SIZE;
            if self.at == run.end {
                self.wanted = &self.wanted[1..];
            }
        }
        (!window.is_empty()).then_some(Step::Window(window))
    }
}

/// A thread with a page file.
struct Lane<'a> {
    pipes: &'a Pipes,
    output: &'a mut PageOutput,
    free: Sender<usize>,
    reader: Option<MemReader>,
    tally: Tally,
}

impl<'a> Lane<'a> {
    fn new(pipes: &'a Pipes, output: &'a mut PageOutput, free: Sender<usize>) -> Self {
        Self {
            pipes,
            output,
            free,
            reader: None,
            tally: Tally::default(),
        }
    }

    /// Does its jobs until there are no more.
    fn run(mut self, jobs: &Receiver<Job>) -> Result<Tally, Error> {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Copy(run) => self.copy(&run)?,
                Job::Splice(set, loads) => {
                    let filled = self.pipes.sets[set].iter().zip(&loads);
                    for (pipe, load) in filled.filter(|(_, load)| !load.is_empty()) {
                        splice_all(pipe, bytes_of(load), self.output)
                            .map_err(|error| self.output.failure(error))?;
                        for piece in load {
                            self.output.account(piece.start, piece.pages);
                        }
                        self.tally.written += load.iter().map(|piece| piece.pages).sum::<u64>();
                    }
                    // Nobody waits for it any more where all is handed out.
                    let _ = self.free.send(set);
                }
            }
        }
        Ok(self.tally)
    }

    fn copy(&mut self, run: &Wanted) -> Result<(), Error> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => MemReader::open(self.pipes.pid)?,
        };
        let reader = self.reader.insert(reader);
        reader.copy(run, self.output, &mut self.tally)
    }
}

fn splice_all(pipe: &Pipe, bytes: u64, output: &PageOutput) -> std::io::Result<()> {
    let file = output.fd().ok_or(std::io::ErrorKind::Unsupported)?;
    let mut left = bytes as usize;
    while left > 0 {
        let moved = splice(
            (&pipe.read, None),
            (file, None),
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

    #[test]
    fn runs_are_cut_into_windows_around_what_cannot_be_read() {
        let run = |start, end, readable| Wanted {
            start,
            end,
            readable,
            zeros_are_holes: true,
        };
        let wanted = [
            run(0x1000, 0x4000, true),
            run(0x9000, 0xa000, false),
            run(0xb000, 0xc000, true),
            run(0xd000, 0xe000, true),
        ];
        let windows = Windows {
            wanted: &wanted,
            at: 0x1000,
            room: 2,
        };
        let mut told = Vec::new();
        for step in windows {
            told.push(match step {
                Step::Copy(run) => vec![(run.start, 0)],
                Step::Window(pieces) => pieces.iter().map(|p| (p.start, p.pages)).collect(),
            });
        }
        let wanted = [
            vec![(0x1000, 2)],
            vec![(0x3000, 1)],
            vec![(0x9000, 0)],
            vec![(0xb000, 1), (0xd000, 1)],
        ];
        assert_eq!(told, wanted);
    }
}
