//! The blobs that the orchestrator carries, as the build script made them (`docs/blobs.md`).

/// A flat image that runs wherever it is mapped: `0..text_len` readable and executable, `text_len..mem_size` readable and
/// writable. Both are whole pages; the second may be empty.
#[derive(Debug)]
pub struct Blob {
    /// The first bytes of the image; the others are zero.
    pub image: &'static [u8],
    /// Bytes to map.
    pub mem_size: usize,
    /// Bytes of them that hold code and constants.
    pub text_len: usize,
    /// Offset of the first instruction.
    pub entry: usize,
}

include!(concat!(env!("OUT_DIR"), "/blobs.rs"));
