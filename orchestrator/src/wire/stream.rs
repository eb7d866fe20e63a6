//! An image set in one stream: what `dump --stream` writes and `restore --stream` reads (docs/streaming.md).
//!
//! ```text
//! 8 bytes   "ORCHSTR1"
//! frames    u32 kind, u32 file, u64 length, u64 checksum (XXH3 of the bytes), and that many bytes
//!             1 BEGIN  the bytes are the name of a new file of this number
//!             2 DATA   the next bytes of that file
//!             3 END    file = how many files there were, length = how many bytes of data; no bytes follow
//! ```
//!
//! A file ends where the next begins. `inventory.img` comes last, and END after it: without both there is no set.

use super::Error;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 8] = *b"ORCHSTR1";
const HEADER: usize = 24;
const BEGIN: u32 = 1;
const DATA: u32 = 2;
const END: u32 = 3;
/// Longest frame: what one side has to hold at a time.
const MAX_FRAME: usize = 1 << 20;
/// Longest name of a file in an image set.
const MAX_NAME: usize = 64;
/// Most files of a set: each thread has one, and there are no more threads than process ids.
const MAX_FILES: u32 = 1 << 23;
/// The file that makes a set valid.
const LAST: &str = "inventory.img";

/// A stream being written.
#[derive(Debug, Clone)]
pub struct Writer(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    to: File,
    files: u32,
    bytes: u64,
}

/// A file in a stream.
#[derive(Debug)]
pub struct Part {
    stream: Writer,
    number: u32,
}

impl Writer {
    /// Begins a stream.
    ///
    /// # Errors
    /// Nobody reads it.
    pub fn begin(mut to: File) -> Result<Self, Error> {
        to.write_all(&MAGIC).map_err(Error::Stream)?;
        Ok(Self(Arc::new(Mutex::new(State {
            to,
            files: 0,
            bytes: 0,
        }))))
    }

    /// Begins a file.
    ///
    /// # Errors
    /// Nobody reads the stream.
    pub fn file(&self, name: &str) -> Result<Part, Error> {
        let mut state = self.lock();
        state.files += 1;
        let number = state.files;
        state
            .frame(BEGIN, number, name.as_bytes())
            .map_err(Error::Stream)?;
        drop(state);
        Ok(Part {
            stream: self.clone(),
            number,
        })
    }

    /// Ends the stream: the set is complete.
    ///
    /// # Errors
    /// Nobody reads it.
    pub fn end(&self) -> Result<(), Error> {
        let mut state = self.lock();
        let header = header(END, state.files, state.bytes, 0);
        state.to.write_all(&header).map_err(Error::Stream)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Whoever panics ends the process.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(MAX_FRAME);
        let mut state = self.stream.lock();
        if state.files != self.number {
            return Err(io::Error::other("another file was begun"));
        }
        state.frame(DATA, self.number, &bytes[..len])?;
        state.bytes += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl State {
    fn frame(&mut self, kind: u32, file: u32, bytes: &[u8]) -> io::Result<()> {
        let header = header(kind, file, bytes.len() as u64, xxh3_64(bytes));
        self.to.write_all(&header)?;
        self.to.write_all(bytes)
    }
}

fn header(kind: u32, file: u32, len: u64, sum: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[4..8].copy_from_slice(&file.to_le_bytes());
    header[8..16].copy_from_slice(&len.to_le_bytes());
    header[16..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Reads a stream to its end; `create` makes each file, and refuses names that no image has.
///
/// # Errors
/// It is cut, damaged, or a file cannot be written.
pub fn receive(
    mut from: impl Read,
    mut create: impl FnMut(&str) -> io::Result<Option<File>>,
) -> Result<(), Error> {
    let mut magic = [0; MAGIC.len()];
    exact(&mut from, &mut magic)?;
    if magic != MAGIC {
        return Err(Error::Damaged("it does not begin as one".into()));
    }
    let mut current: Option<File> = None;
    let mut names = BTreeSet::new();
    let (mut total, mut last) = (0, String::new());
    let mut buffer = Vec::new();
    loop {
        let mut head = [0; HEADER];
        exact(&mut from, &mut head)?;
        let (kind, number, len, sum) = fields(&head);
        if kind == END {
            let complete = (number as usize, len) == (names.len(), total) && last == LAST;
            return match complete {
                true => Ok(()),
                false => Err(Error::Damaged("files are missing from it".into())),
            };
        }
        read_frame(&mut from, (kind, len, sum), &mut buffer)?;
        match kind {
            BEGIN => {
                let (name, file) = begin(&buffer, &mut create)?;
                let is_next = number as usize == names.len() + 1 && number <= MAX_FILES;
                if !is_next || !names.insert(name.clone()) {
                    return Err(Error::Damaged(format!("{name} is there twice")));
                }
                (current, last) = (Some(file), name);
            }
            _ => {
                let is_current = number as usize == names.len();
                let file = current.as_mut().filter(|_| is_current);
                let file = file.ok_or_else(|| Error::Damaged("data of another file".into()))?;
                file.write_all(&buffer).map_err(Error::Keep)?;
                total += len;
            }
        }
    }
}

fn fields(head: &[u8; HEADER]) -> (u32, u32, u64, u64) {
    let half = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let word = |at: usize| u64::from(half(at)) | u64::from(half(at + 4)) << 32;
    (half(0), half(4), word(8), word(16))
}

fn read_frame(
    from: &mut impl Read,
    (kind, len, sum): (u32, u64, u64),
    buffer: &mut Vec<u8>,
) -> Result<(), Error> {
    let limit = match kind {
        BEGIN => MAX_NAME,
        DATA => MAX_FRAME,
        _ => {
            return Err(Error::Damaged(format!(
                "frames of kind {kind} are not known"
            )));
        }
    };
    match usize::try_from(len) {
        Ok(len) if len <= limit => buffer.resize(len, 0),
        _ => return Err(Error::Damaged(format!("a frame of {len} bytes"))),
    }
    exact(from, buffer)?;
    match xxh3_64(buffer) == sum {
        true => Ok(()),
        false => Err(Error::Damaged("a checksum is wrong".into())),
    }
}

fn begin(
    name: &[u8],
    create: &mut impl FnMut(&str) -> io::Result<Option<File>>,
) -> Result<(String, File), Error> {
    let name = str::from_utf8(name).unwrap_or_default();
    match create(name).map_err(Error::Keep)? {
        Some(file) => Ok((name.into(), file)),
        None => Err(Error::Damaged(format!("{name:?} is no image"))),
    }
}

fn exact(from: &mut impl Read, bytes: &mut [u8]) -> Result<(), Error> {
    from.read_exact(bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => Error::Cut,
        _ => Error::Read(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    fn stream() -> Vec<u8> {
        let mut file = tempfile::tempfile().expect("file");
        let writer = Writer::begin(file.try_clone().expect("a duplicate")).expect("begun");
        let mut pages = writer.file("pages-1.img").expect("a file");
        pages.write_all(&[7; 3 << 20]).expect("written");
        let mut inventory = writer.file(LAST).expect("a file");
        inventory.write_all(b"all").expect("written");
        writer.end().expect("ended");
        file.rewind().expect("rewound");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("read");
        bytes
    }

    fn take(bytes: &[u8]) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        receive(bytes, |name| {
            names.push(name.to_string());
            tempfile::tempfile().map(Some)
        })?;
        Ok(names)
    }

    #[test]
    fn what_is_sent_arrives() {
        assert_eq!(take(&stream()).expect("taken"), ["pages-1.img", LAST]);
    }

    #[test]
    fn what_is_cut_is_refused() {
        let bytes = stream();
        for len in [
            0,
            5,
            8,
            20,
            100,
            2 << 20,
            bytes.len() - HEADER,
            bytes.len() - 1,
        ] {
            assert!(matches!(take(&bytes[..len]), Err(Error::Cut)), "{len}");
        }
    }

    #[test]
    fn every_wrong_bit_is_found() {
        let bytes = stream();
        for at in [
            0,
            8,
            12,
            16,
            24,
            36,
            60,
            100,
            1 << 20,
            bytes.len() - 24,
            bytes.len() - 16,
        ] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x10;
            assert!(take(&wrong).is_err(), "byte {at}");
        }
    }
}
