//! A page file being written, and the runs of pages that lie in it.

use super::Error;
use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

/// A page file: pages lie one after the other, in the order they were added.
#[derive(Debug)]
pub struct PageOutput {
    file: File,
    name: String,
    pages_id: u32,
    offset: u64,
    runs: Vec<PageRun>,
}

impl PageOutput {
    /// Begins the page file `pages-ID.img`, which must be empty.
    pub fn new(file: File, pages_id: u32) -> Self {
        Self {
            file,
            name: format!("pages-{pages_id}.img"),
            pages_id,
            offset: 0,
            runs: Vec::new(),
        }
    }

    /// Writes the bytes of whole pages that lie at `start` in the target.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, start: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(bytes)
            .map_err(|source| self.failure(source))?;
        self.account(start, bytes.len() as u64 / PAGE_SIZE);
        Ok(())
    }

    /// Returns the file, for bytes that are moved into it by the kernel; [`Self::account`] tells what they were.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
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
