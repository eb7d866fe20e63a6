//! Where the bytes of lazy pages are read: page files of the set and its parents, and else the machine of the dump.

use super::error::{Error, Result};
use super::extents::{From, Piece};
use crate::snapshot::PAGE_SIZE;
use crate::wire::client::Server;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Most bytes that are asked for at a time: a fault waits for the answer to the question before.
const MOST_ASKED: usize = 256 << 10;

/// All places, and room for a piece.
#[derive(Debug)]
pub struct Source {
    files: BTreeMap<u32, File>,
    server: Option<Server>,
    buffer: Vec<u8>,
    brought: Brought,
}

/// Pages, by where they were had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Brought {
    /// From page files here.
    pub here: u64,
    /// From the machine of the dump.
    pub source: u64,
}

impl Source {
    /// Returns it for the page files of an image set.
    pub fn new(files: BTreeMap<u32, File>, server: Option<Server>) -> Self {
        Self {
            files,
            server,
            buffer: Vec::new(),
            brought: Brought::default(),
        }
    }

    /// Returns how many pages were had so far.
    pub fn brought(&self) -> Brought {
        self.brought
    }

    /// Tells the machine of the dump that nothing more is asked for.
    ///
    /// # Errors
    /// It is gone.
    pub fn close(&self) -> Result<()> {
        match &self.server {
            Some(server) => Ok(server.close()?),
            None => Ok(()),
        }
    }

    /// Reads a piece of a process's memory, or its first pages.
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
                self.brought.here += piece.len / PAGE_SIZE;
            }
            From::Source { pid, address } => {
                let server = self.server.as_ref().ok_or(Error::NoServer(pid))?;
                let len = self.buffer.len().min(MOST_ASKED);
                let pages = server.get(pid as u32, address, &mut self.buffer[..len])?;
                self.brought.source += pages;
                self.buffer.truncate((pages * PAGE_SIZE) as usize);
            }
        }
        Ok(&self.buffer)
    }
}
