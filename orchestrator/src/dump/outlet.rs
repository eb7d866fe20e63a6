//! Where a dump's pages go: with the images, to page files or into a stream, or to a page server.

use super::Error;
use crate::image::{self, ImageWriter};
use crate::memory::output::{PageOutput, Remote, Sink};
use crate::snapshot::Vma;
use crate::wire::batches::Packing;
use crate::wire::client::{Reach, Server};
use crate::wire::protocol::Holder;
use std::fs::File;
use std::path::Path;

/// Where the images of a dump go.
#[derive(Debug)]
pub enum Destination<'a> {
    /// Into a folder.
    Folder(&'a Path),
    /// Into a stream.
    Stream(File),
}

impl Destination<'_> {
    /// Returns the images folder: where there is none, a parent set is looked for from here on.
    pub fn dir(&self) -> &Path {
        match self {
            Destination::Folder(dir) => dir,
            Destination::Stream(_) => Path::new("."),
        }
    }
}

/// The way that pages take.
#[derive(Debug)]
pub struct Outlet {
    server: Option<Server>,
    packing: Option<Packing>,
    is_stream: bool,
}

impl Outlet {
    /// Makes the writer of the images, and connects to a page server where one is named; `is_tracked` = there is to be a next round.
    ///
    /// # Errors
    /// The folder cannot be opened, or nobody is at the other end.
    pub fn open(
        destination: Destination<'_>,
        (server, packing): (Option<&Reach>, Option<Packing>),
        is_tracked: bool,
    ) -> Result<(ImageWriter, Self), Error> {
        let is_stream = matches!(destination, Destination::Stream(_));
        let mut writer = match destination {
            Destination::Folder(dir) => ImageWriter::create(dir)?,
            Destination::Stream(to) => ImageWriter::stream(to)?,
        };
        let server = server.map(Server::connect).transpose();
        let server = server.map_err(image::Error::from)?;
        if server.is_some() {
            writer.leave_memory_out(is_tracked);
        }
        if packing.is_some() {
            writer.say_packed();
        }
        let outlet = Self {
            server,
            packing,
            is_stream,
        };
        Ok((writer, outlet))
    }

    /// Begins the pages of a holder, with the number of their page file.
    ///
    /// # Errors
    /// A file cannot be made, or the server failed.
    pub fn output(
        &self,
        writer: &mut ImageWriter,
        holder: Holder,
        pages_id: u32,
    ) -> Result<PageOutput, Error> {
        let sink = match &self.server {
            Some(server) => Sink::Server(Remote::open(server, holder)?),
            None => writer.page_sink(pages_id)?,
        };
        let sink = match self.packing {
            Some(packing) => sink.packed(packing),
            None => sink,
        };
        Ok(PageOutput::to(sink, pages_id))
    }

    /// Returns whether pages of a child may be left to what the images say of its parent: the peer's page server knows no such
    /// thing. Ours says that it does when the first holder was begun.
    pub fn takes_parents_pages(&self) -> bool {
        self.server.as_ref().is_none_or(Server::knows_tasks)
    }

    /// Returns whether there is a set before of a process where its pages go.
    ///
    /// # Errors
    /// The server failed.
    pub fn has_parent(&self, pid: i32) -> Result<bool, Error> {
        match &self.server {
            Some(server) => {
                let has = server.has_parent(Holder::Task(pid as u32));
                Ok(has.map_err(image::Error::from)?)
            }
            None => Ok(true),
        }
    }

    /// Returns whether the page server keeps the sets before.
    pub fn is_elsewhere(&self) -> bool {
        self.server.is_some()
    }

    /// Returns whether one holder's pages may go to several files: those of a stream come one after the other.
    pub fn takes_several_files(&self) -> bool {
        self.server.is_none() && self.packing.is_none() && !self.is_stream
    }

    /// Waits until a page server has stored all.
    ///
    /// # Errors
    /// It has not.
    pub fn close(&self) -> Result<(), Error> {
        match &self.server {
            Some(server) => Ok(server.close().map_err(image::Error::from)?),
            None => Ok(()),
        }
    }
}

/// Returns the ranges that a page server has to know of.
pub fn lazy(vmas: &[Vma]) -> Vec<[u64; 2]> {
    image::lazy_ranges(vmas)
}
