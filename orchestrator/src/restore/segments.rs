//! Segments of System V shared memory outlive who made them. A restore that fails leaves none: those are removed that were not
//! there before, and that a process of the tree has made.

use super::error::Result;
use crate::plan::Plan;
use crate::procfs::sysvipc;
use crate::sys::ipc;
use std::collections::BTreeSet;

/// Removes what a restore made, unless that succeeded.
#[derive(Debug)]
pub(super) struct Segments {
    before: BTreeSet<u32>,
    makers: BTreeSet<i32>,
    has_any: bool,
}

impl Segments {
    /// Notes what is there, if the plan makes segments.
    pub(super) fn watch(plan: &Plan, has_any: bool) -> Result<Self> {
        let before = match has_any {
            true => sysvipc::read_shm()?,
            false => Vec::new(),
        };
        Ok(Self {
            before: before.iter().map(|shm| shm.id).collect(),
            makers: plan.finals.iter().map(|last| last.pid).collect(),
            has_any,
        })
    }

    /// Lets them be.
    pub(super) fn keep(mut self) {
        self.has_any = false;
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        if !self.has_any {
            return;
        }
        let ours = |shm: &&sysvipc::Shm| {
            !self.before.contains(&shm.id) && self.makers.contains(&shm.creator)
        };
        for shm in sysvipc::read_shm().unwrap_or_default().iter().filter(ours) {
            if let Err(error) = ipc::remove_shm(shm.id) {
                tracing::warn!("System V shared memory {} stays: {error}", shm.id);
            }
        }
    }
}
