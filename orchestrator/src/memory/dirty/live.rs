//! Pages of a process that runs, to the page file.
//!
//! They are read after the look that said what was written ([`super::Tracker::unwritten`]): a page that is written while it is
//! read, or after, is told by the next look. One that is gone by now is left out; whatever comes in its place counts as written.

use crate::memory::drain::is_zero;
use crate::memory::output::PageOutput;
use crate::memory::select::Wanted;
use crate::memory::{Error, Tally};
use crate::snapshot::PAGE_SIZE;
use crate::sys::Pid;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes read at a time: fits the second-level cache.
const CHUNK: usize = 256 << 10;
const PAGE: usize = PAGE_SIZE as usize;

/// The memory of a process, opened while it stood still: it stays that of the program that it was then.
#[derive(Debug)]
pub struct LiveMemory {
    memory: File,
    buffer: Vec<u8>,
}

impl LiveMemory {
    /// Opens the memory of a process.
    ///
    /// # Errors
    /// It is gone.
    pub fn open(pid: Pid) -> Result<Self, Error> {
        let memory = File::open(format!("/proc/{}/mem", pid.0)).map_err(|source| Error::Read {
            pid: pid.0,
            start: 0,
            pages: 0,
            source,
        })?;
        Ok(Self {
            memory,
            buffer: vec![0; CHUNK],
        })
    }

    /// Writes these pages to the page file, as far as they are there and hold something.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn copy(
        &mut self,
        run: &Wanted,
        output: &mut PageOutput,
        tally: &mut Tally,
    ) -> Result<(), Error> {
        let mut at = run.start;
        while at < run.end {
            let len = ((run.end - at) as usize).min(CHUNK);
            tally.scanned += (len / PAGE) as u64;
            let got = self.read(at, len) / PAGE * PAGE;
            write(at, &self.buffer[..got], run.zeros_are_holes, output, tally)?;
            // What could not be read is one page: behind it there may be more.
            at += if got < len { got + PAGE } else { len } as u64;
        }
        Ok(())
    }

    /// Reads into the buffer as much as there is, and returns how much.
    fn read(&mut self, at: u64, len: usize) -> usize {
        let mut got = 0;
        while got < len {
            match self
                .memory
                .read_at(&mut self.buffer[got..len], at + got as u64)
            {
                Ok(more) if more > 0 => got += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        got
    }
}

fn write(
    start: u64,
    bytes: &[u8],
    skip_zeros: bool,
    output: &mut PageOutput,
    tally: &mut Tally,
) -> Result<(), Error> {
    let is_skipped = |page: &[u8]| skip_zeros && is_zero(page);
    let mut from = 0;
    while from < bytes.len() {
        let skipped = is_skipped(&bytes[from..from + PAGE]);
        let mut to = from + PAGE;
        while to < bytes.len() && is_skipped(&bytes[to..to + PAGE]) == skipped {
            to += PAGE;
        }
        let pages = ((to - from) / PAGE) as u64;
        if skipped {
            tally.zero += pages;
        } else {
            tally.written += pages;
            output.write(start + from as u64, &bytes[from..to])?;
        }
        from = to;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_left_out() {
        let memory = vec![7u8; 3 * PAGE];
        let start = (memory.as_ptr().expose_provenance() as u64).next_multiple_of(PAGE_SIZE);
        let run = |start, end| Wanted {
            start,
            end,
            readable: true,
            zeros_are_holes: true,
        };
        let mut live = LiveMemory::open(Pid::this()).expect("own memory");
        let mut output = PageOutput::new(tempfile::tempfile().expect("file"), 1);
        let mut tally = Tally::default();
        // The first page of all is never mapped.
        live.copy(&run(0, 0x3000), &mut output, &mut tally)
            .expect("left out");
        assert_eq!(output.pages(), 0);
        live.copy(&run(start, start + PAGE_SIZE), &mut output, &mut tally)
            .expect("copied");
        assert_eq!(output.take_runs()[0].start, start);
    }
}
