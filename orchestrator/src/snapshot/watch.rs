//! What is watched in file systems: inotify and fanotify.

use super::file::RegularFile;

/// A file that is watched: whatever has this inode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// Where it is found; an empty path = by its handle alone.
    pub node: RegularFile,
    /// Its device, as the kernel packs it (minor in the low 20 bits).
    pub dev: u32,
    /// Its inode.
    pub inode: u64,
    /// Its file handle: type and bytes; none where the file system has none.
    pub handle: (u32, Vec<u8>),
}

/// inotify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inotify {
    /// Its watches, by ascending number.
    pub watches: Vec<InotifyWatch>,
    /// Events waited in it.
    pub overflow: bool,
}

/// A watch of an inotify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InotifyWatch {
    /// Its number.
    pub wd: i32,
    /// `IN_*`.
    pub mask: u32,
    /// What it is on.
    pub on: Watched,
}

/// fanotify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fanotify {
    /// Flags of `fanotify_init`.
    pub init_flags: u32,
    /// Flags that the descriptors in its events are opened with.
    pub event_flags: u32,
    /// Its marks.
    pub marks: Vec<FanotifyMark>,
}

/// A mark of a fanotify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanotifyMark {
    /// What it is on.
    pub on: Marked,
    /// Flags of it, of `FAN_MARK_*`.
    pub flags: u32,
    /// Events that are told.
    pub mask: u32,
    /// Events that are not told although another mark says so.
    pub ignored: u32,
}

/// What a mark is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marked {
    /// An inode.
    Inode(Watched),
    /// A mount: its number at the dump, and where it is.
    Mount(u32, Vec<u8>),
    /// A file system: its device, and where it is mounted.
    FileSystem(u32, Vec<u8>),
}

impl Fanotify {
    /// Returns the inodes that are marked.
    pub fn inodes(&self) -> impl Iterator<Item = &Watched> {
        self.marks.iter().filter_map(|mark| match &mark.on {
            Marked::Inode(watched) => Some(watched),
            _ => None,
        })
    }
}
