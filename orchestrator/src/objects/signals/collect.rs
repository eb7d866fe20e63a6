//! From the kernel to the fact: dispositions and alternate stacks are asked inside; pending signals come by ptrace.

use crate::infect::questions::{Answers, Arg, Asked, Buffer, Questions, u32_at, u64_at};
use crate::snapshot::{SigAction, SigAltStack};

/// Signals are numbered 1..=64.
const SIGNALS: u64 = 64;

/// Size of a `sigset_t` as the kernel wants it named, in bytes.
const SIGSET_LEN: u64 = 8;

/// Size of the kernel's `struct sigaction` on x86-64: handler, flags, restorer, mask.
const ACTION_LEN: usize = 32;

/// Questions about the dispositions of all signals.
#[derive(Debug)]
pub struct Actions(Vec<(Asked, Buffer)>);

impl Actions {
    /// Asks.
    pub fn ask(questions: &mut Questions) -> Self {
        Self(
            (1..=SIGNALS)
                .map(|signal| {
                    let buffer = questions.space(ACTION_LEN);
                    let args = [
                        Arg::Value(signal),
                        Arg::Value(0),
                        buffer.into(),
                        Arg::Value(SIGSET_LEN),
                    ];
                    (questions.ask(libc::SYS_rt_sigaction as u32, args), buffer)
                })
                .collect(),
        )
    }

    /// Returns the dispositions of signals 1..=64.
    pub fn read(&self, answers: &Answers) -> Vec<SigAction> {
        self.0
            .iter()
            .map(|&(asked, buffer)| match answers.filled(asked, buffer) {
                None => SigAction::default(),
                Some(bytes) => SigAction {
                    handler: u64_at(bytes, 0),
                    flags: u64_at(bytes, 8),
                    restorer: u64_at(bytes, 16),
                    mask: u64_at(bytes, 24),
                },
            })
            .collect()
    }
}

/// Question about a thread's alternate stack.
#[derive(Debug)]
pub struct AltStack(Asked, Buffer);

impl AltStack {
    /// Asks; the thread must not be on the stack it is asked about.
    pub fn ask(questions: &mut Questions) -> Self {
        let buffer = questions.space(24);
        Self(
            questions.ask(libc::SYS_sigaltstack as u32, [Arg::Value(0), buffer.into()]),
            buffer,
        )
    }

    /// Returns the alternate stack, if one was ever set.
    pub fn read(&self, answers: &Answers) -> Option<SigAltStack> {
        let bytes = answers.filled(self.0, self.1)?;
        let stack = SigAltStack {
            sp: u64_at(bytes, 0),
            flags: u32_at(bytes, 8) & !(libc::SS_ONSTACK as u32),
            size: u64_at(bytes, 16),
        };
        let never_set = stack.sp == 0 && stack.size == 0 && stack.flags == libc::SS_DISABLE as u32;
        (!never_set).then_some(stack)
    }
}
