//! An address space whose memory comes while it runs.
//!
//! The kernel's rules (`fs/userfaultfd.c`, `mm/userfaultfd.c`): whoever forks, moves, unmaps or throws away registered memory waits
//! until the event is read, and until then nothing can be put into that address space (`EAGAIN`). So what was put there before an
//! event is read was there when it happened: a child has what its parent had, and the same is still to come for both. Faults are
//! read before events that came first; as their pages cannot be put before these are read, it is enough to look again where a
//! page lies after each `EAGAIN`.

use super::error::{Doing, Result};
use super::extents::{Extents, Piece};
use super::source::Source;
use crate::snapshot::PAGE_SIZE;
use crate::sys::RemoteAddr;
use crate::sys::uffd::{self, Event};
use nix::errno::Errno;
use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes that are put for a fault: its neighbours are wanted soon.
const AT_FAULT: u64 = 64 << 10;
/// Bytes that are put in the background at a time: few after a fault, which the next one would wait for, then more and more.
const LEAST: u64 = 64 << 10;
const MOST: u64 = 2 << 20;

/// How putting pages went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    Done,
    /// There is an event to be read.
    Again,
    /// The address space is no more.
    Gone,
}

/// An address space.
#[derive(Debug)]
pub struct Space {
    /// Its number, for the guard.
    pub id: u32,
    /// The process that it was restored for.
    pub pid: i32,
    uffd: OwnedFd,
    extents: Extents,
    waiting: VecDeque<u64>,
    near: u64,
    step: u64,
    is_gone: bool,
    /// Faults that were served.
    pub faults: u64,
}

impl Space {
    /// Returns a space with all that is still to come for it.
    pub fn new(id: u32, pid: i32, uffd: OwnedFd, extents: Extents) -> Self {
        Self {
            id,
            pid,
            uffd,
            extents,
            waiting: VecDeque::new(),
            near: 0,
            step: LEAST,
            is_gone: false,
            faults: 0,
        }
    }

    /// Returns what it tells events by.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.uffd.as_fd()
    }

    /// Returns whether nothing is to be done for it any more.
    pub fn is_done(&self) -> bool {
        self.is_gone || self.extents.is_empty() && self.waiting.is_empty()
    }

    /// Returns whether somebody waits for a page.
    pub fn is_wanted(&self) -> bool {
        !self.waiting.is_empty() && !self.is_gone
    }

    /// Reads what has happened; returns what is to come for children, each with what it tells events by.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn take_events(&mut self) -> Result<Vec<(OwnedFd, Extents)>> {
        let mut children = Vec::new();
        loop {
            let events = uffd::read_events(&self.uffd).doing("read what lazy memory tells")?;
            if events.is_empty() {
                return Ok(children);
            }
            for event in events {
                match event {
                    Event::Fault(at) => self.waiting.push_back(at.0 & !(PAGE_SIZE - 1)),
                    Event::Fork(uffd) => children.push((uffd, self.extents.clone())),
                    Event::Remap(from, to, len) => self.extents.remap(from.0, to.0, len),
                    Event::Remove(range) | Event::Unmap(range) => {
                        self.extents.remove(range.start.0..range.end.0);
                    }
                    Event::Other(kind) => tracing::warn!("userfaultfd tells {kind:#x}"),
                }
            }
        }
    }

    /// Puts the pages that are waited for; returns whether an event has to be read first.
    ///
    /// # Errors
    /// They cannot be had, or not be put.
    pub fn serve(&mut self, source: &mut Source) -> Result<bool> {
        while let Some(&page) = self.waiting.front() {
            let put = match self.extents.around(page, AT_FAULT) {
                Some(piece) => self.put(source, &piece)?,
                None => self.put_zeros(page)?,
            };
            match put {
                Put::Again => return Ok(true),
                Put::Gone => {
                    self.is_gone = true;
                    return Ok(false);
                }
                // It may lie behind what could be put at once: it is looked for again.
                Put::Done if self.extents.around(page, PAGE_SIZE).is_some() => {}
                Put::Done => {
                    self.waiting.pop_front();
                    self.faults += 1;
                    (self.near, self.step) = (page, LEAST);
                }
            }
        }
        Ok(false)
    }

    /// Puts the next piece that nobody waits for; returns whether an event has to be read first.
    ///
    /// # Errors
    /// As [`Self::serve`].
    pub fn fill(&mut self, source: &mut Source) -> Result<bool> {
        let Some(piece) = self.extents.nearest(self.near, self.step) else {
            return Ok(false);
        };
        match self.put(source, &piece)? {
            Put::Again => return Ok(true),
            Put::Gone => self.is_gone = true,
            Put::Done => {
                self.near = piece.range().end;
                self.step = (self.step * 2).min(MOST);
            }
        }
        Ok(false)
    }

    /// Puts a piece, and takes out of what is to come what has been put, or has no place any more.
    fn put(&mut self, source: &mut Source, piece: &Piece) -> Result<Put> {
        let bytes = source.read(self.pid, piece)?;
        let len = bytes.len() as u64;
        let mut most = len;
        let mut at = 0;
        let outcome = loop {
            if at >= len {
                break Put::Done;
            }
            let until = (at + most).min(len);
            let pages = &bytes[at as usize..until as usize];
            match uffd::copy(&self.uffd, RemoteAddr(piece.start + at), pages) {
                Ok(done) => at += done,
                Err(error) => match error.errno {
                    Errno::EAGAIN => break Put::Again,
                    Errno::ESRCH => break Put::Gone,
                    Errno::EEXIST => {
                        wake(&self.uffd, page_at(piece.start + at));
                        at += PAGE_SIZE;
                    }
                    // It goes over the end of an area, or there is none.
                    Errno::ENOENT if most > PAGE_SIZE => most = PAGE_SIZE,
                    Errno::ENOENT => at += PAGE_SIZE,
                    _ => return Err(error).doing("put a page in its place"),
                },
            }
        };
        self.extents.remove(piece.start..piece.start + at);
        Ok(outcome)
    }

    /// Puts zeros where a page never held anything, and around it.
    fn put_zeros(&mut self, page: u64) -> Result<Put> {
        let around = self.extents.gap_around(page, AT_FAULT);
        for range in [around, page_at(page)] {
            let range = RemoteAddr(range.start)..RemoteAddr(range.end);
            match uffd::zero(&self.uffd, range) {
                // Put up to a page that is there: the page itself may lie behind that.
                Ok(_) => {}
                Err(error) => match error.errno {
                    Errno::EAGAIN => return Ok(Put::Again),
                    Errno::ESRCH => return Ok(Put::Gone),
                    Errno::EEXIST | Errno::ENOENT => {}
                    _ => return Err(error).doing("put zeros in their place"),
                },
            }
        }
        wake(&self.uffd, page_at(page));
        Ok(Put::Done)
    }
}

/// Wakes who waits for pages that are there, or will never be: they look again.
fn wake(uffd: &OwnedFd, range: Range<u64>) {
    // There is nothing that could stand in its way.
    let _ = uffd::wake(uffd, RemoteAddr(range.start)..RemoteAddr(range.end));
}

fn page_at(page: u64) -> Range<u64> {
    page..page + PAGE_SIZE
}
