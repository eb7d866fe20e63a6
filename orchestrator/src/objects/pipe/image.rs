//! Between the facts and their records: ends in `files.img`, what is queued in `pipes-data.img`.

use crate::image::error::{Checked, wrong};
use crate::snapshot::{OpenFile, PipeBuffer, PipeEnd};
use proto::pb;

/// Largest capacity that `F_SETPIPE_SZ` takes (`round_pipe_size` in `fs/pipe.c`).
const MAX_CAPACITY: u32 = 1 << 31;

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
    Ok(PipeBuffer {
        pipe_id: record.pipe_id,
        capacity: record.size,
        data,
    })
}
