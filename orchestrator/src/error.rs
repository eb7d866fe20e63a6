//! What went wrong, and what became of the target.

use std::fmt;

/// What became of the target of a dump that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// There is none.
    Absent,
    /// It was never changed: at most it stood still for a moment.
    Untouched,
    /// It was changed and put back as it was.
    PutBack,
    /// It could not be put back, or died meanwhile.
    Lost,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Target::Absent => "there is no target",
            Target::Untouched => "the target runs on untouched",
            Target::PutBack => "the target was put back and runs on",
            Target::Lost => "the target has ended",
        })
    }
}

/// An object that stands in the way of a dump or a restore: who owns it, what it is, why it cannot be kept, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Process (or thread) that owns it.
    pub task: i32,
    /// The object, as a person would name it: `descriptor 7 (socket:[123])`.
    pub object: String,
    /// What stands in the way.
    pub reason: String,
    /// What would let it pass; empty where nothing would.
    pub remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}: {}: {}", self.task, self.object, self.reason)?;
        if !self.remedy.is_empty() {
            write!(f, " ({})", self.remedy)?;
        }
        Ok(())
    }
}

/// All that stands in the way, at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refusals(pub Vec<Refusal>);

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, refusal) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{refusal}")?;
        }
        Ok(())
    }
}

impl Refusals {
    /// Returns an error if there are any.
    ///
    /// # Errors
    /// Itself, unless empty.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

/// Formats an error with its sources on one line, each after a colon, without saying the same twice.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let words = inner.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = inner.source();
    }
    text
}
