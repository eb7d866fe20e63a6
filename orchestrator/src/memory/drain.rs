//! From the target's memory to page files.
//!
//! Small amounts, and pages that the target itself may not read, are read from `/proc/PID/mem` and written: that takes no
//! preparation. Large amounts go through pipes: the parasite hands out references to pages by vmsplice ([`pipes`]), and the
//! pipes are spliced into the files here, so that the bytes are copied once, by the kernel. In each file pages lie in the
//! order of their addresses. `process_vm_readv` would unshare copy-on-write pages and is not used.

use super::output::PageOutput;
use super::pipes;
use super::select::Wanted;
use super::{Error, Tally};
use crate::infect::Parasite;
use crate::snapshot::PAGE_SIZE;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Writes all these pages to the page files, which share them.
///
/// # Errors
/// Memory cannot be read, or a file not written.
pub fn drain(
    host: &mut impl Parasite,
    wanted: &[Wanted],
    outputs: &mut [PageOutput],
    tally: &mut Tally,
) -> Result<(), Error> {
    // What the pipes leave open could not be closed by a thread that may not call close.
    if host.may_call()
        && pages_of(wanted) >= PIPE_THRESHOLD
        && outputs[0].fd().is_some()
        && let Some(pipes) = pipes::Pipes::open(host, outputs.len())?
    {
        return pipes.drain(host, wanted, outputs, tally);
    }
    let mut reader = MemReader::open(host.pid().0)?;
    for run in wanted {
        reader.copy(run, &mut outputs[0], tally)?;
    }
    Ok(())
}

/// Returns into how many page files so many pages should go, if they may go into several.
pub fn lanes(wanted: &[Wanted]) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    match pages_of(wanted) {
        pages if pages >= SECOND_FILE => processors.min(MAX_LANES),
        _ => 1,
    }
}

fn pages_of(wanted: &[Wanted]) -> u64 {
    wanted.iter().map(Wanted::pages).sum()
}

/// Page files that one process's memory goes to at most: two threads copy as fast as memory lets them.
const MAX_LANES: usize = 2;
/// From this many pages on a second page file pays.
const SECOND_FILE: u64 = 4096;

/// From this many pages on, preparing the pipes pays.
pub const PIPE_THRESHOLD: u64 = 512;

/// Bytes read from `/proc/PID/mem` at a time: fits the second-level cache.
const CHUNK: usize = 256 << 10;

/// Reads pages from `/proc/PID/mem`.
#[derive(Debug)]
pub struct MemReader {
    pid: i32,
    mem: File,
    buffer: Vec<u8>,
}

impl MemReader {
    /// Opens the memory of a process.
    ///
    /// # Errors
    /// `/proc/PID/mem` cannot be opened.
    pub fn open(pid: i32) -> Result<Self, Error> {
        let mem = File::open(format!("/proc/{pid}/mem")).map_err(|source| Error::Read {
            pid,
            start: 0,
            pages: 0,
            source,
        })?;
        Ok(Self {
            pid,
            mem,
            buffer: Vec::new(),
        })
    }

    /// Writes one run of pages to the page file, without pages full of zeros where those may be left out.
    ///
    /// # Errors
    /// Memory cannot be read or the file not written.
    pub fn copy(
        &mut self,
        run: &Wanted,
        output: &mut PageOutput,
        tally: &mut Tally,
    ) -> Result<(), Error> {
        // No larger than what is there: room has to be zeroed first.
        let room = CHUNK.min((run.end - run.start) as usize);
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        let mut at = run.start;
        while at < run.end {
            let len = ((run.end - at) as usize).min(CHUNK);
            let bytes = &mut self.buffer[..len];
            self.mem
                .read_exact_at(bytes, at)
                .map_err(|source| Error::Read {
                    pid: self.pid,
                    start: at,
                    pages: len as u64 / PAGE_SIZE,
                    source,
                })?;
            write_content(at, bytes, run.zeros_are_holes, output, tally)?;
            at += len as u64;
        }
        Ok(())
    }
}

fn write_content(
    start: u64,
    bytes: &[u8],
    skip_zeros: bool,
    output: &mut PageOutput,
    tally: &mut Tally,
) -> Result<(), Error> {
    let pages = bytes.len() as u64 / PAGE_SIZE;
    tally.scanned += pages;
    if !skip_zeros {
        tally.written += pages;
        return output.write(start, bytes);
    }
    let page = PAGE_SIZE as usize;
    let mut from = 0;
    while from < bytes.len() {
        let zero = is_zero(&bytes[from..from + page]);
        let mut to = from + page;
        while to < bytes.len() && is_zero(&bytes[to..to + page]) == zero {
            to += page;
        }
        if zero {
            tally.zero += ((to - from) / page) as u64;
        } else {
            tally.written += ((to - from) / page) as u64;
            output.write(start + from as u64, &bytes[from..to])?;
        }
        from = to;
    }
    Ok(())
}

/// Returns whether all bytes of a page are zero.
pub fn is_zero(page: &[u8]) -> bool {
    page.chunks_exact(64)
        .all(|line| line.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_pages_are_left_out_only_where_they_may_be() {
        let mut bytes = vec![0u8; 4 * 4096];
        bytes[4096] = 1;
        bytes[3 * 4096 + 4095] = 1;
        for (skip, written) in [(true, 2), (false, 4)] {
            let mut output = PageOutput::new(tempfile::tempfile().expect("file"), 1);
            let mut tally = Tally::default();
            write_content(0x1000, &bytes, skip, &mut output, &mut tally).expect("written");
            assert_eq!(tally.written, written);
            assert_eq!(output.pages(), written);
        }
    }

    #[test]
    fn own_memory_is_read_by_its_addresses() {
        let memory = vec![7u8; 3 * 4096];
        let start = (memory.as_ptr() as u64).next_multiple_of(4096);
        let run = Wanted {
            start,
            end: start + 4096,
            readable: true,
            zeros_are_holes: true,
        };
        let mut reader = MemReader::open(std::process::id() as i32).expect("own memory");
        let mut output = PageOutput::new(tempfile::tempfile().expect("file"), 1);
        reader
            .copy(&run, &mut output, &mut Tally::default())
            .expect("copied");
        assert_eq!(output.take_runs()[0].start, start);
    }
}
