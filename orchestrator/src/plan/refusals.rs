//! What stands in the way, and what will be missing: collected while planning, told all at once.

/// Something that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Process id of the task it belongs to; 0 = the whole snapshot.
    pub task: i32,
    /// The object: `descriptor 7`, `RLIMIT_NOFILE`.
    pub object: String,
    /// Why it cannot be restored.
    pub reason: String,
    /// What may be done about it; empty = nothing.
    pub remedy: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.task != 0 {
            write!(f, "task {}: ", self.task)?;
        }
        write!(f, "{}: {}", self.object, self.reason)?;
        if !self.remedy.is_empty() {
            write!(f, " ({})", self.remedy)?;
        }
        Ok(())
    }
}

/// Refusals and losses found so far.
#[derive(Debug, Default)]
pub struct Report {
    /// Task that is being planned.
    pub task: i32,
    /// What cannot be restored.
    pub refusals: Vec<Refusal>,
    /// What is left out, in words.
    pub not_kept: Vec<String>,
}

impl Report {
    /// Refuses `object`.
    pub fn refuse(
        &mut self,
        object: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.refusals.push(Refusal {
            task: self.task,
            object: object.into(),
            reason: reason.into(),
            remedy: remedy.into(),
        });
    }

    /// Notes that something is not brought back.
    pub fn lose(&mut self, what: impl std::fmt::Display) {
        self.not_kept.push(format!("task {}: {what}", self.task));
    }
}
