//! POSIX message queues of the host's IPC namespace outlive who made them. A restore that fails leaves none that were not there
//! before.

use crate::plan::Plan;
use crate::sys::mqueue;
use std::ffi::CString;

/// Removes what a restore made, unless that succeeded.
#[derive(Debug)]
pub(super) struct Queues {
    made: Vec<CString>,
}

impl Queues {
    /// Notes what the plan is to make.
    pub(super) fn watch(plan: &Plan) -> Self {
        let made = match plan.launch.has_own_ipc {
            true => Vec::new(),
            false => plan.queues.clone(),
        };
        Self {
            made: made
                .into_iter()
                .filter_map(|name| CString::new(name).ok())
                .collect(),
        }
    }

    /// Lets them be.
    pub(super) fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        for name in &self.made {
            // It may have been made, or not, or have lost its name already.
            let _ = mqueue::unlink(name);
        }
    }
}
