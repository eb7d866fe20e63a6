//! Readers of `/proc`: pure parsers of bytes, and beside each the function that reads the file. No decisions.
//!
//! A parser takes the bytes of a whole file and answers with plain data, or with an [`Error`] that names the file, the line
//! and what was expected there. Names and paths stay bytes: the kernel does not promise UTF-8.

use std::path::PathBuf;

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
