//! What waits in a socket, read without taking it.

use crate::sys::{self, fd, socket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longest message: more than any buffer may hold by default.
const MAX_MESSAGE: usize = 16 << 20;
/// Messages are sought with this much room first: that for the longest takes a millisecond to be made.
const USUAL_MESSAGE: usize = 8 << 10;
/// What a message without credentials shows where they are asked for: no process, and nobody.
const NOBODY: [u32; 3] = [0, 65534, 65534];

/// A message, with the descriptors that come with it.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Its bytes.
    pub data: Vec<u8>,
    /// Number of its bytes, of which not all may have been read.
    len: usize,
    /// Duplicates of its descriptors.
    pub rights: Vec<OwnedFd>,
    /// Name of its sender.
    pub sender: Vec<u8>,
    /// Process, user and group that come with it.
    pub credentials: Option<[u32; 3]>,
}

/// Reads what waits in a socket of this kind, and leaves it there.
///
/// # Errors
/// Why it is not kept.
pub fn read(own: impl AsFd, kind: i32) -> Result<Vec<Waiting>, String> {
    let own = own.as_fd();
    if kind == libc::SOCK_STREAM && socket::has_urgent(own) {
        return Err("a byte waits in it that was sent out of band, which is not kept yet".into());
    }
    let held = fd::readable_bytes(own).map_err(lost)?;
    let has_credentials = socket::option(own, libc::SO_PASSCRED).map_err(lost)? != 0;
    if !has_credentials {
        socket::set_option(own, libc::SO_PASSCRED, 1).map_err(lost)?;
    }
    let offset = socket::option(own, libc::SO_PEEK_OFF).map_err(lost)?;
    // The first look is one without an offset.
    socket::set_option(own, libc::SO_PEEK_OFF, -1).map_err(lost)?;
    let mut queue = Queue {
        own,
        buffer: vec![0; USUAL_MESSAGE],
    };
    let read = match kind {
        libc::SOCK_STREAM => queue.stream(held),
        _ => queue.messages(),
    };
    socket::set_option(own, libc::SO_PEEK_OFF, offset).map_err(lost)?;
    if !has_credentials {
        socket::set_option(own, libc::SO_PASSCRED, 0).map_err(lost)?;
    }
    read
}

fn lost(error: sys::Error) -> String {
    format!("what waits in it cannot be read: {error}")
}

struct Queue<'a> {
    own: BorrowedFd<'a>,
    buffer: Vec<u8>,
}

impl Queue<'_> {
    /// Reads all messages. One look without an offset comes first: with one, the kernel shows an empty message only once
    /// (`__skb_try_recv_from_queue`, `net/core/datagram.c`), and somebody may have looked before.
    fn messages(&mut self) -> Result<Vec<Waiting>, String> {
        let mut all = Vec::new();
        let first = self.look(None, 0)?;
        all.extend(first.filter(|first| first.data.is_empty() && first.len == 0));
        let mut at = 0;
        while let Some(message) = self.look(Some(at), self.buffer.len())? {
            if message.len > MAX_MESSAGE {
                return Err(format!("a message of {} bytes waits in it", message.len));
            }
            if message.len > self.buffer.len() {
                self.buffer.resize(message.len, 0);
                continue;
            }
            at += message.len;
            all.push(message);
        }
        Ok(all)
    }

    /// Reads the bytes of a stream: never more than there are, as a look beyond them would take the error that waits there.
    fn stream(&mut self, held: usize) -> Result<Vec<Waiting>, String> {
        let mut all = Vec::new();
        let mut at = 0;
        while at < held {
            let missing = || format!("it holds {held} bytes and shows {at}");
            let mut part = self.look(Some(at), held - at)?.ok_or_else(missing)?;
            if part.data.is_empty() {
                return Err(missing());
            }
            let before = match part.rights.is_empty() {
                true => 0,
                false => self.bytes_before_rights(at, part.data.len())?,
            };
            at += part.data.len();
            if before > 0 {
                let data = part.data.drain(..before).collect();
                all.push(Waiting {
                    data,
                    credentials: part.credentials,
                    ..Waiting::default()
                });
            }
            all.push(part);
        }
        Ok(all)
    }

    /// Returns how many of `len` bytes at `at` come before those that descriptors come with: a read goes on to them, and ends
    /// with them.
    fn bytes_before_rights(&mut self, at: usize, len: usize) -> Result<usize, String> {
        let (mut without, mut with) = (0, len);
        while with - without > 1 {
            let middle = without.midpoint(with);
            let seen = self.look(Some(at), middle)?;
            match seen.is_some_and(|seen| !seen.rights.is_empty()) {
                true => with = middle,
                false => without = middle,
            }
        }
        Ok(without)
    }

    fn seek(&self, at: usize) -> Result<(), String> {
        socket::set_option(self.own, libc::SO_PEEK_OFF, at as i32).map_err(lost)
    }

    /// Looks at the next message of at most `len` bytes, at an offset where one is given; `None` = there is none.
    fn look(&mut self, at: Option<usize>, len: usize) -> Result<Option<Waiting>, String> {
        if let Some(at) = at {
            self.seek(at)?;
        }
        if len > self.buffer.len() {
            self.buffer.resize(len, 0);
        }
        let peeked = match socket::peek(self.own, &mut self.buffer[..len]) {
            Ok(peeked) => peeked,
            Err(error) if error.errno as i32 == libc::EAGAIN => return Ok(None),
            // It is shut, and nothing is left.
            Err(error) if error.errno as i32 == libc::ENOTCONN => return Ok(None),
            Err(error) => return Err(lost(error)),
        };
        // The end of what was shut shows as a message of nothing, and without the credentials that every message has.
        if peeked.len == 0 && peeked.credentials.is_none() {
            return Ok(None);
        }
        if peeked.has_more {
            return Err("more comes with what waits in it than is known".into());
        }
        Ok(Some(Waiting {
            data: self.buffer[..peeked.len.min(len)].to_vec(),
            len: peeked.len,
            rights: peeked.rights,
            sender: peeked.sender,
            credentials: peeked.credentials.filter(|told| *told != NOBODY),
        }))
    }
}
