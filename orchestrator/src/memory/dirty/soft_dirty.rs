//! Tracking by soft-dirty bits (`CONFIG_MEM_SOFT_DIRTY`; Documentation/admin-guide/mm/soft-dirty.rst).
//!
//! `clear_refs` takes the bit off all pages, a write sets it, and `pagemap` shows it. Reading and clearing are two steps: the
//! process has to stand still. New areas count as written by a flag of the area, which `pagemap` shows and `PAGEMAP_SCAN` does
//! not: so the words are read.
//!
//! The zero page that a read puts where a page was discarded has no bit: where `PAGEMAP_SCAN` does not tell it (before 6.7) it is
//! known by its frame.
//!
//! `mremap` that moves whole page tables (`move_normal_pmd`, `mm/mremap.c`) leaves the bits as they are: what lies at an address
//! then is another page than before, and shows no bit (seen on 6.1 and 6.12). So the frames that pages had when tracking began are
//! kept, 8 bytes for a page, and a page that has another frame counts as written. One that the kernel moved or swapped does too.

use super::{Next, Tracker, is_tracked};
use crate::memory::{Error, scan};
use crate::procfs::pagemap::{PageEntry, Pagemap};
use crate::snapshot::{PAGE_SIZE, Vma};
use crate::sys::zero_page::ZeroPages;
use crate::sys::{Pid, RemoteAddr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use zerocopy::IntoBytes;

/// Words of pagemap read at a time.
const WORDS: usize = 32768;
/// What `clear_refs` wants to be told: soft-dirty bits.
const CLEAR_SOFT_DIRTY: &str = "4";

/// Returns whether this kernel has the bits, and tells us of frames: a page that was just written has its bit.
pub fn works() -> bool {
    let page = vec![1u8; 2 * PAGE_SIZE as usize];
    let start = (page.as_ptr().expose_provenance() as u64).next_multiple_of(PAGE_SIZE);
    let mut words = Vec::new();
    let read =
        Pagemap::open(Pid::this()).and_then(|map| map.read(RemoteAddr(start), 1, &mut words));
    let word = words.first().copied().map(PageEntry);
    drop(page);
    read.is_ok() && word.is_some_and(|word| word.is_soft_dirty() && word.frame().is_some())
}

/// Tracks by soft-dirty bits of the process.
#[derive(Debug)]
pub struct SoftDirty {
    pid: Pid,
    zero: Option<Zero>,
    /// Memory that holds the frames of when tracking began.
    held: Option<OwnedFd>,
}

/// Frames of pages, by address: runs of neighbours.
#[derive(Debug, Default, PartialEq, Eq)]
struct Frames {
    runs: Vec<(u64, Vec<u64>)>,
}

impl Frames {
    fn push(&mut self, at: u64, frame: u64) {
        match self.runs.last_mut() {
            Some((start, frames)) if *start + frames.len() as u64 * PAGE_SIZE == at => {
                frames.push(frame);
            }
            _ => self.runs.push((at, vec![frame])),
        }
    }

    /// Returns the frame of a page; 0 = it had none.
    fn at(&self, page: u64) -> u64 {
        let next = self.runs.partition_point(|(start, _)| *start <= page);
        let run = next.checked_sub(1).map(|place| &self.runs[place]);
        let frame = run.and_then(|(start, frames)| {
            frames.get(usize::try_from((page - start) / PAGE_SIZE).ok()?)
        });
        frame.copied().unwrap_or(0)
    }

    /// Writes them to memory of their own: of each run its address, its length, and its frames.
    fn write(&self) -> std::io::Result<OwnedFd> {
        let memory = crate::sys::mem::memfd_create(c"frames", 0);
        let mut memory = File::from(memory.map_err(std::io::Error::other)?);
        for (start, frames) in &self.runs {
            memory.write_all([*start, frames.len() as u64].as_bytes())?;
            memory.write_all(frames.as_bytes())?;
        }
        Ok(memory.into())
    }

    /// Reads what was written so.
    fn read(memory: &OwnedFd) -> std::io::Result<Self> {
        let memory = File::from(memory.try_clone()?);
        let mut words = vec![0u64; (memory.metadata()?.len() / 8) as usize];
        memory.read_exact_at(words.as_mut_slice().as_mut_bytes(), 0)?;
        let mut runs = Vec::new();
        let mut rest = &words[..];
        while let [start, count, more @ ..] = rest {
            let count = (*count as usize).min(more.len());
            runs.push((*start, more[..count].to_vec()));
            rest = &more[count..];
        }
        Ok(Self { runs })
    }
}

/// Frames of zero pages, and the mapping that keeps them what they are.
#[derive(Debug)]
struct Zero {
    frames: Vec<u64>,
    _pages: ZeroPages,
}

impl SoftDirty {
    /// Tracks a process, from what was kept of it on.
    pub fn new(pid: Pid, held: Option<OwnedFd>) -> Self {
        Self {
            pid,
            zero: None,
            held,
        }
    }

    fn unread(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Read {
            pid: self.pid.0,
            start: 0,
            pages: 0,
            source: std::io::Error::other(error),
        }
    }

    fn zero_frames(&mut self) -> Result<Vec<u64>, Error> {
        if self.zero.is_none() {
            let pages = ZeroPages::map().map_err(|error| self.unread(error))?;
            let frames = frames_of(&pages).map_err(|error| self.unread(error))?;
            self.zero = Some(Zero {
                frames,
                _pages: pages,
            });
        }
        Ok(self
            .zero
            .as_ref()
            .map(|zero| zero.frames.clone())
            .unwrap_or_default())
    }
}

fn frames_of(pages: &ZeroPages) -> crate::procfs::Result<Vec<u64>> {
    let map = Pagemap::open(Pid::this())?;
    let mut frames = Vec::new();
    let mut words = Vec::new();
    for [start, end] in pages.ranges() {
        map.read(
            RemoteAddr(start),
            ((end - start) / PAGE_SIZE) as usize,
            &mut words,
        )?;
        frames.extend(words.iter().filter_map(|&word| PageEntry(word).frame()));
    }
    frames.sort_unstable();
    frames.dedup();
    Ok(frames)
}

impl Tracker for SoftDirty {
    fn sees_running(&self) -> bool {
        false
    }

    fn unwritten(&mut self, areas: &[Vma], next: Next) -> Result<Vec<[u64; 2]>, Error> {
        let zero = self.zero_frames()?;
        let before = self.held.as_ref().map(Frames::read).transpose();
        let before = before
            .map_err(|error| self.unread(error))?
            .unwrap_or_default();
        let mut now = Frames::default();
        let own: Vec<Vma> = areas
            .iter()
            .filter(|vma| is_tracked(vma))
            .cloned()
            .collect();
        let map = Pagemap::open(self.pid).map_err(|error| self.unread(error))?;
        let mut unwritten: Vec<[u64; 2]> = Vec::new();
        let mut words = Vec::new();
        let there = scan::pages(self.pid, &own)?;
        for run in there
            .iter()
            .filter(|run| !run.file && !run.zero && !run.guard)
        {
            let mut at = run.start;
            while at < run.end {
                let pages = (((run.end - at) / PAGE_SIZE) as usize).min(WORDS);
                map.read(RemoteAddr(at), pages, &mut words)
                    .map_err(|error| self.unread(error))?;
                for (index, &word) in words.iter().enumerate() {
                    let start = at + index as u64 * PAGE_SIZE;
                    let frame = PageEntry(word).frame().unwrap_or(0);
                    now.push(start, frame);
                    let is_same = frame != 0 && before.at(start) == frame;
                    if is_same && is_unwritten(PageEntry(word), &zero) {
                        push(&mut unwritten, start);
                    }
                }
                at += pages as u64 * PAGE_SIZE;
            }
        }
        if next == Next::Begin {
            std::fs::write(format!("/proc/{}/clear_refs", self.pid.0), CLEAR_SOFT_DIRTY)
                .map_err(|error| self.unread(error))?;
            self.held = Some(now.write().map_err(|error| self.unread(error))?);
        }
        Ok(unwritten)
    }

    fn held(&self) -> Option<BorrowedFd<'_>> {
        self.held.as_ref().map(AsFd::as_fd)
    }
}

fn is_unwritten(word: PageEntry, zero: &[u64]) -> bool {
    let is_there = word.is_present();
    let is_zero = word
        .frame()
        .is_some_and(|frame| zero.binary_search(&frame).is_ok());
    is_there && !word.is_soft_dirty() && !word.is_file() && !word.is_guard() && !is_zero
}

fn push(ranges: &mut Vec<[u64; 2]>, start: u64) {
    match ranges.last_mut() {
        Some(last) if last[1] == start => last[1] = start + PAGE_SIZE,
        _ => ranges.push([start, start + PAGE_SIZE]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_content_of_old_is_written() {
        const PRESENT: u64 = 1 << 63;
        const SWAPPED: u64 = 1 << 62;
        let zero = [7, 9];
        assert!(is_unwritten(PageEntry(PRESENT | 8), &zero));
        let written = [
            SWAPPED | 5 << 5,
            PRESENT | 9,
            PRESENT | 8 | 1 << 55,
            PRESENT | 8 | 1 << 61,
            SWAPPED | 31,
            0,
        ];
        for word in written {
            assert!(!is_unwritten(PageEntry(word), &zero), "{word:#x}");
        }
    }

    #[test]
    fn frames_are_kept() {
        let mut frames = Frames::default();
        for (page, frame) in [(1, 7), (2, 8), (5, 9)] {
            frames.push(page * PAGE_SIZE, frame);
        }
        let kept = Frames::read(&frames.write().expect("written")).expect("read");
        assert_eq!(kept, frames);
        let all: Vec<u64> = (0..7).map(|page| kept.at(page * PAGE_SIZE)).collect();
        assert_eq!(all, [0, 7, 8, 0, 0, 9, 0]);
    }

    #[test]
    fn the_zero_page_is_found() {
        let pages = ZeroPages::map().expect("mapped");
        let frames = frames_of(&pages).expect("own pagemap");
        // Without the right to see frames there are none.
        assert!(frames.len() <= 513);
    }
}
