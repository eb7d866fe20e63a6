//! What is still to come of one address space: for every page that is missing, where its bytes lie. Pure.

use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun};
use std::collections::BTreeMap;
use std::ops::Range;

/// Where bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// In a page file, from an offset on.
    File {
        /// Its number.
        pages_id: u32,
        /// The offset.
        offset: u64,
    },
    /// Where a process was dumped, at an address of it.
    Source {
        /// The process.
        pid: i32,
        /// The address.
        address: u64,
    },
}

impl From {
    /// Returns where the bytes lie that follow after `by` more.
    fn after(self, by: u64) -> Self {
        match self {
            From::File { pages_id, offset } => From::File {
                pages_id,
                offset: offset + by,
            },
            From::Source { pid, address } => From::Source {
                pid,
                address: address + by,
            },
        }
    }
}

/// Neighbouring pages that are to come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Address of the first.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// Where they lie.
    pub from: From,
}

impl Piece {
    /// Returns the addresses.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + self.len
    }
}

/// What is still to come: first address, address after the last, where the bytes lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extents {
    all: BTreeMap<u64, (u64, From)>,
}

impl Extents {
    /// Returns all of what is to come for a process.
    pub fn of(pid: i32, runs: &[PageRun]) -> Self {
        let all = runs.iter().filter_map(|run| {
            let from = match run.at {
                PageLocation::Here { pages_id, offset } => From::File { pages_id, offset },
                PageLocation::Source => From::Source {
                    pid,
                    address: run.start,
                },
                // These were resolved when the images were read.
                PageLocation::Parent | PageLocation::ParentTask => return None,
            };
            Some((run.start, (run.start + run.pages * PAGE_SIZE, from)))
        });
        Self { all: all.collect() }
    }

    /// Returns whether all has come.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns the number of pages.
    pub fn pages(&self) -> u64 {
        let bytes: u64 = self.all.iter().map(|(start, (end, _))| end - start).sum();
        bytes / PAGE_SIZE
    }

    /// Returns whether some of it lies at the source.
    pub fn has_source(&self) -> bool {
        let mut all = self.all.values();
        all.any(|(_, from)| matches!(from, From::Source { .. }))
    }

    /// Takes out what has come, or will never.
    pub fn remove(&mut self, range: Range<u64>) {
        self.cut(range.start);
        self.cut(range.end);
        let gone: Vec<u64> = self.starts(range).collect();
        for start in gone {
            self.all.remove(&start);
        }
    }

    /// Has what was to come for one place come for another.
    pub fn remap(&mut self, from: u64, to: u64, len: u64) {
        self.remove(to..to.saturating_add(len));
        self.cut(from);
        self.cut(from.saturating_add(len));
        let moved: Vec<u64> = self.starts(from..from.saturating_add(len)).collect();
        let moved: Vec<_> = moved
            .into_iter()
            .filter_map(|start| Some((start, self.all.remove(&start)?)))
            .collect();
        for (start, (end, bytes)) in moved {
            self.all
                .insert(to + (start - from), (to + (end - from), bytes));
        }
    }

    fn starts(&self, range: Range<u64>) -> impl Iterator<Item = u64> + '_ {
        let range = range.start..range.end.max(range.start);
        self.all.range(range).map(|(start, _)| *start)
    }

    /// Has an extent begin here, if one goes over it.
    fn cut(&mut self, at: u64) {
        let Some((&start, &(end, from))) = self.all.range(..at).next_back() else {
            return;
        };
        if end > at {
            self.all.insert(start, (at, from));
            self.all.insert(at, (end, from.after(at - start)));
        }
    }

    /// Returns the piece that a page is in, within the `window` bytes, a power of two, around it; `None` where it is not to come.
    pub fn around(&self, page: u64, window: u64) -> Option<Piece> {
        let (&start, &(end, from)) = self.all.range(..=page).next_back()?;
        if end <= page {
            return None;
        }
        let low = start.max(page & !(window - 1));
        let high = end.min((page & !(window - 1)) + window);
        Some(piece(start, from, low, high))
    }

    /// Returns the nearest piece to an address, of at most `most` bytes: behind it, or before.
    pub fn nearest(&self, at: u64, most: u64) -> Option<Piece> {
        let before = self.all.range(..=at).next_back();
        if let Some((&start, &(end, from))) = before
            && end > at
        {
            return Some(piece(start, from, at, end.min(at + most)));
        }
        let before = before.map(|(&start, &(end, from))| {
            let low = start.max(end.saturating_sub(most));
            (at - end, piece(start, from, low, end))
        });
        let behind = self.all.range(at..).next().map(|(&start, &(end, from))| {
            let high = end.min(start + most);
            (start - at, piece(start, from, start, high))
        });
        let nearest = behind.into_iter().chain(before);
        nearest
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, piece)| piece)
    }

    /// Returns the range around a page in which nothing is to come, within a window as for [`Self::around`].
    pub fn gap_around(&self, page: u64, window: u64) -> Range<u64> {
        let low = page & !(window - 1);
        let before = self.all.range(..=page).next_back();
        let behind = self.all.range(page..).next();
        let start = before.map_or(low, |(_, (end, _))| low.max(*end));
        let end = behind.map_or(low + window, |(start, _)| (low + window).min(*start));
        start..end
    }
}

fn piece(start: u64, from: From, low: u64, high: u64) -> Piece {
    Piece {
        start: low,
        len: high - low,
        from: from.after(low - start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(offset: u64) -> From {
        From::File {
            pages_id: 1,
            offset,
        }
    }

    fn extents(all: &[(u64, u64, u64)]) -> Extents {
        let all = all
            .iter()
            .map(|&(start, end, offset)| (start, (end, file(offset))));
        Extents { all: all.collect() }
    }

    #[test]
    fn what_has_come_is_cut_out() {
        let mut all = extents(&[(0x1000, 0x9000, 0), (0x10000, 0x12000, 0x8000)]);
        all.remove(0x3000..0x4000);
        all.remove(0x8000..0x11000);
        let wanted = [
            (0x1000, 0x3000, 0),
            (0x4000, 0x8000, 0x3000),
            (0x11000, 0x12000, 0x9000),
        ];
        assert_eq!(all, extents(&wanted));
        all.remove(0..0x20000);
        assert!(all.is_empty());
    }

    #[test]
    fn what_is_moved_takes_what_is_to_come_with_it() {
        let mut all = extents(&[(0x1000, 0x9000, 0), (0x20000, 0x22000, 0x8000)]);
        all.remap(0x3000, 0x20000, 0x1000);
        let wanted = [
            (0x1000, 0x3000, 0),
            (0x4000, 0x9000, 0x3000),
            (0x20000, 0x21000, 0x2000),
            (0x21000, 0x22000, 0x9000),
        ];
        assert_eq!(all, extents(&wanted));
    }

    #[test]
    fn pieces_are_of_one_extent_and_near() {
        let all = extents(&[(0x1000, 0x9000, 0), (0x20000, 0x22000, 0x8000)]);
        let found = all.around(0x5000, 0x4000).expect("a piece");
        assert_eq!((found.range(), found.from), (0x4000..0x8000, file(0x3000)));
        assert_eq!(all.around(0x9000, 0x10000), None);
        assert_eq!(all.gap_around(0xa000, 0x10000), 0x9000..0x10000);
        assert_eq!(all.gap_around(0x1f000, 0x40000), 0x9000..0x20000);
        let found = all.nearest(0x2000, 0x1000).expect("a piece");
        assert_eq!((found.range(), found.from), (0x2000..0x3000, file(0x1000)));
        let found = all.nearest(0xa000, 0x1000).expect("a piece");
        assert_eq!((found.range(), found.from), (0x8000..0x9000, file(0x7000)));
        let found = all.nearest(0x1f000, 0x10000).expect("a piece");
        assert_eq!(
            (found.range(), found.from),
            (0x20000..0x22000, file(0x8000))
        );
        assert_eq!(Extents::default().nearest(0, 1), None);
    }
}
