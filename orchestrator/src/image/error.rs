//! Why an image set could not be written or read: the file, the record, what is wrong, and what to do about it.

use std::path::PathBuf;

/// Result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an image set could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The images folder cannot be opened.
    #[error("cannot open the images folder {}; name an existing folder with --images-dir", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The path names something that is no folder.
    #[error("{} is no folder; name an existing folder with --images-dir", .path.display())]
    NotAFolder {
        /// What was named.
        path: PathBuf,
    },
    /// The folder holds no finished image set.
    #[error("no inventory.img in {}: no finished dump was written there; name the folder of one with --images-dir", .path.display())]
    NoInventory {
        /// The folder.
        path: PathBuf,
    },
    /// A set as its own parent.
    #[error("{} is the images folder, or one of its children: a set cannot be its own parent", .path.display())]
    OwnParent {
        /// What was named as the parent.
        path: PathBuf,
    },
    /// A conversion onto itself.
    #[error("{} is the folder of the set that is converted; use another for the new one", .path.display())]
    SameFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A set with what the portable format has no record for.
    #[error("{what} cannot be in a portable set; convert it without --portable")]
    NotPortable {
        /// What it has.
        what: &'static str,
    },
    /// A parent whose pages cannot be found one by one.
    #[error("the pages of {} are packed (--compress, --checksum): such a set cannot be a parent", .path.display())]
    PackedParent {
        /// What was named as the parent.
        path: PathBuf,
    },
    /// A set of a round, without what is not memory.
    #[error(
        "inventory.img: this is a set of a pre-dump, which has memory alone; restore the set of the dump that was made after it"
    )]
    PreDump,
    /// The image set's version is not one this build reads.
    #[error(
        "inventory.img: image version {version} is not known (this build reads version 2, that is 1.1); restore with the program that wrote it"
    )]
    Version {
        /// What the inventory says.
        version: u32,
    },
    /// Another dump is at work there.
    #[error(
        "another dump is writing to the images folder {}; use a folder of its own for each",
        path.display()
    )]
    Busy {
        /// The folder.
        path: std::path::PathBuf,
    },
    /// It uses what this build does not know.
    #[error(
        "inventory.img: the extension {name:?} is not known; restore with the program that wrote it"
    )]
    Extension {
        /// Its name.
        name: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {verb} {file}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The file, relative to the images folder.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is missing.
    #[error("{file} is missing from the image set; copy the whole folder again, or dump again")]
    Missing {
        /// The file, relative to the images folder.
        file: String,
    },
    /// A file's magic, framing or encoding is broken.
    #[error("{file}: the file is truncated or damaged; copy it again, or dump again")]
    Damaged {
        /// The file, relative to the images folder.
        file: String,
        /// What the decoder says.
        #[source]
        source: proto::frame::Error,
    },
    /// A record says something that cannot be true.
    #[error("{file}: {record}: {what}; the image set is damaged: copy it again, or dump again")]
    Invalid {
        /// The file, relative to the images folder.
        file: String,
        /// Which record.
        record: String,
        /// What is wrong with it.
        what: String,
    },
    /// A stream of images.
    #[error(transparent)]
    Wire(#[from] crate::wire::Error),
    /// The snapshot holds something that the format cannot express.
    #[error("cannot write {file}: {what}")]
    Unwritable {
        /// The file, relative to the images folder.
        file: String,
        /// What cannot be expressed.
        what: String,
    },
}

impl Error {
    /// Says that it is about a file of parent number `level`, not of the set.
    pub(super) fn in_parent(mut self, level: usize) -> Self {
        if let Error::Io { file, .. } | Error::Damaged { file, .. } | Error::Invalid { file, .. } =
            &mut self
        {
            *file = super::parents::within(level, file);
        }
        self
    }
}

/// Result of a conversion that does not know which file and record it works for.
pub(crate) type Checked<T> = std::result::Result<T, Wrong>;

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong(String);

impl Wrong {
    /// Returns a fault with these words.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// Adds where it was found.
    pub(crate) fn at(self, file: &str, record: impl Into<String>) -> Error {
        Error::Invalid {
            file: file.into(),
            record: record.into(),
            what: self.0,
        }
    }

    /// Says what of the record it is about.
    pub(crate) fn of(self, part: &str) -> Self {
        Self(format!("{part}: {}", self.0))
    }

    /// Adds the file that cannot be written because of it.
    pub(crate) fn unwritable(self, file: &str) -> Error {
        Error::Unwritable {
            file: file.into(),
            what: self.0,
        }
    }
}

/// Returns a fault made of a format string, as an `Err`.
macro_rules! wrong {
    ($($words:tt)*) => { Err($crate::image::error::Wrong::new(format!($($words)*))) };
}
pub(crate) use wrong;
