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
    pub(super) len: usize,
}

impl Parts {
    pub(super) fn new(slots: usize) -> Self {
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
            len: batches + slots * BATCH,
        }
    }

    pub(super) fn slot(&self, slot: usize) -> usize {
        self.slots + slot * size_of::<Slot>()
    }

    pub(super) fn batch(&self, slot: usize) -> (usize, usize) {
        if slot == 0 {
            (self.leader_batch, LEADER_BATCH)
        } else {
            (self.batches + slot * BATCH, BATCH)
        }
    }
}
