//! The page server: takes the pages of one dump from a socket and stores them in an images folder, in the peer's protocol.
//!
//! It serves one client and ends: with status 0 where all that was sent is stored. What fails here is told to the client by
//! its errno, so that the dump fails there, with the reason.

mod hand_out;

pub use hand_out::{Pages, StoredPages, hand_out};

use crate::wire::channel::Channel;
use crate::wire::tls::Tls;

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use crate::image::{self, PageStore, StoreError};
use crate::wire::protocol::{self, Holder, LEN, Request};

/// Bytes received at a time.
const BUFFER: usize = 256 << 10;
/// Answer to a client whose requests cannot be.
const BAD_REQUEST: i32 = -libc::EINVAL;

/// Why a page server failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody can be waited for.
    #[error("cannot listen at {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The client broke off.
    #[error("the client is gone before it has sent all: its dump failed, or the connection broke")]
    Gone(#[source] io::Error),
    /// The client asks for what is not known.
    #[error(
        "the client sent a request that is not known (command {command:#x}, flags {flags:#x}, holder {holder:#x})"
    )]
    Request {
        /// The command.
        command: u16,
        /// Its flags.
        flags: u16,
        /// Whose pages.
        holder: u64,
    },
    /// The client is not who it should be.
    #[error("the client cannot be served")]
    Untrusted(#[source] io::Error),
    /// The client speaks TLS, and we were not told to.
    #[error("the client speaks TLS: use --tls on both sides")]
    SpeaksTls,
    /// Pages that are asked for.
    #[error("{pages} pages of process {pid} at {address:#x} cannot be handed out")]
    Pages {
        /// Whose.
        pid: i32,
        /// The first.
        address: u64,
        /// How many.
        pages: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The pages cannot be stored.
    #[error(transparent)]
    Image(#[from] image::Error),
}

impl Error {
    /// Returns what the client is told.
    fn status(&self) -> i32 {
        let source = match self {
            Error::Image(image::Error::Io { source, .. } | image::Error::Folder { source, .. }) => {
                source
            }
            _ => return BAD_REQUEST,
        };
        source.raw_os_error().map_or(-libc::EIO, |errno| -errno)
    }
}

/// What was received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Address spaces and shared segments.
    pub holders: u64,
    /// Pages stored.
    pub pages: u64,
}

/// Waits at an address for the client.
///
/// # Errors
/// The address cannot be had.
pub fn listen(address: &str, port: u16) -> Result<TcpListener, Error> {
    TcpListener::bind((address, port)).map_err(|source| Error::Listen {
        address: format!("{address}:{port}"),
        source,
    })
}

/// Takes up a connection with the client behind a socket.
///
/// # Errors
/// It is not trusted.
pub fn greet(socket: TcpStream, tls: Option<&Tls>) -> Result<Channel, Error> {
    watch(&socket);
    match tls {
        Some(tls) => tls.accept(socket).map_err(Error::Untrusted),
        None => Ok(Channel::Plain(socket)),
    }
}

/// Where the pages of a client go.
#[derive(Debug, Clone, Copy)]
pub struct Shelf<'a> {
    /// The images folder.
    pub dir: &'a Path,
    /// Where the set before lies, from there, if that was said.
    pub parent: Option<&'a Path>,
    /// What these pages supersede is taken out of the sets before.
    pub dedup: bool,
}

/// Serves a client, and stores its pages.
///
/// # Errors
/// The client is gone before it was done, sends what cannot be, or the pages cannot be stored.
pub fn serve(channel: Channel, shelf: Shelf<'_>) -> Result<Received, Error> {
    let mut client = Client::new(channel);
    let mut session = Session {
        store: PageStore::create(shelf.dir, shelf.parent)
            .inspect_err(|_| client.tell(-libc::EIO))?,
        pages: 0,
    };
    let served = session.serve(&mut client);
    let Session { store, pages } = session;
    let finished = served.and_then(|()| Ok(store.finish()?));
    match finished {
        Ok(stored) => {
            client.tell(0);
            let holders = stored.holders;
            if shelf.dedup {
                // What is stored stays whole, whatever comes of it.
                let superseded = stored.take_out_superseded()?;
                tracing::info!("{superseded} pages of parent sets were superseded");
            }
            Ok(Received { holders, pages })
        }
        Err(error) => {
            client.tell(error.status());
            Err(error)
        }
    }
}

/// Lets the kernel find out when the other side is gone without a word.
fn watch(socket: &TcpStream) {
    const IDLE: i32 = 20;
    const INTERVAL: i32 = 5;
    const PROBES: i32 = 6;
    // A socket of another family has none of it, and needs none.
    let _ = crate::sys::socket::keep_alive(socket, IDLE, INTERVAL, PROBES);
    let _ = socket.set_nodelay(true);
}

#[derive(Debug)]
struct Client {
    channel: BufReader<Channel>,
}

impl Client {
    fn new(channel: Channel) -> Self {
        Self {
            channel: BufReader::with_capacity(BUFFER, channel),
        }
    }

    fn request(&mut self) -> Result<Request, Error> {
        let mut bytes = [0; LEN];
        self.channel.read_exact(&mut bytes).map_err(Error::Gone)?;
        match (&bytes, self.channel.get_ref()) {
            // A client's first word in TLS.
            ([0x16, 3, ..], Channel::Plain(_)) => Err(Error::SpeaksTls),
            _ => Ok(Request::from_bytes(&bytes)),
        }
    }

    /// Sends a status. One who is gone does not hear it.
    fn tell(&mut self, status: i32) {
        let _ = self.answer(&status.to_le_bytes());
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let channel = self.channel.get_mut();
        let written = channel.write_all(bytes);
        written.and_then(|()| channel.flush()).map_err(Error::Gone)
    }
}

#[derive(Debug)]
struct Session {
    store: PageStore,
    pages: u64,
}

impl Session {
    fn serve(&mut self, client: &mut Client) -> Result<(), Error> {
        loop {
            let request = client.request()?;
            let unknown = || Error::Request {
                command: request.command,
                flags: request.flags,
                holder: request.holder,
            };
            if matches!(request.command, protocol::CLOSE | protocol::FORCE_CLOSE) {
                return Ok(());
            }
            let holder = Holder::from_id(request.holder).ok_or_else(unknown)?;
            let run = (request.address, request.pages);
            match (request.command, request.flags & !protocol::LAZY) {
                (protocol::OPEN, 0) => drop(self.store.open(holder)?),
                (protocol::OPEN2, flags @ (0 | protocol::EXTENDED)) => {
                    let has_parent = self.store.open(holder)?;
                    let answer = match flags {
                        0 => 0,
                        _ => protocol::KNOWS_TASKS,
                    };
                    let answer = answer | (u8::from(has_parent) * protocol::HAS_PARENT);
                    client.answer(&[answer])?;
                }
                (protocol::PARENT, 0) => {
                    let answer = i32::from(self.store.has_parent(holder)?);
                    client.tell(answer);
                }
                (protocol::ADD, 0) | (protocol::ADD_F, protocol::PRESENT) => {
                    let added = self
                        .store
                        .add(holder, run, request.flags, &mut client.channel);
                    added.map_err(|error| match error {
                        StoreError::Source(source) => Error::Gone(source),
                        StoreError::Image(error) => Error::Image(error),
                    })?;
                    self.pages += request.pages;
                }
                (protocol::HOLE, 0) | (protocol::ADD_F, protocol::IN_PARENT) => {
                    self.store.hole(holder, run.0, run.1)?;
                }
                (protocol::ADD_F, protocol::IN_PARENT_TASK) => {
                    self.store.as_in_task(holder, run.0, run.1)?;
                }
                _ => return Err(unknown()),
            }
        }
    }
}
