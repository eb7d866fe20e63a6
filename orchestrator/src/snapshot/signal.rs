//! Signals: what a task does with them and which wait for it.

/// Disposition of one signal, as the kernel's `struct sigaction` says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SigAction {
    /// Handler address, or 0 (default), 1 (ignore).
    pub handler: u64,
    /// `SA_*` flags.
    pub flags: u64,
    /// Address of the restorer.
    pub restorer: u64,
    /// Signals blocked while the handler runs.
    pub mask: u64,
}

/// A queued signal: the kernel's `siginfo_t`, all of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct QueuedSignal(pub [u8; 128]);

impl QueuedSignal {
    /// Returns the signal's number.
    pub fn number(&self) -> i32 {
        i32::from_le_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }
}

impl std::fmt::Debug for QueuedSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QueuedSignal({})", self.number())
    }
}
