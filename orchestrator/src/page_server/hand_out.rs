//! The other way round: pages are handed out to a lazy-pages daemon that asks for them, out of images or out of a frozen process.

use super::{Client, Error};
use crate::image::{self, ImageSet};
use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun};
use crate::wire::channel::Channel;
use crate::wire::protocol::{self, Request};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Most pages of one answer.
const MOST: u64 = 1024;

/// Where pages are that can be asked for.
pub trait Pages {
    /// Reads pages of a process from an address on.
    ///
    /// # Errors
    /// They are not there.
    fn read(&mut self, pid: i32, address: u64, bytes: &mut [u8]) -> io::Result<()>;
}

/// Hands out pages until the client says that it has all; returns how many.
///
/// # Errors
/// The client is gone, or asks for what is not there.
pub fn hand_out(channel: Channel, from: &mut impl Pages) -> Result<u64, Error> {
    let mut client = Client::new(channel);
    let mut sent = 0;
    let mut bytes = Vec::new();
    loop {
        let request = client.request()?;
        match (request.command, i32::try_from(request.holder)) {
            (protocol::CLOSE | protocol::FORCE_CLOSE, _) => {
                client.tell(0);
                return Ok(sent);
            }
            (protocol::GET, Ok(pid)) if request.pages > 0 => {
                let pages = request.pages.min(MOST);
                bytes.resize((pages * PAGE_SIZE) as usize, 0);
                let read = from.read(pid, request.address, &mut bytes);
                read.map_err(|source| Error::Pages {
                    pid,
                    address: request.address,
                    pages,
                    source,
                })?;
                let answer = Request {
                    command: protocol::ADD_F,
                    flags: protocol::PRESENT,
                    pages,
                    ..request
                };
                client.answer(&answer.to_bytes())?;
                client.answer(&bytes)?;
                sent += pages;
            }
            _ => {
                return Err(Error::Request {
                    command: request.command,
                    flags: request.flags,
                    holder: request.holder,
                });
            }
        }
    }
}

/// Pages of an image set.
#[derive(Debug)]
pub struct StoredPages {
    runs: BTreeMap<i32, Vec<PageRun>>,
    files: BTreeMap<u32, File>,
}

impl StoredPages {
    /// Returns the pages of a set.
    ///
    /// # Errors
    /// A page is said to be as in the parent task, which has none.
    pub fn of(mut images: ImageSet) -> image::Result<Self> {
        image::resolve_inherited(&mut images.snapshot)?;
        let tasks = images.snapshot.tasks.into_iter();
        Ok(Self {
            runs: tasks
                .filter_map(|task| Some((task.pid, task.mm?.pages)))
                .collect(),
            files: images.pages,
        })
    }
}

impl Pages for StoredPages {
    fn read(&mut self, pid: i32, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "they are not in the images");
        let runs = self.runs.get(&pid).ok_or_else(missing)?;
        let mut at = address;
        let mut left = bytes;
        while !left.is_empty() {
            let place = runs.partition_point(|run| run.start + run.pages * PAGE_SIZE <= at);
            let run = runs.get(place).filter(|run| run.start <= at);
            let run = run.ok_or_else(missing)?;
            let PageLocation::Here { pages_id, offset } = run.at else {
                return Err(missing());
            };
            let within = at - run.start;
            let len = (run.pages * PAGE_SIZE - within).min(left.len() as u64);
            let (now, rest) = left.split_at_mut(len as usize);
            self.files[&pages_id].read_exact_at(now, offset + within)?;
            (left, at) = (rest, at + len);
        }
        Ok(())
    }
}
