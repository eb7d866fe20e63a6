//! Between the fact and its record. Device nodes are records of this kind too, told apart by their mode.

use crate::image::error::{Checked, wrong};
use crate::image::limits::path;
use crate::snapshot::{ExternalFile, OpenFile, ProcOwner, RegularFile};
use proto::pb;

/// Longest build id: SHA-512 is not in use, 64 bytes is its length.
const MAX_BUILD_ID_WORDS: usize = 16;
/// Most bytes of a key: what a path may have.
const MAX_KEY: usize = 4096;
/// How the record says that no mount id is recorded.
const NO_MOUNT: i32 = -1;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &RegularFile,
) -> pb::RegFileEntry {
    pb::RegFileEntry {
        id: file.id.0,
        flags: file.flags,
        pos: fact.pos,
        fown,
        name: fact.path.clone(),
        mnt_id: (fact.mnt_id != NO_MOUNT).then_some(fact.mnt_id),
        size: fact.size,
        mode: fact.mode,
        build_id: fact.build_id.chunks(4).map(word).collect(),
        own_ext: match fact.of {
            Some(ProcOwner::Outside(start)) => Some(pb::ExtFile {
                process_start: Some(start),
                ..Default::default()
            }),
            // Where the file is told of that is gone.
            Some(ProcOwner::Gone(_)) | None => None,
        },
        ..Default::default()
    }
}

/// Returns the record of a file that is somebody else's at the restore.
pub(crate) fn external_to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &ExternalFile,
) -> pb::RegFileEntry {
    pb::RegFileEntry {
        id: file.id.0,
        flags: file.flags,
        pos: fact.pos,
        fown,
        name: fact.key.clone(),
        size: fact.size,
        ext: Some(true),
        mode: Some(fact.mode),
        ..Default::default()
    }
}

/// Returns the file in `record` that is somebody else's.
pub(crate) fn external_from_record(record: &pb::RegFileEntry) -> Checked<ExternalFile> {
    if record.name.is_empty() || record.name.len() > MAX_KEY || record.name.contains(&0) {
        return wrong!("a name of {} bytes is no key", record.name.len());
    }
    Ok(ExternalFile {
        key: record.name.clone(),
        pos: record.pos,
        mode: record.mode.unwrap_or(0),
        size: record.size,
    })
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::RegFileEntry) -> Checked<RegularFile> {
    path(&record.name)?;
    if record.build_id.len() > MAX_BUILD_ID_WORDS {
        return wrong!("a build id of {} words", record.build_id.len());
    }
    Ok(RegularFile {
        path: record.name.clone(),
        pos: record.pos,
        mode: record.mode,
        size: record.size,
        build_id: record
            .build_id
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect(),
        mnt_id: record.mnt_id.unwrap_or(NO_MOUNT),
        ghost: None,
        link: None,
        of: record
            .own_ext
            .as_ref()
            .and_then(|ext| ext.process_start)
            .map(ProcOwner::Outside),
    })
}

/// Build ids are kept as words; one whose length is no multiple of four is padded with zeros.
fn word(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, &byte| word << 8 | u32::from(byte))
}
