//! Where the parts of the parasite's mapping lie.

use crate::blobs::PARASITE;
use arch::abi::injection::{Control, Slot};
use arch::native::sigframe;

/// Stack of a hijacked thread, in bytes.
pub(super) const STACK: usize = 4096;
/// Room for the batches of a slot: operations, results and buffers.
const BATCH: usize = 16 << 10;
/// Room for the operations of the self-cure.
pub(super) const CLEANUP: usize = 4096;
/// Room for the leader's batches.
pub const LEADER_BATCH: usize = 512 << 10;
const PAGE: usize = 4096;

/// What the mapping has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The process.
    Plain,
    /// A copy of its memory too, that answers out of the same mapping.
    Copied,
}

/// Where the parts of the mapping lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    pub(super) control: usize,
    pub(super) slots: usize,
    pub(super) stacks: usize,
    pub(super) frames: usize,
    pub(super) cleanup: usize,
    pub(super) leader_batch: usize,
    pub(super) batches: usize,
    /// Slot of a copy.
    pub(super) copy: usize,
    copy_batch: usize,
    pub(super) len: usize,
}

impl Parts {
    pub(super) fn new(slots: usize, room: Room) -> Self {
        // A copy takes a slot, and who makes it a stack.
        let (own, copy) = (slots, slots);
        let (slots, copy_len) = match room {
            Room::Plain => (own, 0),
            Room::Copied => (own + 2, LEADER_BATCH),
        };
        let control = PARASITE.mem_size.next_multiple_of(PAGE);
        let slots_at = control + size_of::<Control>();
        let stacks = (slots_at + slots * size_of::<Slot>()).next_multiple_of(PAGE);
        let frames = stacks + slots * STACK;
        let cleanup = (frames + slots * sigframe::ROOM).next_multiple_of(PAGE);
        let leader_batch = cleanup + CLEANUP;
        let batches = leader_batch + LEADER_BATCH;
        Self {
            control,
            slots: slots_at,
            stacks,
            frames,
            cleanup,
            leader_batch,
            batches,
            copy,
            copy_batch: batches + own * BATCH,
            len: batches + own * BATCH + copy_len,
        }
    }

    pub(super) fn slot(&self, slot: usize) -> usize {
        self.slots + slot * size_of::<Slot>()
    }

    /// Returns where the stack of a slot begins, from its upper end on.
    pub(super) fn stack_top(&self, slot: usize) -> usize {
        self.stacks + (slot + 1) * STACK - 64
    }

    pub(super) fn batch(&self, slot: usize) -> (usize, usize) {
        if slot == 0 {
            (self.leader_batch, LEADER_BATCH)
        } else if slot == self.copy {
            (self.copy_batch, LEADER_BATCH)
        } else {
            (self.batches + slot * BATCH, BATCH)
        }
    }
}
