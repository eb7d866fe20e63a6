//! Readers of `/proc`: pure parsers of bytes, and beside each the function that reads the file. No decisions.
//!
//! A parser takes the bytes of a whole file and answers with plain data, or with an [`Error`] that names the file, the line
//! and what was expected there. Names and paths stay bytes: the kernel does not promise UTF-8. A line with a key that no
//! parser knows is passed over, as newer kernels add some, except where it says what kind of object a file is.

pub mod attributes;
pub mod connected;
pub mod fd;
pub mod fdinfo;
pub mod limits;
pub mod locks;
pub mod mountinfo;
pub mod mqueue;
pub mod multicast;
pub mod numa_maps;
pub mod pagemap;
pub mod smaps;
pub mod stat;
pub mod status;
pub mod sysvipc;
pub mod tasks;
mod text;
pub mod timers;

use crate::sys::{Pid, Tid};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What every reader of this module returns.
pub type Result<T> = std::result::Result<T, Error>;

/// A file of `/proc` that could not be read or understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel did not let it be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It was read and does not look as expected.
    #[error("{file}, line {line}: expected {expected}, found {found:?}")]
    Unexpected {
        /// The file's name within the process's folder, such as `status`.
        file: &'static str,
        /// Line, from 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
        /// What stands there, shortened.
        found: String,
    },
}

impl Error {
    /// Returns the number of the error that the kernel answered with, if that is what happened.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Read { source, .. } => source.raw_os_error(),
            Self::Unexpected { .. } => None,
        }
    }
}

/// Whose folder a file is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A process: `/proc/PID`.
    Process(Pid),
    /// One thread of a process: `/proc/PID/task/TID`.
    Thread(Pid, Tid),
}

impl From<Pid> for Subject {
    fn from(pid: Pid) -> Self {
        Self::Process(pid)
    }
}

impl From<(Pid, Tid)> for Subject {
    fn from((pid, tid): (Pid, Tid)) -> Self {
        Self::Thread(pid, tid)
    }
}

impl Subject {
    /// Returns the path of `name` in the folder.
    pub fn path(self, name: &str) -> PathBuf {
        match self {
            Self::Process(pid) => format!("/proc/{pid}/{name}").into(),
            Self::Thread(pid, tid) => format!("/proc/{pid}/task/{tid}/{name}").into(),
        }
    }

    /// Reads the whole file `name`.
    pub fn read(self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(name, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads the whole file `name` into `bytes`, which keeps its capacity from file to file.
    pub fn read_into(self, name: &str, bytes: &mut Vec<u8>) -> Result<()> {
        let parts = if RECORDS.contains(&name) {
            Parts::Many
        } else {
            Parts::One
        };
        read_parts(&self.path(name), bytes, parts)
    }
}

/// Files of a process that come in records, some at each read.
const RECORDS: [&str; 6] = [
    "smaps",
    "maps",
    "timers",
    "numa_maps",
    "mountinfo",
    "children",
];

/// How a file answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parts {
    /// All of it at the first read that has room (`single_open`, `fs/seq_file.c`): what does not fill the room is all.
    One,
    /// As many records as fit: the end is where nothing comes.
    Many,
}

/// Least room offered to a read: most files answer with at most a page at a time (`fs/seq_file.c`).
const READ_SIZE: usize = 4096;

/// Most room made ahead, as it has to be zeroed.
const ROOM_AHEAD: usize = 64 << 10;

/// Reads the whole file at `path` into `bytes`.
///
/// The length of a file of `/proc` is not known before: the room grows with what came.
pub(crate) fn read_into(path: &Path, bytes: &mut Vec<u8>) -> Result<()> {
    read_parts(path, bytes, Parts::Many)
}

fn read_parts(path: &Path, bytes: &mut Vec<u8>, parts: Parts) -> Result<()> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    bytes.clear();
    let mut len = 0;
    loop {
        let room = bytes.len() - len;
        if room == 0 || (len >= ROOM_AHEAD && room < READ_SIZE) {
            bytes.resize(len + len.clamp(READ_SIZE, ROOM_AHEAD), 0);
        }
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(got) => {
                len += got;
                if parts == Parts::One && len < bytes.len() {
                    break;
                }
            }
            Err(source) if source.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(failed(source)),
        }
    }
    bytes.truncate(len);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_which_file() {
        let error = Subject::from(Pid(i32::MAX)).read("stat").expect_err("none");
        assert_eq!(error.errno(), Some(libc::ENOENT));
        assert!(
            error
                .to_string()
                .starts_with("cannot read /proc/2147483647/stat: ")
        );
    }
}
