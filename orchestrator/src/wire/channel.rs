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
