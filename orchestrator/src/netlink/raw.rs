//! Messages of netlink as bytes: what the kernel tells is what it takes, so that whatever an object has is kept, also what this
//! program does not know.

use netlink_packet_core::{DefaultNla, Emitable, NlasIterator};
use netlink_sys::{Socket, SocketAddr};
use std::io;

/// Flags of a request: that it is one, that it is answered, that all are asked for.
pub const REQUEST: u16 = 1;
/// See [`REQUEST`].
pub const ACKNOWLEDGED: u16 = 4;
/// See [`REQUEST`].
pub const ALL: u16 = 0x300;
/// How something is made: in the place of what is there, only where nothing is, at all, behind what is there.
pub const REPLACE: u16 = 0x100;
/// See [`REPLACE`].
pub const EXCLUSIVE: u16 = 0x200;
/// See [`REPLACE`].
pub const CREATE: u16 = 0x400;
/// See [`REPLACE`].
pub const APPEND: u16 = 0x800;
/// Of the kind of an attribute: others are in it.
pub const NESTED: u16 = 0x8000;
/// What of the kind of an attribute is its number.
const NUMBER: u16 = 0x3fff;
/// Types of answers.
pub const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Bytes of a header.
pub const HEADER: usize = 16;
/// Bytes received at a time; the kernel fills less.
const BUFFER: usize = 64 << 10;

/// A message: what it is, and what follows its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `RTM_*` and the like.
    pub kind: u16,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// Asks the kernel, in the network namespace that it was opened in.
#[derive(Debug)]
pub struct Asker {
    socket: Socket,
}

impl Asker {
    /// Opens one for a protocol (`NETLINK_*`).
    ///
    /// # Errors
    /// The kernel has none such, or we may not.
    pub fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// Returns all that there is of what is asked for.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn all(&self, kind: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        self.socket.send(&message(kind, REQUEST | ALL, body), 0)?;
        let mut told = Vec::new();
        loop {
            let mut buffer = Vec::with_capacity(BUFFER);
            self.socket.recv(&mut buffer, 0)?;
            for (kind, body) in messages(&buffer) {
                match kind {
                    DONE => return Ok(told),
                    ERROR => return check(body).map(|()| told),
                    _ => told.push(Message {
                        kind,
                        body: body.to_vec(),
                    }),
                }
            }
        }
    }

    /// Has something done.
    ///
    /// # Errors
    /// The kernel's.
    pub fn have_done(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let flags = REQUEST | ACKNOWLEDGED | flags;
        self.socket.send(&message(kind, flags, body), 0)?;
        loop {
            let mut buffer = Vec::with_capacity(BUFFER);
            self.socket.recv(&mut buffer, 0)?;
            let answers = messages(&buffer);
            if let Some((_, body)) = answers.iter().find(|(kind, _)| *kind == ERROR) {
                return check(body);
            }
        }
    }
}

/// Returns a message of this kind.
pub fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend_from_slice(body);
    bytes
}

/// Returns the messages in a datagram: type and what follows the header.
pub fn messages(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut all = Vec::new();
    while let Some(header) = bytes.get(..HEADER) {
        let len = u32::from_ne_bytes(header[..4].try_into().expect("4 bytes")) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(body) = bytes.get(HEADER..len.max(HEADER)) else {
            break;
        };
        all.push((kind, body));
        bytes = bytes
            .get(len.max(HEADER).next_multiple_of(4)..)
            .unwrap_or_default();
    }
    all
}

/// Returns what an answer says.
///
/// # Errors
/// The kernel's.
pub fn check(body: &[u8]) -> io::Result<()> {
    let errno = body.get(..4).map(|word| word.try_into().expect("4 bytes"));
    match errno.map_or(0, i32::from_ne_bytes) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}

/// Returns an attribute, ended at a multiple of 4.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let attribute = DefaultNla::new(kind, value.to_vec());
    let mut bytes = vec![0; attribute.buffer_len()];
    attribute.emit(&mut bytes);
    bytes
}

/// Returns numbers and values of attributes, up to the first that is none.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let all = NlasIterator::new(bytes).map_while(Result::ok);
    all.map(|one| {
        let value = one.into_inner();
        let len = usize::from(u16::from_ne_bytes([value[0], value[1]]));
        let kind = u16::from_ne_bytes([value[2], value[3]]);
        (kind & NUMBER, &value[4..len])
    })
}

/// Returns the value of an attribute.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(other, value)| (other == kind).then_some(value))
}

/// Returns the number in an attribute's value.
pub fn number(value: &[u8]) -> Option<u32> {
    value.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// Returns a text in an attribute's value, without the zero at its end.
pub fn name(value: &[u8]) -> Vec<u8> {
    let end = value.iter().position(|byte| *byte == 0);
    value[..end.unwrap_or(value.len())].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_padded_and_tells_its_length_without_that() {
        assert_eq!(attribute(1, b"ab\0"), [7, 0, 1, 0, b'a', b'b', 0, 0]);
        let two = [
            attribute(NESTED | 2, b"ab"),
            attribute(3, &7_u32.to_ne_bytes()),
        ]
        .concat();
        assert_eq!(find(&two, 2), Some(&b"ab"[..]));
        assert_eq!(find(&two, 3).and_then(number), Some(7));
        assert_eq!(find(&two[..9], 3), None);
        assert_eq!(attributes(&[9, 0, 1, 0, 5]).count(), 0);
    }

    #[test]
    fn messages_are_told_apart() {
        let both = [message(2, 0, &[]), message(3, 0, &[1, 2, 3, 4])].concat();
        let kinds: Vec<u16> = messages(&both).iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [2, 3]);
    }
}
