//! Between the facts and their records: ends in `files.img`, what is queued in `pipes-data.img`.

use crate::image::error::{Checked, wrong};
use crate::snapshot::{OpenFile, PipeBuffer, PipeEnd};
use proto::pb;

/// Largest capacity that `F_SETPIPE_SZ` takes (`round_pipe_size` in `fs/pipe.c`).
const MAX_CAPACITY: u32 = 1 << 31;

/// Longest packet: `pipe_write` cuts what is longer (`fs/pipe.c`, `PIPE_BUF`).
pub(crate) const MAX_PACKET: u32 = libc::PIPE_BUF as u32;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(file: &OpenFile, fown: pb::FownEntry, fact: &PipeEnd) -> pb::PipeEntry {
    pb::PipeEntry {
        id: file.id.0,
        pipe_id: fact.pipe_id,
        flags: file.flags,
        fown,
    }
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::PipeEntry) -> PipeEnd {
    PipeEnd {
        pipe_id: record.pipe_id,
    }
}

/// Returns the record of what a pipe holds; its bytes follow. `None` where there is nothing to say.
pub(crate) fn buffer_to_record(buffer: &PipeBuffer) -> Option<pb::PipeDataEntry> {
    let has_something = buffer.capacity.is_some() || !buffer.data.is_empty();
    has_something.then_some(pb::PipeDataEntry {
        pipe_id: buffer.pipe_id,
        bytes: buffer.data.len() as u32,
        size: buffer.capacity,
        ext: (!buffer.packets.is_empty()).then(|| pb::ExtPipeData {
            packets: buffer.packets.clone(),
        }),
    })
}

/// Returns what the pipe of `record` holds, given the bytes that follow it.
pub(crate) fn buffer_from_record(record: &pb::PipeDataEntry, data: Vec<u8>) -> Checked<PipeBuffer> {
    if record
        .size
        .is_some_and(|size| size > MAX_CAPACITY || (size as usize) < data.len())
    {
        return wrong!(
            "{} bytes in a pipe of capacity {:?}",
            data.len(),
            record.size
        );
    }
    let packets = record
        .ext
        .as_ref()
        .map_or_else(Vec::new, |ext| ext.packets.clone());
    check_packets(&packets, data.len())?;
    Ok(PipeBuffer {
        pipe_id: record.pipe_id,
        capacity: record.size,
        data,
        packets,
    })
}

/// Packets are not empty, not longer than the kernel makes them, and together all of the data.
fn check_packets(packets: &[u32], len: usize) -> Checked<()> {
    if packets.is_empty() {
        return Ok(());
    }
    if let Some(packet) = packets.iter().find(|len| !(1..=MAX_PACKET).contains(len)) {
        return wrong!("a packet of {packet} bytes in a pipe");
    }
    let total: u64 = packets.iter().map(|&len| u64::from(len)).sum();
    if total != len as u64 {
        return wrong!("packets of {total} bytes in a pipe that holds {len}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_all_of_the_data() {
        assert!(check_packets(&[], 5).is_ok());
        assert!(check_packets(&[3, 4096], 4099).is_ok());
        for wrong in [&[3_u32][..], &[0, 5], &[4097], &[u32::MAX, 6]] {
            assert!(check_packets(wrong, 5).is_err(), "{wrong:?}");
        }
    }
}
