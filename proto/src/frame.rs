//! Framing: magic words, then records, each a 32-bit length and that many bytes of protobuf, with the raw bytes that
//! follow some of them.
//!
//! Files are untrusted: a length is compared with what is left of the file before anything is allocated for it.

use std::io::{self, Read, Seek};

use prost::Message;

use crate::kinds::Kind;

/// Longest record in bytes: that of an address space of more than a million areas is shorter.
pub const MAX_RECORD: u32 = 1 << 27;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is of another kind.
    #[error(
        "it starts with {found:#010x} where {wanted:#010x} belongs: it is another kind of file"
    )]
    Magic {
        /// The word that is there.
        found: u32,
        /// The word that belongs there.
        wanted: u32,
    },
    /// It is shorter than it says.
    #[error("it ends in the middle of {0}")]
    Truncated(&'static str),
    /// It has not as many records as were written.
    #[error("it has {found} records, and {wanted} were written")]
    Records {
        /// How many it has.
        found: u64,
        /// How many were written.
        wanted: u64,
    },
    /// A record is longer than any is.
    #[error("record {record} says it has {length} bytes, more than any has")]
    TooLong {
        /// Its number.
        record: u64,
        /// Its length.
        length: u32,
    },
    /// A record is no protobuf, or another's.
    #[error("record {record} cannot be decoded")]
    Record {
        /// Its number.
        record: u64,
        /// What the decoder says.
        source: prost::DecodeError,
    },
    /// The kernel does not give its bytes.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
}

/// Encodes a file in memory, to be written in one go.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    records: u64,
}

/// A file that was encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How many records are in it: nothing in the file says so, and one that is cut between two of them looks whole.
    pub records: u64,
}

impl Writer {
    /// Starts a file of this kind.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        let mut bytes = Vec::with_capacity(256);
        for word in kind.family.into_iter().chain([kind.own]) {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        Self { bytes, records: 0 }
    }

    /// Appends a record.
    ///
    /// # Panics
    /// If the record has more than [`MAX_RECORD`] bytes, which no reader takes.
    pub fn record(&mut self, record: &impl Message) {
        let len = record.encoded_len();
        assert!(len <= MAX_RECORD as usize, "a record of {len} bytes");
        self.records += 1;
        self.bytes.reserve(4 + len);
        self.bytes.extend_from_slice(&(len as u32).to_le_bytes());
        record
            .encode(&mut self.bytes)
            .expect("a Vec grows as it is written to");
    }

    /// Appends the raw bytes that follow a record.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the file's bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the file.
    #[must_use]
    pub fn done(self) -> Encoded {
        Encoded {
            bytes: self.bytes,
            records: self.records,
        }
    }
}

/// Reads a file's records one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    left: u64,
    records: u64,
}

impl<R: Read> Reader<R> {
    /// Starts reading a file of this kind, which is `len` bytes long.
    pub fn new(source: R, len: u64, kind: Kind) -> Result<Self, Error> {
        let mut reader = Self {
            source,
            left: len,
            records: 0,
        };
        for wanted in kind.family.into_iter().chain([kind.own]) {
            let found = reader.word("its first words")?;
            if found != wanted {
                return Err(Error::Magic { found, wanted });
            }
        }
        Ok(reader)
    }

    /// Returns the next record; `None` at the end of the file.
    pub fn record<M: Message + Default>(&mut self) -> Result<Option<M>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let record = self.records;
        self.records += 1;
        let length = self.word("a record's length")?;
        if length > MAX_RECORD {
            return Err(Error::TooLong { record, length });
        }
        let bytes = self.take(u64::from(length), "a record")?;
        match M::decode(bytes.as_slice()) {
            Ok(message) => Ok(Some(message)),
            Err(source) => Err(Error::Record { record, source }),
        }
    }

    /// Returns how many records were read.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Returns the raw bytes that follow a record.
    pub fn bytes(&mut self, len: u64) -> Result<Vec<u8>, Error> {
        self.take(len, "the bytes after a record")
    }

    fn word(&mut self, what: &'static str) -> Result<u32, Error> {
        let bytes = self.take(4, what)?;
        let mut word = [0; 4];
        word.copy_from_slice(&bytes);
        Ok(u32::from_le_bytes(word))
    }

    fn take(&mut self, len: u64, what: &'static str) -> Result<Vec<u8>, Error> {
        if len > self.left {
            return Err(Error::Truncated(what));
        }
        let mut bytes = vec![0; len as usize];
        self.source.read_exact(&mut bytes)?;
        self.left -= len;
        Ok(bytes)
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Skips raw bytes that follow a record.
    pub fn skip(&mut self, len: u64) -> Result<(), Error> {
        let left = self.left.checked_sub(len);
        let left = left.ok_or(Error::Truncated("the bytes after a record"))?;
        self.source
            .seek_relative(i64::try_from(len).unwrap_or(i64::MAX))?;
        self.left = left;
        Ok(())
    }

    /// Returns how many bytes of the file are not yet read.
    pub fn left(&self) -> u64 {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{FS, INVENTORY, PIPES_DATA, STATS};
    use crate::pb;

    fn read(file: &[u8], kind: Kind) -> Result<Reader<&[u8]>, Error> {
        Reader::new(file, file.len() as u64, kind)
    }

    #[test]
    fn a_file_comes_back_record_by_record() {
        let mut file = Writer::new(PIPES_DATA);
        let first = pb::PipeDataEntry {
            pipe_id: 1,
            bytes: 3,
            size: None,
            ext: None,
        };
        let second = pb::PipeDataEntry {
            pipe_id: 2,
            bytes: 0,
            size: Some(4096),
            ext: None,
        };
        file.record(&first);
        file.bytes(b"abc");
        file.record(&second);
        let file = file.into_bytes();
        let mut reader = read(&file, PIPES_DATA).unwrap();
        assert_eq!(reader.record().unwrap(), Some(first));
        assert_eq!(reader.bytes(3).unwrap(), b"abc");
        assert_eq!(reader.record().unwrap(), Some(second));
        assert_eq!(reader.record::<pb::PipeDataEntry>().unwrap(), None);
    }

    #[test]
    fn magic_words_are_those_of_the_format() {
        assert_eq!(
            Writer::new(INVENTORY).into_bytes(),
            [0x16, 0x31, 0x31, 0x58]
        );
        assert_eq!(
            Writer::new(STATS).into_bytes(),
            [0x40, 0x59, 0x10, 0x55, 0x06, 0x33, 0x09, 0x57]
        );
        assert_eq!(
            Writer::new(FS).into_bytes(),
            [0x19, 0x43, 0x56, 0x54, 0x12, 0x39, 0x40, 0x51]
        );
    }

    #[test]
    fn another_kind_of_file_is_refused() {
        let file = Writer::new(FS).into_bytes();
        let error = read(&file, STATS).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Magic {
                    found: 0x5456_4319,
                    wanted: 0x5510_5940
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_length_beyond_the_file_is_refused_before_it_is_believed() {
        let mut file = Writer::new(FS).into_bytes();
        file.extend_from_slice(&(MAX_RECORD - 1).to_le_bytes());
        let error = read(&file, FS)
            .unwrap()
            .record::<pb::FsEntry>()
            .unwrap_err();
        assert!(matches!(error, Error::Truncated("a record")), "{error}");
        let at = file.len() - 4;
        file[at..].copy_from_slice(&u32::MAX.to_le_bytes());
        let error = read(&file, FS)
            .unwrap()
            .record::<pb::FsEntry>()
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::TooLong {
                    record: 0,
                    length: u32::MAX
                }
            ),
            "{error}"
        );
    }
}
