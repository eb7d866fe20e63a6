//! What an image set holds that this build cannot restore, all of it at once and by name.

use crate::snapshot::Snapshot;

/// One thing that stands in the way of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Process id of the task it belongs to; 0 = the whole image set.
    pub task: i32,
    /// The object: `descriptor 7 (UNIXSK)`, `VMA 7f12…`, `zombie`.
    pub object: String,
    /// Why it cannot be restored.
    pub reason: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.task != 0 {
            write!(f, "task {}: ", self.task)?;
        }
        write!(f, "{}: {}", self.object, self.reason)
    }
}

/// Returns what in `snapshot` this build cannot restore.
pub fn refusals(snapshot: &Snapshot) -> Vec<Refusal> {
    let _ = snapshot;
    Vec::new()
}
