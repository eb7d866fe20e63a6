//! The dumped tree as the source of its own memory: it stands still, and its pages are handed out to whoever restores it.
//!
//! When all were handed out it is ended, as any dumped tree is. Where the other side is gone before, what it restored is gone too, and
//! the tree runs on here.

use super::Error;
use crate::page_server::{self, Pages, greet, hand_out};
use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun, Snapshot};
use crate::sys::fd;
use crate::wire::client::inherited;
use crate::wire::tls::Tls;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Where one client is waited for.
#[derive(Debug, Clone)]
pub enum Door {
    /// At an address.
    Listener(Arc<TcpListener>),
    /// Behind a connected socket that we were given.
    Socket(i32),
}

/// Where pages can be asked for.
#[derive(Debug, Clone)]
pub struct Source {
    /// The socket.
    pub door: Door,
    /// Who asks has to show a certificate.
    pub tls: Option<Tls>,
    /// Told by a zero byte when somebody can ask.
    pub status_fd: Option<i32>,
}

/// What was left in a frozen tree.
#[derive(Debug, Default)]
pub struct Left {
    spaces: BTreeMap<i32, (File, Vec<PageRun>)>,
}

impl Left {
    /// Returns what the images leave to their source.
    ///
    /// # Errors
    /// Its memory cannot be opened.
    pub fn of(snapshot: &Snapshot) -> Result<Self, Error> {
        let mut spaces = BTreeMap::new();
        for task in &snapshot.tasks {
            let runs = task.mm.iter().flat_map(|mm| &mm.pages);
            let runs = runs.filter(|run| run.at == PageLocation::Source).copied();
            let runs: Vec<PageRun> = runs.collect();
            if !runs.is_empty() {
                let memory = File::open(format!("/proc/{}/mem", task.pid));
                spaces.insert(task.pid, (memory.map_err(Error::Serve)?, runs));
            }
        }
        Ok(Self { spaces })
    }
}

impl Pages for Left {
    fn read(&mut self, pid: i32, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "they were not left");
        let (memory, runs) = self.spaces.get(&pid).ok_or_else(missing)?;
        let end = address
            .checked_add(bytes.len() as u64)
            .ok_or_else(missing)?;
        let mut at = address;
        while at < end {
            let place = runs.partition_point(|run| run.start + run.pages * PAGE_SIZE <= at);
            let run = runs.get(place).filter(|run| run.start <= at);
            let run = run.ok_or_else(missing)?;
            at = run.start + run.pages * PAGE_SIZE;
        }
        memory.read_exact_at(bytes, address)
    }
}

impl Source {
    fn client(&self) -> io::Result<TcpStream> {
        let listener = match &self.door {
            Door::Listener(listener) => listener,
            Door::Socket(fd) => return inherited(*fd),
        };
        let (socket, client) = listener.accept()?;
        tracing::info!("handing out pages to {client}");
        Ok(socket)
    }

    /// Hands out what was left, to one client.
    ///
    /// # Errors
    /// It has not got all of it.
    pub fn serve(&self, mut left: Left) -> Result<(), Error> {
        if let Some(number) = self.status_fd {
            let status = fd::inherited(number).map_err(Error::Serve)?;
            File::from(status).write_all(&[0]).map_err(Error::Serve)?;
            fd::close_inherited(number);
        }
        let socket = self.client().map_err(Error::Serve)?;
        let channel = greet(socket, self.tls.as_ref()).map_err(Box::<page_server::Error>::new)?;
        let sent = hand_out(channel, &mut left).map_err(Box::<page_server::Error>::new)?;
        tracing::info!("handed out {sent} pages");
        Ok(())
    }
}
