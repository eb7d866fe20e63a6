//! The dump's side of a page server: pages go through one connection, holder after holder, and are counted as stored when the
//! server says so.
//!
//! The target stands still meanwhile, so nobody is waited for without end: a server that does not take or answer anything
//! for [`PATIENCE`] is given up.

use super::Error;
use super::channel::Channel;
use super::protocol::{self, Holder, LEN, Request};
use super::tls::Tls;
use crate::snapshot::PAGE_SIZE;
use std::io::{self, BufWriter, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest time that a server may take for an answer, or to take what it was sent.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time that a connection may take.
const CONNECTING: Duration = Duration::from_secs(10);
/// Bytes of small runs sent at a time.
const BUFFER: usize = 64 << 10;

/// Where a page server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At a host and port.
    Address(String, u16),
    /// Behind a connected socket that we were given.
    Socket(i32),
}

/// Where a page server is, and how one speaks to it.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Where.
    pub place: Place,
    /// The name that it has to have in its certificate.
    pub name: Option<String>,
    /// By TLS.
    pub tls: Option<Tls>,
}

/// A connection to a page server.
#[derive(Debug, Clone)]
pub struct Server {
    connection: Arc<Mutex<Connection>>,
}

#[derive(Debug)]
struct Connection {
    channel: BufWriter<Channel>,
    address: String,
    close: u16,
    /// The first byte of a status that was read as the answer of one byte to another request: a server that gives up says so
    /// whatever it was asked meanwhile.
    first: Option<u8>,
    /// It takes pages that are as in the parent task.
    knows_tasks: bool,
}

impl Server {
    /// Connects to a page server.
    ///
    /// # Errors
    /// Nobody is there, or somebody who is not trusted.
    pub fn connect(reach: &Reach) -> Result<Self, Error> {
        let (socket, address, close) = match &reach.place {
            Place::Address(host, port) => {
                let address = format!("{host}:{port}");
                let socket = call(host, *port).map_err(|source| Error::Connect {
                    address: address.clone(),
                    source,
                })?;
                (socket, address, protocol::CLOSE)
            }
            Place::Socket(fd) => {
                let fd = *fd;
                let socket = inherited(fd).map_err(|source| Error::Descriptor { fd, source })?;
                let address = format!("behind descriptor {fd}");
                (socket, address, protocol::FORCE_CLOSE)
            }
        };
        let connection = Connection::new(socket, close, reach);
        let connection = connection.map_err(|source| Error::Connect {
            address: address.clone(),
            source,
        })?;
        let connection = Connection {
            address,
            ..connection
        };
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    /// Begins the pages of a holder.
    ///
    /// # Errors
    /// The server is gone, or failed.
    pub fn open(&self, holder: Holder) -> Result<(), Error> {
        self.with(|connection| {
            connection.send(Request {
                command: protocol::OPEN2,
                flags: protocol::EXTENDED,
                holder: holder.id(),
                ..Request::default()
            })?;
            let mut answer = [0];
            connection.answer(&mut answer)?;
            let known = protocol::HAS_PARENT | protocol::KNOWS_TASKS;
            connection.first = Some(answer[0]).filter(|first| first & !known != 0);
            connection.knows_tasks = answer[0] & protocol::KNOWS_TASKS != 0;
            match connection.first {
                None => Ok(()),
                Some(_) => Err(io::ErrorKind::ConnectionAborted.into()),
            }
        })
    }

    /// Returns whether the server takes pages that are as in the parent task, as it said when a holder was opened.
    pub fn knows_tasks(&self) -> bool {
        self.lock().knows_tasks
    }

    /// Returns whether the server has a parent image of a holder.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn has_parent(&self, holder: Holder) -> Result<bool, Error> {
        let answer = self.with(|connection| {
            connection.send(Request {
                command: protocol::PARENT,
                holder: holder.id(),
                ..Request::default()
            })?;
            let mut answer = [0; 4];
            connection.answer(&mut answer)?;
            Ok(i32::from_le_bytes(answer))
        })?;
        match answer {
            0 | 1 => Ok(answer == 1),
            status => Err(self.told(status)),
        }
    }

    /// Adds pages with their bytes.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn add(&self, holder: Holder, address: u64, flags: u16, bytes: &[u8]) -> Result<(), Error> {
        self.with(|connection| {
            connection.send(Request {
                command: protocol::ADD_F,
                flags: flags | protocol::PRESENT,
                pages: bytes.len() as u64 / PAGE_SIZE,
                address,
                holder: holder.id(),
            })?;
            connection.channel.write_all(bytes)
        })
    }

    /// Adds pages whose bytes the server has: `flags` say where.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn add_known(
        &self,
        holder: Holder,
        (address, pages): (u64, u64),
        flags: u16,
    ) -> Result<(), Error> {
        self.with(|connection| {
            connection.send(Request {
                command: protocol::ADD_F,
                flags,
                pages,
                address,
                holder: holder.id(),
            })
        })
    }

    /// Asks for pages of a process, and returns how many came, from the first on.
    ///
    /// # Errors
    /// The server is gone, failed, or answers what was not asked.
    pub fn get(&self, pid: u32, address: u64, bytes: &mut [u8]) -> Result<u64, Error> {
        self.with(|connection| {
            let asked = bytes.len() as u64 / PAGE_SIZE;
            connection.send(Request {
                command: protocol::GET,
                pages: asked,
                address,
                holder: pid.into(),
                ..Request::default()
            })?;
            let mut answer = [0; LEN];
            connection.answer(&mut answer)?;
            let answer = Request::from_bytes(&answer);
            let is_right = matches!(answer.command, protocol::ADD | protocol::ADD_F)
                && answer.address == address
                && (1..=asked).contains(&answer.pages);
            if !is_right {
                let words =
                    format!("it does not have {asked} pages of process {pid} at {address:#x}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, words));
            }
            let len = (answer.pages * PAGE_SIZE) as usize;
            connection.channel.get_mut().read_exact(&mut bytes[..len])?;
            Ok(answer.pages)
        })
    }

    /// Ends, once the server has stored all of it.
    ///
    /// # Errors
    /// It has not.
    pub fn close(&self) -> Result<(), Error> {
        let status = self.with(|connection| {
            connection.send(Request {
                command: connection.close,
                ..Request::default()
            })?;
            let mut answer = [0; 4];
            connection.answer(&mut answer)?;
            Ok(i32::from_le_bytes(answer))
        })?;
        match status {
            0 => Ok(()),
            status => Err(self.told(status)),
        }
    }

    /// Runs `work` on the connection. Where it breaks, the server may have said why.
    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> io::Result<T>) -> Result<T, Error> {
        let mut connection = self.lock();
        match work(&mut connection) {
            Ok(value) => Ok(value),
            Err(source) => {
                let status = connection.last_words();
                let address = connection.address.clone();
                drop(connection);
                Err(match status {
                    Some(status) => self.told(status),
                    None => Error::Broken {
                        address,
                        source: plain(source),
                    },
                })
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        // Whoever panics ends the process.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, status: i32) -> Error {
        Error::Told {
            address: self.lock().address.clone(),
            reason: match status {
                errno @ -4095..=-1 => io::Error::from_raw_os_error(-errno),
                other if is_alert(&other.to_le_bytes()) => speaks_tls(),
                other => io::Error::other(format!("it answered {other}")),
            },
        }
    }
}

impl Connection {
    fn new(socket: TcpStream, close: u16, reach: &Reach) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        // A socket of another family has no such delay.
        let _ = socket.set_nodelay(true);
        let channel = match &reach.tls {
            Some(tls) => tls.connect(socket, reach.name.as_deref())?,
            None => Channel::Plain(socket),
        };
        // The peer's server takes what one record brings for what one request is: none may end in the middle of a record.
        let buffer = match channel {
            Channel::Plain(_) => BUFFER,
            _ => 0,
        };
        Ok(Self {
            channel: BufWriter::with_capacity(buffer, channel),
            address: String::new(),
            close,
            first: None,
            knows_tasks: false,
        })
    }

    fn send(&mut self, request: Request) -> io::Result<()> {
        let bytes: [u8; LEN] = request.to_bytes();
        self.channel.write_all(&bytes)
    }

    fn answer(&mut self, answer: &mut [u8]) -> io::Result<()> {
        self.channel.flush()?;
        let channel = self.channel.get_mut();
        let mut got = 0;
        while got < answer.len() {
            match channel.read(&mut answer[got..])? {
                0 if is_alert(&answer[..got]) => return Err(speaks_tls()),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => got += more,
            }
        }
        Ok(())
    }

    /// Returns the status that a server sent before it gave up.
    fn last_words(&mut self) -> Option<i32> {
        let mut status = [0; 4];
        let known = self.first.map_or(0, |first| {
            status[0] = first;
            1
        });
        // The rest of a status that has begun is on its way.
        let channel = self.channel.get_mut();
        channel.socket().set_nonblocking(known == 0).ok()?;
        let mut got = known;
        while got < status.len() {
            match channel.read_last(&mut status[got..]).ok()? {
                0 => return None,
                more => got += more,
            }
        }
        Some(i32::from_le_bytes(status)).filter(|status| *status != 0)
    }
}

/// Says a timeout as one: the kernel says that the socket would have to be waited for.
fn plain(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(
            io::ErrorKind::TimedOut,
            format!("it did not answer for {} s", PATIENCE.as_secs()),
        ),
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it has gone"),
        _ => error,
    }
}

/// Returns whether bytes begin as the word by which TLS breaks off.
fn is_alert(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x15, 3])
}

fn speaks_tls() -> io::Error {
    io::Error::other("it speaks TLS: use --tls on both sides")
}

fn call(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECTING) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Returns a socket that this program was started with.
///
/// # Errors
/// There is no such descriptor, or it is no connected socket.
pub fn inherited(fd: i32) -> io::Result<TcpStream> {
    let copy: OwnedFd = crate::sys::fd::inherited(fd)?;
    crate::sys::socket::option(&copy, libc::SO_TYPE).map_err(|error| error.errno)?;
    Ok(TcpStream::from(copy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair(server: impl FnOnce(TcpStream) + Send + 'static) -> Result<Server, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || server(listener.accept().expect("a client").0));
        Server::connect(&Reach {
            place: Place::Address("127.0.0.1".into(), port),
            name: None,
            tls: None,
        })
    }

    #[test]
    fn a_server_says_why_it_failed() {
        let server = pair(|mut socket| {
            let mut request = [0; LEN];
            socket.read_exact(&mut request).expect("a request");
            socket
                .write_all(&(-libc::ENOSPC).to_le_bytes())
                .expect("an answer");
        });
        let error = server.expect("connected").close().expect_err("failed");
        assert!(
            crate::error::chain(&error).contains("No space left"),
            "{error:?}"
        );
    }

    #[test]
    fn a_server_that_is_gone_is_an_error() {
        let server = pair(drop).expect("connected");
        let error = server.open(Holder::Task(1)).expect_err("gone");
        assert!(matches!(error, Error::Broken { .. }), "{error:?}");
    }
}
