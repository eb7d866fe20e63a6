//! Between the fact and the record of a file handle, which has its path too. The bytes of a handle lie in words of 64 bits.

use crate::image::error::{Checked, wrong};
use crate::image::limits::path;
use crate::snapshot::{FileId, RegularFile, Watched};
use proto::pb;

/// Most bytes of a handle (`MAX_HANDLE_SZ`, `linux/exportfs.h`).
const MAX_BYTES: usize = 128;
/// Words of a handle in the record: as many as fit the longest.
const WORDS: usize = MAX_BYTES / 8;

/// Returns the record of the handle of `fact`.
pub(crate) fn to_record(fact: &Watched) -> pb::FhEntry {
    let (kind, bytes) = &fact.handle;
    let mut padded = bytes.clone();
    padded.resize(MAX_BYTES, 0);
    let ext = pb::ExtHandle {
        ghost: fact.node.ghost,
        link: fact.node.link.map(|id| id.0),
    };
    pb::FhEntry {
        bytes: bytes.len() as u32,
        r#type: *kind,
        handle: padded.chunks_exact(8).map(word).collect(),
        path: (!fact.node.path.is_empty()).then(|| fact.node.path.clone()),
        mnt_id: None,
        ext: (ext != pb::ExtHandle::default()).then_some(ext),
    }
}

/// Returns the fact in `record`, of this inode.
pub(crate) fn from_record(record: &pb::FhEntry, dev: u32, inode: u64) -> Checked<Watched> {
    let len = record.bytes as usize;
    if len > MAX_BYTES || record.handle.len() > WORDS || len > record.handle.len() * 8 {
        return wrong!(
            "a file handle of {len} bytes in {} words",
            record.handle.len()
        );
    }
    let words = record.handle.iter();
    let bytes: Vec<u8> = words
        .flat_map(|word| word.to_le_bytes())
        .take(len)
        .collect();
    let name = record.path.clone().unwrap_or_default();
    if !name.is_empty() {
        path(&name)?;
    }
    let ext = record.ext.as_ref();
    Ok(Watched {
        node: RegularFile {
            path: name,
            mnt_id: -1,
            ghost: ext.and_then(|ext| ext.ghost),
            link: ext.and_then(|ext| ext.link).map(FileId),
            ..RegularFile::default()
        },
        dev,
        inode,
        handle: (record.r#type, bytes),
    })
}

fn word(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_comes_back() {
        let fact = Watched {
            node: RegularFile {
                path: b"/a".to_vec(),
                mnt_id: -1,
                ghost: Some(3),
                ..RegularFile::default()
            },
            dev: 5,
            inode: 6,
            handle: (1, (1..=13).collect()),
        };
        let record = to_record(&fact);
        assert_eq!(record.handle.len(), 16);
        assert_eq!(record.handle[0], 0x0807_0605_0403_0201);
        assert_eq!(from_record(&record, 5, 6).expect("right"), fact);
        let long = pb::FhEntry {
            bytes: 200,
            ..record
        };
        assert!(from_record(&long, 5, 6).is_err());
    }
}
