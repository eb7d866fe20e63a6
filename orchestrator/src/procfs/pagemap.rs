//! `/proc/PID/pagemap`: one word for each page (Documentation/admin-guide/mm/pagemap.rst).

use super::{Error, Result, Subject};
use crate::sys::{Pid, RemoteAddr};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use zerocopy::IntoBytes;

/// Size of a page in bytes.
const PAGE_SIZE: u64 = 4096;

/// What one page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageEntry(pub u64);

impl PageEntry {
    /// Returns whether it is present.
    pub fn is_present(self) -> bool {
        self.bit(63)
    }

    /// Returns whether it is in swap. A marker looks like it and is none: see [`PageEntry::is_marker`].
    pub fn is_swapped(self) -> bool {
        self.bit(62) && !self.is_marker()
    }

    /// Returns whether it is a marker without content: a guard page, or what is left of a write-protected page that was
    /// dropped. The kernel shows these as swap of type 31 (`SWP_PTE_MARKER`).
    pub fn is_marker(self) -> bool {
        /// Bits 0-4 of a swapped page: the type.
        const TYPE: u64 = 31;
        self.bit(62) && !self.bit(63) && self.0 & TYPE == TYPE
    }

    /// Returns whether it is of a file, or shared.
    pub fn is_file(self) -> bool {
        self.bit(61)
    }

    /// Returns whether it is in a guard region (6.15 and up).
    pub fn is_guard(self) -> bool {
        self.bit(58)
    }

    /// Returns whether it is write-protected by userfaultfd.
    pub fn is_uffd_wp(self) -> bool {
        self.bit(57)
    }

    /// Returns whether nobody else maps it.
    pub fn is_exclusive(self) -> bool {
        self.bit(56)
    }

    /// Returns whether it was written since soft-dirty bits were cleared.
    pub fn is_soft_dirty(self) -> bool {
        self.bit(55)
    }

    /// Returns the number of its frame, if it is present and the reader may know (`CAP_SYS_ADMIN`; else the kernel says 0).
    pub fn frame(self) -> Option<u64> {
        let frame = self.0 & ((1 << 55) - 1);
        (self.is_present() && frame != 0).then_some(frame)
    }

    fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }
}

/// The pagemap of a process, open.
#[derive(Debug)]
pub struct Pagemap {
    path: PathBuf,
    file: File,
}

impl AsFd for Pagemap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Pagemap {
    /// Opens the pagemap of a process.
    pub fn open(pid: Pid) -> Result<Self> {
        let path = Subject::from(pid).path("pagemap");
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// Reads `pages` entries from that of the page at `start` on into `entries`, which then holds exactly those the kernel
    /// gave: fewer at the end of the address space.
    pub fn read(&self, start: RemoteAddr, pages: usize, entries: &mut Vec<u64>) -> Result<()> {
        entries.clear();
        entries.resize(pages, 0);
        let bytes = entries.as_mut_slice().as_mut_bytes();
        let offset = start.0 / PAGE_SIZE * 8;
        let mut len = 0;
        while len < bytes.len() {
            match self.file.read_at(&mut bytes[len..], offset + len as u64) {
                Ok(0) => break,
                Ok(got) => len += got,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    let path = self.path.clone();
                    return Err(Error::Read { path, source });
                }
            }
        }
        entries.truncate(len / 8);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mem::{Place, SharedMapping};

    #[test]
    fn markers_are_no_swap() {
        // What 6.18 shows for a guard page.
        let guard = PageEntry(0x4400_0000_0000_009f);
        assert!(guard.is_guard() && guard.is_marker() && !guard.is_swapped());
        let swapped = PageEntry(1 << 62 | 5 << 5);
        assert!(swapped.is_swapped() && !swapped.is_marker() && swapped.frame().is_none());
        let present = PageEntry(1 << 63 | 1 << 56 | 0x1f);
        assert!(present.is_present() && present.is_exclusive() && !present.is_marker());
        assert_eq!(present.frame(), Some(0x1f));
    }

    #[test]
    fn our_own_can_be_read() {
        let mut mapping = SharedMapping::anonymous(4 << 12, Place::Anywhere).expect("map");
        mapping.write_at(1 << 12, b"x");
        let pagemap = Pagemap::open(Pid::this()).expect("open");
        let mut entries = Vec::new();
        let start = RemoteAddr(mapping.addr());
        pagemap.read(start, 4, &mut entries).expect("read");
        let present: Vec<_> = entries
            .iter()
            .map(|&entry| PageEntry(entry).is_present())
            .collect();
        assert_eq!(present, [false, true, false, false]);
        assert!(PageEntry(entries[1]).is_file());
        let past_the_end = RemoteAddr(1 << 62);
        pagemap.read(past_the_end, 8, &mut entries).expect("read");
        assert!(entries.is_empty());
    }
}
