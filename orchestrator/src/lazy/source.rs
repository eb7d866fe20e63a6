//! Where the bytes of lazy pages are read: page files of the set and its parents, and else the machine of the dump.

use super::error::{Error, Result};
use super::extents::{From, Piece};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// All places, and room for a piece.
#[derive(Debug)]
pub struct Source {
    files: BTreeMap<u32, File>,
    buffer: Vec<u8>,
}

impl Source {
    /// Returns it for the page files of an image set.
    pub fn new(files: BTreeMap<u32, File>) -> Self {
        Self {
            files,
            buffer: Vec::new(),
        }
    }

    /// Reads a piece of a process's memory.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn read(&mut self, pid: i32, piece: &Piece) -> Result<&[u8]> {
        self.buffer.resize(piece.len as usize, 0);
        match piece.from {
            From::File { pages_id, offset } => {
                // Each run has its file: the images were checked.
                let file = &self.files[&pages_id];
                let read = file.read_exact_at(&mut self.buffer, offset);
                read.map_err(|source| Error::Pages {
                    pid,
                    address: piece.start,
                    source,
                })?;
            }
            From::Source { pid, .. } => return Err(Error::NoServer(pid)),
        }
        Ok(&self.buffer)
    }
}
