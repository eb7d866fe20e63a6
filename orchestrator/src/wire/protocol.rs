//! The page server's protocol, as the peer speaks it: requests of 32 bytes, of which those that add pages are followed by
//! their bytes.
//!
//! ```text
//! u32 command    low half what to do, high half flags of the pages
//! u32 nothing
//! u64 pages      how many
//! u64 address    of the first; counted from its start for a shared segment
//! u64 holder     whose pages: number << 8 | kind
//! ```
//!
//! Who asks for pages sends [`GET`]. Numbers are little-endian. Three other requests are answered: [`OPEN2`] by a byte, [`PARENT`], [`CLOSE`] and [`FORCE_CLOSE`]
//! by a 32-bit number.
//!
//! Ours alone: [`OPEN2`] with the flag [`EXTENDED`], which the peer's server passes over, asks for [`KNOWS_TASKS`] in the answer, which
//! it does not give. Only then [`IN_PARENT_TASK`] is sent.

use std::fmt;

/// Bytes of a request.
pub const LEN: usize = 32;
/// Pages that are there; their bytes follow.
pub const ADD: u16 = 1;
/// Pages that are as in the parent image set.
pub const HOLE: u16 = 2;
/// Pages of another holder follow.
pub const OPEN: u16 = 3;
/// As [`OPEN`]; the answer is whether the receiver has a parent image of it.
pub const OPEN2: u16 = 4;
/// Whether the receiver has a parent image of a holder.
pub const PARENT: u16 = 5;
/// As [`ADD`] or [`HOLE`], by flags.
pub const ADD_F: u16 = 6;
/// Pages of a process are asked for, whose number stands as it is where others have a holder; the answer is [`ADD_F`] with their
/// bytes.
pub const GET: u16 = 7;
/// All was sent; the answer is 0 once all is stored.
pub const CLOSE: u16 = 0x1023;
/// As [`CLOSE`], on a socket that others have open too.
pub const FORCE_CLOSE: u16 = 0x1024;

/// The pages are as in the parent image set.
pub const IN_PARENT: u16 = 1;
/// The pages may be filled lazily.
pub const LAZY: u16 = 2;
/// The bytes follow.
pub const PRESENT: u16 = 4;
/// The pages are as in the parent task.
pub const IN_PARENT_TASK: u16 = 8;
/// With [`OPEN2`]: the client would send [`IN_PARENT_TASK`].
pub const EXTENDED: u16 = 0x4000;

/// In the answer to [`OPEN2`]: there is a parent image.
pub const HAS_PARENT: u8 = 1;
/// In the answer to [`OPEN2`] with [`EXTENDED`]: [`IN_PARENT_TASK`] is known.
pub const KNOWS_TASKS: u8 = 2;

const KIND_TASK: u64 = 1;
const KIND_SEGMENT: u64 = 2;

/// Whose pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A process's.
    Task(u32),
    /// A shared segment's.
    Segment(u64),
}

impl Holder {
    /// Returns the number that names it.
    pub fn id(self) -> u64 {
        match self {
            Holder::Task(pid) => u64::from(pid) << 8 | KIND_TASK,
            Holder::Segment(id) => id << 8 | KIND_SEGMENT,
        }
    }

    /// Returns the holder of this number; `None` where it names none.
    pub fn from_id(id: u64) -> Option<Self> {
        match id & 0xff {
            KIND_TASK => {
                let pid = u32::try_from(id >> 8).ok()?;
                (pid != 0 && pid <= i32::MAX as u32).then_some(Holder::Task(pid))
            }
            KIND_SEGMENT => Some(Holder::Segment(id >> 8)),
            _ => None,
        }
    }

    /// Returns the name of its pagemap.
    pub fn pagemap(self) -> String {
        match self {
            Holder::Task(pid) => format!("pagemap-{pid}.img"),
            Holder::Segment(id) => format!("pagemap-shmem-{id}.img"),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Task(pid) => write!(f, "process {pid}"),
            Holder::Segment(id) => write!(f, "shared segment {id}"),
        }
    }
}

/// A request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub command: u16,
    /// Flags of the pages.
    pub flags: u16,
    /// How many pages.
    pub pages: u64,
    /// Address of the first.
    pub address: u64,
    /// Number of the holder.
    pub holder: u64,
}

impl Request {
    /// Returns its bytes.
    pub fn to_bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..2].copy_from_slice(&self.command.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.pages.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.address.to_le_bytes());
        bytes[24..].copy_from_slice(&self.holder.to_le_bytes());
        bytes
    }

    /// Returns the request of these bytes.
    pub fn from_bytes(bytes: &[u8; LEN]) -> Self {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Self {
            command: half(0),
            flags: half(2),
            pages: word(8),
            address: word(16),
            holder: word(24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_the_peer_sends() {
        let request = Request {
            command: ADD_F,
            flags: PRESENT | LAZY,
            pages: 254,
            address: 0x7f21_89a8_b000,
            holder: Holder::Task(30946).id(),
        };
        let bytes = request.to_bytes();
        assert_eq!(bytes[..8], [6, 0, 6, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[24..], 0x78e201_u64.to_le_bytes());
        assert_eq!(Request::from_bytes(&bytes), request);
    }

    #[test]
    fn holders_that_cannot_be_are_none() {
        assert_eq!(Holder::from_id(0x78e201), Some(Holder::Task(30946)));
        assert_eq!(Holder::from_id(0x502), Some(Holder::Segment(5)));
        for id in [0, 1, 0x503, u64::MAX, 0x0080_0000_0001] {
            assert_eq!(Holder::from_id(id), None, "{id:#x}");
        }
    }
}
