//! The build id of an ELF file: by it a library is told from another of the same name and size.

use object::read::elf::{FileHeader, ProgramHeader};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

/// Bytes of a file looked at: headers and notes stand at the beginning.
const ELF_HEAD: usize = 4096;

/// Returns the build id of an ELF file, where its note stands in the first page.
pub fn build_id(path: &[u8]) -> Option<Vec<u8>> {
    let mut head = vec![0; ELF_HEAD];
    let mut file = std::fs::File::open(OsStr::from_bytes(path)).ok()?;
    let len = file.read(&mut head).ok()?;
    head.truncate(len);
    let header = object::elf::FileHeader64::<object::Endianness>::parse(head.as_slice()).ok()?;
    let endian = header.endian().ok()?;
    for segment in header.program_headers(endian, head.as_slice()).ok()? {
        let Ok(Some(mut notes)) = segment.notes(endian, head.as_slice()) else {
            continue;
        };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == b"GNU" && note.n_type(endian) == object::elf::NT_GNU_BUILD_ID {
                return Some(note.desc().to_vec());
            }
        }
    }
    None
}
