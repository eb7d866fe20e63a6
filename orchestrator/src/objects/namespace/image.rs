//! Between the fact and its record.

use crate::snapshot::{NamespaceFile, OpenFile};
use proto::pb;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(file: &OpenFile, fact: &NamespaceFile) -> pb::NsFileEntry {
    pb::NsFileEntry {
        id: file.id.0,
        ns_id: fact.ns,
        ns_cflag: fact.flag(),
        flags: file.flags,
    }
}

/// Returns the fact in `record`, or the name of what is not restored.
pub(crate) fn from_record(record: &pb::NsFileEntry) -> Result<NamespaceFile, String> {
    let known = NamespaceFile::of_flag(record.ns_id, record.ns_cflag);
    known.ok_or_else(|| format!("namespace of kind {:#x}", record.ns_cflag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{FileId, FileKind, Owner};

    #[test]
    fn a_record_gives_the_same_namespace() {
        // As CRIU 4.2 writes it for /proc/self/ns/uts.
        let record = pb::NsFileEntry {
            id: 7,
            ns_id: 4,
            ns_cflag: 0x0400_0000,
            flags: 0o100_000,
        };
        let fact = from_record(&record).unwrap();
        assert_eq!(fact, NamespaceFile { ns: 4, name: "uts" });
        let file = OpenFile {
            id: FileId(7),
            flags: 0o100_000,
            owner: Owner::default(),
            kind: FileKind::Namespace(fact),
        };
        assert_eq!(to_record(&file, &fact), record);
        let time = pb::NsFileEntry {
            ns_cflag: libc::CLONE_NEWTIME as u32,
            ..record
        };
        assert!(from_record(&time).is_err());
    }
}
