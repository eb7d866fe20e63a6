//! The daemon: takes the memory of restored processes, serves who waits for a page, and fills the rest.
//!
//! One loop: news first, then faults, then one piece in the background for each space, and again. So a fault waits for one piece at
//! most. The daemon ends when the restore has said that all run, and nothing is to come for any of them.

use super::error::{Doing, Error, Result};
use super::extents::Extents;
use super::guard::{Guard, OnFailure};
use super::link::{self, Word};
use super::source::{Brought, Source};
use super::space::Space;
use super::split::split;
use crate::image::ImageSet;
use crate::snapshot::{PageLocation, PageRun};
use crate::sys::poll::poll_readable;
use crate::wire::client::Server;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// How long to wait for the event that has to be read before pages can be put.
const SOON: Duration = Duration::from_millis(1);

/// What the user chose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// What becomes of the tree where memory does not come.
    pub on_failure: OnFailure,
    /// Time between two pieces that nobody waits for.
    pub pause: Duration,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Address spaces, children of the restored among them.
    pub spaces: u64,
    /// Faults that were served.
    pub faults: u64,
    /// Pages that were had.
    pub brought: Brought,
}

/// Serves one restore of an image set.
///
/// # Errors
/// Memory does not come. All whose memory it was are ended or stopped then.
pub fn serve(
    listener: UnixListener,
    (images, server): (ImageSet, Option<Server>),
    settings: Settings,
) -> Result<Served> {
    let mut snapshot = images.snapshot;
    split(&mut snapshot)?;
    let tasks = snapshot.tasks.into_iter();
    let left: BTreeMap<i32, Vec<PageRun>> = tasks
        .filter_map(|task| Some((task.pid, task.mm?.lazy)))
        .collect();
    let asks = left.iter().find(|(_, runs)| runs.iter().any(is_at_source));
    if let (Some((&pid, _)), None) = (asks, &server) {
        return Err(Error::NoServer(pid));
    }
    let mut daemon = Daemon {
        guard: Guard::start(settings.on_failure)?,
        restore: Restore::Awaited(listener),
        left,
        source: Source::new(images.pages, server),
        spaces: Vec::new(),
        next: 0,
        pause: settings.pause,
        filled: Instant::now(),
        served: Served::default(),
    };
    while !daemon.is_done() {
        daemon.turn()?;
    }
    daemon.source.close()?;
    Ok(Served {
        brought: daemon.source.brought(),
        ..daemon.served
    })
}

fn is_at_source(run: &PageRun) -> bool {
    run.at == PageLocation::Source
}

/// How far the restore is.
#[derive(Debug)]
enum Restore {
    Awaited(UnixListener),
    There(UnixStream),
    Done,
}

#[derive(Debug)]
struct Daemon {
    // Given up first: it finds the memory that we have still.
    guard: Guard,
    restore: Restore,
    /// What is to come for each process that was not yet handed over.
    left: BTreeMap<i32, Vec<PageRun>>,
    source: Source,
    spaces: Vec<Space>,
    next: u32,
    pause: Duration,
    /// When the last piece was put that nobody waited for.
    filled: Instant,
    served: Served,
}

impl Daemon {
    fn is_done(&self) -> bool {
        matches!(self.restore, Restore::Done) && self.spaces.is_empty()
    }

    fn turn(&mut self) -> Result<()> {
        self.take_news()?;
        let mut is_behind = self.serve_faults()?;
        if self.is_filling() && self.rest().is_zero() {
            self.filled = Instant::now();
            for space in &mut self.spaces {
                is_behind |= space.fill(&mut self.source)?;
            }
        }
        if is_behind {
            self.wait(Some(SOON))?;
        }
        self.let_go();
        Ok(())
    }

    fn serve_faults(&mut self) -> Result<bool> {
        let mut is_behind = false;
        for space in &mut self.spaces {
            is_behind |= space.serve(&mut self.source)?;
        }
        Ok(is_behind)
    }

    fn is_filling(&self) -> bool {
        matches!(self.restore, Restore::Done) && !self.spaces.is_empty()
    }

    /// Returns the time until the next piece is due that nobody waits for.
    fn rest(&self) -> Duration {
        self.pause.saturating_sub(self.filled.elapsed())
    }

    /// Waits for news where there is nothing else to do, and takes all.
    fn take_news(&mut self) -> Result<()> {
        let is_wanted = self.spaces.iter().any(Space::is_wanted);
        let timeout = match self.is_filling() {
            _ if is_wanted => Some(Duration::ZERO),
            true => Some(self.rest()),
            false => None,
        };
        let ready = self.wait(timeout)?;
        for (place, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
            match place {
                0 => self.hear()?,
                _ => self.take_events(place - 1)?,
            }
        }
        Ok(())
    }

    /// Waits for news; returns of the restore and of each space whether there is any.
    fn wait(&self, timeout: Option<Duration>) -> Result<Vec<bool>> {
        let restore: &[BorrowedFd<'_>] = match &self.restore {
            Restore::Awaited(listener) => &[listener.as_fd()],
            Restore::There(stream) => &[stream.as_fd()],
            Restore::Done => &[],
        };
        let spaces = self.spaces.iter().map(Space::fd);
        let all: Vec<BorrowedFd<'_>> = restore.iter().copied().chain(spaces).collect();
        let ready = match poll_readable(&all, timeout) {
            Err(error) if error.errno == Errno::EINTR => vec![Default::default(); all.len()],
            ready => ready.doing("wait for news")?,
        };
        let nothing = restore.is_empty().then_some(false);
        Ok(nothing
            .into_iter()
            .chain(ready.iter().map(|ready| ready.any()))
            .collect())
    }

    fn hear(&mut self) -> Result<()> {
        let word = match &self.restore {
            Restore::Awaited(listener) => {
                let (stream, _) = listener.accept().map_err(|source| Error::Listen {
                    path: link::SOCKET.into(),
                    source,
                })?;
                self.restore = Restore::There(stream);
                return Ok(());
            }
            Restore::There(stream) => link::receive(stream)?,
            Restore::Done => return Ok(()),
        };
        match word {
            Word::Space(pid, uffd) => {
                let runs = self.left.remove(&pid).ok_or(Error::Unknown(pid))?;
                self.add(pid, uffd, Extents::of(pid, &runs))?;
                match &self.restore {
                    Restore::There(stream) => link::accept(stream),
                    _ => Ok(()),
                }
            }
            Word::Finished => {
                tracing::info!("all are restored and run");
                self.restore = Restore::Done;
                Ok(())
            }
            Word::Gone => Err(Error::Gone("the restore has ended before all was restored")),
        }
    }

    fn add(&mut self, pid: i32, uffd: OwnedFd, extents: Extents) -> Result<()> {
        let id = self.next;
        self.next += 1;
        self.guard.hold(id, pid, &uffd)?;
        tracing::info!("process {pid}: {} pages are to come", extents.pages());
        self.served.spaces += 1;
        self.spaces.push(Space::new(id, pid, uffd, extents));
        Ok(())
    }

    fn take_events(&mut self, place: usize) -> Result<()> {
        let Some(space) = self.spaces.get_mut(place) else {
            return Ok(());
        };
        let pid = space.pid;
        for (uffd, extents) in space.take_events()? {
            self.add(pid, uffd, extents)?;
        }
        Ok(())
    }

    /// Lets go of spaces for which nothing is to come: the last close of its userfaultfd makes its memory as any other.
    fn let_go(&mut self) {
        for space in self.spaces.extract_if(.., |space| space.is_done()) {
            tracing::info!(
                "process {}: all is there, {} faults",
                space.pid,
                space.faults
            );
            self.served.faults += space.faults;
            self.guard.release(space.id);
        }
    }
}
