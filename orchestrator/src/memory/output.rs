//! Where pages go, and the runs of pages that lie there: a page file, a page server, or a stream of images.

use super::Error;
use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun};
use crate::wire::batches::{Batches, Packing, Target};
use crate::wire::client::Server;
use crate::wire::protocol::{self, Holder};
use crate::wire::stream::Part;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

/// Where pages go.
#[derive(Debug)]
pub enum Sink {
    /// To a page file.
    File(File),
    /// To a page server.
    Server(Remote),
    /// Into a stream.
    Part(Part),
    /// In batches, to one of these.
    Batches(Batches),
}

impl Sink {
    /// Has the pages of a file packed.
    #[must_use]
    pub fn packed(self, packing: Packing) -> Self {
        let to = match self {
            Sink::File(file) => Target::File(file),
            Sink::Part(part) => Target::Part(part),
            other => return other,
        };
        Sink::Batches(Batches::new(to, packing))
    }
}

/// The pages of one holder at a page server.
#[derive(Debug)]
pub struct Remote {
    server: Server,
    holder: Holder,
    /// Ranges, ascending, whose pages may be filled lazily.
    lazy: Vec<[u64; 2]>,
    /// Runs, ascending, whose bytes the server has, and does not know of yet: it is told all runs in their order.
    known: VecDeque<PageRun>,
}

impl Remote {
    /// Begins the pages of a holder.
    ///
    /// # Errors
    /// The server is gone, or failed.
    pub fn open(server: &Server, holder: Holder) -> Result<Self, Error> {
        server.open(holder)?;
        Ok(Self {
            server: server.clone(),
            holder,
            lazy: Vec::new(),
            known: VecDeque::new(),
        })
    }

    /// Tells of the known runs that lie below an address.
    fn tell_known(&mut self, below: u64) -> Result<(), Error> {
        while let Some(run) = self.known.pop_front_if(|run| run.start < below) {
            let flags = match run.at {
                PageLocation::ParentTask => protocol::IN_PARENT_TASK,
                _ => protocol::IN_PARENT,
            };
            self.server
                .add_known(self.holder, (run.start, run.pages), flags)?;
        }
        Ok(())
    }

    fn write(&mut self, start: u64, bytes: &[u8]) -> Result<(), Error> {
        self.tell_known(start)?;
        let end = start + bytes.len() as u64;
        let mut at = start;
        while at < end {
            let next = self.lazy.partition_point(|range| range[1] <= at);
            let (flags, until) = match self.lazy.get(next) {
                Some(&[from, to]) if from <= at => (protocol::LAZY, to.min(end)),
                Some(&[from, _]) => (0, from.min(end)),
                None => (0, end),
            };
            let part = &bytes[(at - start) as usize..(until - start) as usize];
            self.server.add(self.holder, at, flags, part)?;
            at = until;
        }
        Ok(())
    }
}

/// Pages on their way: they lie one after the other, in the order they were added.
#[derive(Debug)]
pub struct PageOutput {
    sink: Sink,
    name: String,
    pages_id: u32,
    offset: u64,
    runs: Vec<PageRun>,
}

impl PageOutput {
    /// Begins the page file `pages-ID.img`, which must be empty.
    pub fn new(file: File, pages_id: u32) -> Self {
        Self::to(Sink::File(file), pages_id)
    }

    /// Begins what will be `pages-ID.img`, wherever that is.
    pub fn to(sink: Sink, pages_id: u32) -> Self {
        Self {
            sink,
            name: format!("pages-{pages_id}.img"),
            pages_id,
            offset: 0,
            runs: Vec::new(),
        }
    }

    /// Tells which ranges, ascending, hold pages that may be filled lazily: a page server has to know.
    pub fn set_lazy(&mut self, ranges: impl FnOnce() -> Vec<[u64; 2]>) {
        if let Sink::Server(remote) = &mut self.sink {
            remote.lazy = ranges();
        }
    }

    /// Tells which runs, ascending, are as in a set or a task that is known: a page server is told of them in between.
    pub fn set_known(&mut self, runs: &[PageRun]) {
        if let Sink::Server(remote) = &mut self.sink {
            remote.known = runs.iter().copied().collect();
        }
    }

    /// Writes the bytes of whole pages that lie at `start` in the target.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&mut self, start: u64, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.sink {
            Sink::File(file) => file.write_all(bytes).map_err(|source| Error::Write {
                file: self.name.clone(),
                source,
            })?,
            Sink::Server(remote) => remote.write(start, bytes)?,
            Sink::Part(part) => part.write_all(bytes).map_err(crate::wire::Error::Stream)?,
            Sink::Batches(batches) => {
                let written = batches.write(bytes);
                written.map_err(|source| self.failure(source))?;
            }
        }
        self.account(start, bytes.len() as u64 / PAGE_SIZE);
        Ok(())
    }

    /// Returns the file, for bytes that are moved into it by the kernel; [`Self::account`] tells what they were. `None` where
    /// the bytes have to be looked at, or must not change any more once they are on their way: pages in a socket or a pipe
    /// are the target's own until somebody reads them.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.sink {
            Sink::File(file) => Some(file.as_fd()),
            Sink::Server(_) | Sink::Part(_) | Sink::Batches(_) => None,
        }
    }

    /// Writes what was held back, when all pages are there.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(&mut self) -> Result<(), Error> {
        match &mut self.sink {
            Sink::Batches(batches) => {
                let finished = batches.finish();
                finished.map_err(|source| self.failure(source))
            }
            Sink::Server(remote) => remote.tell_known(u64::MAX),
            _ => Ok(()),
        }
    }

    /// Returns an error of this file.
    pub fn failure(&self, source: std::io::Error) -> Error {
        Error::Write {
            file: self.name.clone(),
            source,
        }
    }

    /// Notes that the next `pages` pages of the file are those at `start`.
    pub fn account(&mut self, start: u64, pages: u64) {
        if pages == 0 {
            return;
        }
        let offset = self.offset;
        self.offset += pages * PAGE_SIZE;
        if let Some(last) = self.runs.last_mut()
            && last.start + last.pages * PAGE_SIZE == start
        {
            last.pages += pages;
            return;
        }
        self.runs.push(PageRun {
            start,
            pages,
            at: PageLocation::Here {
                pages_id: self.pages_id,
                offset,
            },
        });
    }

    /// Returns the number of pages written so far, all runs taken together.
    pub fn pages(&self) -> u64 {
        self.offset / PAGE_SIZE
    }

    /// Takes the runs noted since the last call: neighbours in memory and in the file are one run.
    pub fn take_runs(&mut self) -> Vec<PageRun> {
        std::mem::take(&mut self.runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_pages_are_one_run() {
        let mut output = PageOutput::new(tempfile::tempfile().expect("file"), 1);
        output.write(0x1000, &[1; 4096]).expect("write");
        output.write(0x2000, &[2; 8192]).expect("write");
        output.write(0x9000, &[3; 4096]).expect("write");
        let runs = output.take_runs();
        assert_eq!(runs.len(), 2);
        assert_eq!((runs[0].start, runs[0].pages), (0x1000, 3));
        assert_eq!(
            runs[1].at,
            PageLocation::Here {
                pages_id: 1,
                offset: 3 * 4096
            }
        );
        assert_eq!(output.pages(), 4);
    }
}
