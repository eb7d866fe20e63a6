//! Shared memory that no file system keeps goes by its file: what a mapping shows is not all that it holds.

use super::drain::is_zero;
use super::output::PageOutput;
use super::{Error, Tally};
use crate::snapshot::PAGE_SIZE;
use crate::sys::file::{Whence, lseek};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes copied at a time.
const CHUNK: u64 = 256 << 10;

/// Writes the pages of a shared segment to its page file: holes and pages of zeros are left out.
///
/// # Errors
/// It cannot be read, or the page file not written.
pub fn copy(
    pid: i32,
    segment: &File,
    size: u64,
    output: &mut PageOutput,
    tally: &mut Tally,
) -> Result<(), Error> {
    let failed = |start: u64, source: std::io::Error| Error::Read {
        pid,
        start,
        pages: 0,
        source,
    };
    let mut buffer = vec![0; CHUNK as usize];
    let mut at = 0;
    while let Some([data, hole]) = data_from(segment, at, size).map_err(|e| failed(at, e))? {
        let end = hole.min(size).next_multiple_of(PAGE_SIZE);
        let mut from = data / PAGE_SIZE * PAGE_SIZE;
        while from < end {
            let len = (end - from).min(CHUNK) as usize;
            let bytes = &mut buffer[..len];
            bytes.fill(0);
            let within = size.saturating_sub(from).min(len as u64) as usize;
            segment
                .read_exact_at(&mut bytes[..within], from)
                .map_err(|source| failed(from, source))?;
            write_pages(from, bytes, output, tally)?;
            from += len as u64;
        }
        at = hole;
        if hole >= size {
            break;
        }
    }
    Ok(())
}

/// Returns the next range that may have data, at or after an offset. Files of huge pages do not tell: all of them may.
fn data_from(segment: &File, at: u64, size: u64) -> std::io::Result<Option<[u64; 2]>> {
    let data = match lseek(segment, at as i64, Whence::Data) {
        Ok(data) => data,
        Err(error) => match error.errno as i32 {
            libc::ENXIO => return Ok(None),
            libc::ESPIPE | libc::EINVAL => return Ok(Some([at, size])),
            errno => return Err(std::io::Error::from_raw_os_error(errno)),
        },
    };
    let hole = lseek(segment, data as i64, Whence::Hole).unwrap_or(size);
    Ok(Some([data, hole]))
}

fn write_pages(
    start: u64,
    bytes: &[u8],
    output: &mut PageOutput,
    tally: &mut Tally,
) -> Result<(), Error> {
    for (index, page) in bytes.chunks_exact(PAGE_SIZE as usize).enumerate() {
        tally.scanned += 1;
        if is_zero(page) {
            tally.zero += 1;
        } else {
            tally.written += 1;
            output.write(start + index as u64 * PAGE_SIZE, page)?;
        }
    }
    Ok(())
}
