//! A connection between client and server: the socket itself, or TLS over it.

use rustls::{ClientConnection, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// A connection.
#[derive(Debug)]
pub enum Channel {
    /// As it is.
    Plain(TcpStream),
    /// By TLS, from the client.
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// By TLS, from the server.
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Channel {
    /// Returns the socket.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Channel::Plain(socket) => socket,
            Channel::Client(stream) => &stream.sock,
            Channel::Server(stream) => &stream.sock,
        }
    }

    /// Reads what the other side has sent already, and sends nothing of what is still to go: it may not be taken any more.
    ///
    /// # Errors
    /// Nothing is there.
    pub fn read_last(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let (read, socket) = match self {
                Channel::Plain(socket) => return socket.read(bytes),
                Channel::Client(stream) => {
                    (stream.conn.reader().read(bytes), stream.sock.try_clone()?)
                }
                Channel::Server(stream) => {
                    (stream.conn.reader().read(bytes), stream.sock.try_clone()?)
                }
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.take_records(socket)?
                }
                other => return other,
            }
        }
    }

    fn take_records(&mut self, mut socket: TcpStream) -> io::Result<()> {
        let taken = match self {
            Channel::Plain(_) => return Ok(()),
            Channel::Client(stream) => match stream.conn.read_tls(&mut socket)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => stream.conn.process_new_packets(),
            },
            Channel::Server(stream) => match stream.conn.read_tls(&mut socket)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => stream.conn.process_new_packets(),
            },
        };
        taken.map(drop).map_err(io::Error::other)
    }

    /// Tells the other side that nothing more comes. One who is gone does not hear it.
    fn say_farewell(&mut self) {
        match self {
            Channel::Plain(_) => {}
            Channel::Client(stream) => {
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
            Channel::Server(stream) => {
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.say_farewell();
    }
}

impl Read for Channel {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Channel::Plain(socket) => return socket.read(bytes),
            Channel::Client(stream) => stream.read(bytes).map_err(|error| (error, "the server")),
            Channel::Server(stream) => stream.read(bytes).map_err(|error| (error, "the client")),
        };
        read.map_err(|(error, who)| match error.get_ref() {
            Some(_) if error.kind() == io::ErrorKind::InvalidData => super::tls::plain(error, who),
            _ => error,
        })
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Channel::Plain(socket) => socket.write(bytes),
            Channel::Client(stream) => stream.write(bytes),
            Channel::Server(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Channel::Plain(socket) => socket.flush(),
            Channel::Client(stream) => stream.flush(),
            Channel::Server(stream) => stream.flush(),
        }
    }
}
