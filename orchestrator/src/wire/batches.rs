//! Page files whose pages lie in batches, each with a checksum, and compressed where that is wanted (docs/images.md).
//!
//! ```text
//! batch   u32 codec    0 as they are, 1 LZ4, 2 Zstandard
//!         u32 length   of its bytes in the file
//!         u32 length   of its pages, all of 1 MiB but in the last batch
//!         u32 nothing
//!         u64 offset   of its pages in all that the file holds
//!         u64 checksum XXH3 of its pages
//!         the bytes
//! ```
//!
//! A batch that does not get smaller is kept as it is. Batches are made, and taken apart, by as many threads as there are
//! processors; they stand in the file in their order.

use super::stream::Part;
use crate::snapshot::PAGE_SIZE;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::thread::JoinHandle;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of pages in a batch.
const BATCH: usize = 1 << 20;
const HEADER: usize = 32;
const PLAIN: u32 = 0;
const LZ4: u32 = 1;
const ZSTD: u32 = 2;
/// Level of Zstandard that keeps up with a network of 10 Gbit/s on few processors.
pub const ZSTD_LEVEL: i32 = 1;

/// How pages are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As they are, with a checksum.
    Plain,
    /// By LZ4.
    Lz4,
    /// By Zstandard, at a level.
    Zstd(i32),
}

/// Where batches go.
#[derive(Debug)]
pub enum Target {
    /// To a file.
    File(File),
    /// Into a stream.
    Part(Part),
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::File(file) => file.write(bytes),
            Target::Part(part) => part.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A page file being written in batches.
#[derive(Debug)]
pub struct Batches {
    to: Target,
    packing: Packing,
    pending: Vec<u8>,
    offset: u64,
    packers: VecDeque<JoinHandle<Vec<u8>>>,
    most: usize,
}

impl Batches {
    /// Begins a page file.
    pub fn new(to: Target, packing: Packing) -> Self {
        Self {
            to,
            packing,
            pending: Vec::with_capacity(BATCH),
            offset: 0,
            packers: VecDeque::new(),
            most: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Adds pages.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(BATCH - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = rest;
            if self.pending.len() == BATCH {
                self.pack()?;
            }
        }
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.pack()?;
        }
        while !self.packers.is_empty() {
            self.take_first()?;
        }
        Ok(())
    }

    fn pack(&mut self) -> io::Result<()> {
        if self.packers.len() >= self.most {
            self.take_first()?;
        }
        let pages = std::mem::replace(&mut self.pending, Vec::with_capacity(BATCH));
        let (packing, offset) = (self.packing, self.offset);
        self.offset += pages.len() as u64;
        let packer = std::thread::Builder::new().spawn(move || packed(&pages, packing, offset))?;
        self.packers.push_back(packer);
        Ok(())
    }

    fn take_first(&mut self) -> io::Result<()> {
        let Some(first) = self.packers.pop_front() else {
            return Ok(());
        };
        let bytes = first.join();
        // Whoever panics ends the process.
        let bytes = bytes.map_err(|_| io::Error::other("a batch cannot be packed"))?;
        self.to.write_all(&bytes)
    }
}

/// Returns a batch as it stands in the file.
fn packed(pages: &[u8], packing: Packing, offset: u64) -> Vec<u8> {
    let (codec, smaller) = match packing {
        Packing::Plain => (PLAIN, None),
        Packing::Lz4 => (LZ4, Some(lz4_flex::block::compress(pages))),
        Packing::Zstd(level) => (ZSTD, zstd::bulk::compress(pages, level).ok()),
    };
    let smaller = smaller.filter(|smaller| smaller.len() < pages.len());
    let (codec, bytes) = match &smaller {
        Some(smaller) => (codec, smaller.as_slice()),
        None => (PLAIN, pages),
    };
    let mut batch = Vec::with_capacity(HEADER + bytes.len());
    let words = [codec, bytes.len() as u32, pages.len() as u32, 0];
    words
        .iter()
        .for_each(|word| batch.extend(word.to_le_bytes()));
    batch.extend(offset.to_le_bytes());
    batch.extend(xxh3_64(pages).to_le_bytes());
    batch.extend_from_slice(bytes);
    batch
}

/// A batch of a file.
#[derive(Debug, Clone, Copy)]
struct Batch {
    codec: u32,
    at: u64,
    stored: usize,
    len: usize,
    offset: u64,
    sum: u64,
}

/// Takes a page file apart, into a file of memory that holds its pages one after the other: `len` bytes of them.
///
/// # Errors
/// It is cut or damaged (`InvalidData`, with words), or cannot be read.
pub fn unpack(file: &File, len: u64) -> io::Result<File> {
    let batches = list(file, len)?;
    let memory = crate::sys::mem::memfd_create(c"pages", 0).map_err(|error| error.errno)?;
    let memory = File::from(memory);
    memory.set_len(len)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = batches.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let work = |share| unpack_all(file, &memory, share);
        let threads: Vec<_> = batches
            .chunks(share)
            .map(|share| scope.spawn(move || work(share)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let done = thread.join();
            done.unwrap_or_else(|_| Err(damaged("a batch cannot be unpacked")))
        })
    })?;
    Ok(memory)
}

fn list(file: &File, len: u64) -> io::Result<Vec<Batch>> {
    let size = file.metadata()?.len();
    let (mut at, mut offset) = (0, 0);
    let mut batches = Vec::new();
    while offset < len {
        let mut header = [0; HEADER];
        if at + HEADER as u64 > size {
            return Err(damaged("it ends before its last batch"));
        }
        file.read_exact_at(&mut header, at)?;
        let batch = batch(&header, at + HEADER as u64);
        let is_whole = batch.at + batch.stored as u64 <= size;
        let is_last = offset + batch.len as u64 == len;
        let is_full = batch.len == BATCH || is_last && batch.len < BATCH;
        let has_pages = batch.len > 0 && batch.len.is_multiple_of(PAGE_SIZE as usize);
        let fits = batch.stored <= batch.len && batch.offset == offset && batch.codec <= ZSTD;
        if !(is_whole && is_full && has_pages && fits) {
            return Err(damaged(&format!("its batch at {at:#x} cannot be")));
        }
        at = batch.at + batch.stored as u64;
        offset += batch.len as u64;
        batches.push(batch);
    }
    match at == size && offset == len {
        true => Ok(batches),
        false => Err(damaged("it holds more than its runs name")),
    }
}

fn batch(header: &[u8; HEADER], at: u64) -> Batch {
    let half = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let word = |at: usize| u64::from(half(at)) | u64::from(half(at + 4)) << 32;
    Batch {
        codec: half(0),
        at,
        stored: half(4) as usize,
        len: half(8) as usize,
        offset: word(16),
        sum: word(24),
    }
}

fn unpack_all(file: &File, memory: &File, batches: &[Batch]) -> io::Result<()> {
    let (mut stored, mut pages) = (vec![0; BATCH], vec![0; BATCH]);
    for batch in batches {
        let (stored, pages) = (&mut stored[..batch.stored], &mut pages[..batch.len]);
        file.read_exact_at(stored, batch.at)?;
        let unpacked = match batch.codec {
            PLAIN if batch.stored == batch.len => {
                pages.copy_from_slice(stored);
                Some(batch.len)
            }
            LZ4 => lz4_flex::block::decompress_into(stored, pages).ok(),
            ZSTD => zstd::bulk::decompress_to_buffer(stored, pages).ok(),
            _ => None,
        };
        if unpacked != Some(batch.len) || xxh3_64(pages) != batch.sum {
            let at = batch.at - HEADER as u64;
            return Err(damaged(&format!(
                "the checksum of its batch at {at:#x} is wrong"
            )));
        }
        memory.write_all_at(pages, batch.offset)?;
    }
    Ok(())
}

fn damaged(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of which some get smaller.
    fn pages(count: usize) -> Vec<u8> {
        let byte = |at: usize| match at % (3 << 20) < 1 << 20 {
            true => (at as u32).wrapping_mul(2_654_435_761).rotate_left(9) as u8,
            false => (at >> 8) as u8,
        };
        (0..count << 12).map(byte).collect()
    }

    fn file(pages: &[u8], packing: Packing) -> File {
        let file = tempfile::tempfile().expect("file");
        let to = Target::File(file.try_clone().expect("a duplicate"));
        let mut batches = Batches::new(to, packing);
        pages
            .chunks(12 << 12)
            .for_each(|chunk| batches.write(chunk).expect("written"));
        batches.finish().expect("finished");
        file
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        for packing in [Packing::Plain, Packing::Lz4, Packing::Zstd(ZSTD_LEVEL)] {
            for count in [0, 1, 255, 256, 257, 1100] {
                let pages = pages(count);
                let file = file(&pages, packing);
                let memory = unpack(&file, pages.len() as u64).expect("unpacked");
                let mut bytes = vec![0; pages.len()];
                memory.read_exact_at(&mut bytes, 0).expect("read");
                assert!(bytes == pages, "{packing:?} {count}");
            }
        }
    }

    #[test]
    fn what_is_damaged_is_refused() {
        for packing in [Packing::Plain, Packing::Lz4, Packing::Zstd(ZSTD_LEVEL)] {
            let pages = pages(700);
            let len = pages.len() as u64;
            let file = file(&pages, packing);
            let size = file.metadata().expect("its size").len();
            for at in [0, 4, 8, 16, 24, 32, 100, size / 2, size - 1] {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).expect("read");
                file.write_all_at(&[byte[0] ^ 1], at).expect("written");
                let refused = unpack(&file, len);
                file.write_all_at(&byte, at).expect("written");
                assert!(refused.is_err(), "{packing:?} byte {at}");
            }
            assert!(unpack(&file, len - 4096).is_err() && unpack(&file, len + 4096).is_err());
            file.set_len(size - 1).expect("cut");
            assert!(unpack(&file, len).is_err(), "{packing:?}");
        }
    }
}
