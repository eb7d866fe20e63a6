//! Files of records in the images folder: framing errors get the file's name.

use std::fs::File;
use std::io::BufReader;

use prost::Message;
use proto::frame::{Encoded, Reader, Writer};
use proto::kinds::Kind;

use super::dir::{Dir, Listed, failed};
use super::error::{Error, Result};

/// Returns a file of this kind with these records.
pub(super) fn encode<'a, M: Message + 'a>(
    kind: Kind,
    records: impl IntoIterator<Item = &'a M>,
) -> Encoded {
    let mut file = Writer::new(kind);
    for record in records {
        file.record(record);
    }
    file.done()
}

/// Reads a file's records one after the other.
#[derive(Debug)]
pub(super) struct Decoder {
    name: String,
    /// How many records it has, where the set says so.
    records: Option<u64>,
    reader: Reader<BufReader<File>>,
}

impl Decoder {
    /// Opens the file `name`; `None` where it does not exist.
    pub(super) fn open(dir: &Dir, name: &str, kind: Kind) -> Result<Option<Self>> {
        let Some(file) = dir.open_file(name)? else {
            return match dir.listed(name) {
                Listed::With(_) => Err(Error::Missing { file: name.into() }),
                _ => Ok(None),
            };
        };
        let len = file
            .metadata()
            .map_err(|source| failed("examine", name, source))?
            .len();
        let reader =
            Reader::new(BufReader::new(file), len, kind).map_err(|error| damaged(name, error))?;
        let records = match dir.listed(name) {
            Listed::With(records) => records,
            Listed::No | Listed::Unknown => None,
        };
        Ok(Some(Self {
            name: name.into(),
            records,
            reader,
        }))
    }

    /// Returns the next record; `None` at the end of the file.
    pub(super) fn record<M: Message + Default>(&mut self) -> Result<Option<M>> {
        let record = self.reader.record();
        let record = record.map_err(|error| damaged(&self.name, error))?;
        match self.records {
            Some(wanted) if record.is_none() && wanted != self.reader.records() => {
                let found = self.reader.records();
                let error = proto::frame::Error::Records { found, wanted };
                Err(damaged(&self.name, error))
            }
            _ => Ok(record),
        }
    }

    /// Returns the raw bytes that follow a record.
    pub(super) fn bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        self.reader
            .bytes(len)
            .map_err(|error| damaged(&self.name, error))
    }

    /// Skips the raw bytes that follow a record.
    pub(super) fn skip(&mut self, len: u64) -> Result<()> {
        self.reader
            .skip(len)
            .map_err(|error| damaged(&self.name, error))
    }

    /// Returns how many bytes of the file are not yet read.
    pub(super) fn left(&self) -> u64 {
        self.reader.left()
    }

    /// Returns the next record, which must be there.
    pub(super) fn first<M: Message + Default>(&mut self) -> Result<M> {
        match self.record()? {
            Some(record) => Ok(record),
            None => Err(damaged(
                &self.name,
                proto::frame::Error::Truncated("its first record"),
            )),
        }
    }

    /// Returns the file's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

fn damaged(name: &str, error: proto::frame::Error) -> Error {
    match error {
        proto::frame::Error::Io(source) => failed("read", name, source),
        source => Error::Damaged {
            file: name.into(),
            source,
        },
    }
}

/// Reads all records of the file `name`; `None` where it does not exist.
pub(super) fn read_all<M: Message + Default>(
    dir: &Dir,
    name: &str,
    kind: Kind,
) -> Result<Option<Vec<M>>> {
    let Some(mut decoder) = Decoder::open(dir, name, kind)? else {
        return Ok(None);
    };
    let mut records = Vec::new();
    while let Some(record) = decoder.record()? {
        records.push(record);
    }
    Ok(Some(records))
}

/// Reads the one record of the file `name`; `None` where the file does not exist.
pub(super) fn read_optional<M: Message + Default>(
    dir: &Dir,
    name: &str,
    kind: Kind,
) -> Result<Option<M>> {
    let decoder = Decoder::open(dir, name, kind)?;
    decoder.map(|mut decoder| decoder.first()).transpose()
}

/// Reads the one record of the file `name`, which must exist.
pub(super) fn read_one<M: Message + Default>(dir: &Dir, name: &str, kind: Kind) -> Result<M> {
    read_optional(dir, name, kind)?.ok_or_else(|| Error::Missing { file: name.into() })
}
