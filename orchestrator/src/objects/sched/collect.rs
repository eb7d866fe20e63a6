//! From the kernel to the fact: the NUMA policy is asked inside; the rest is told from outside (`dump::thread`).

use crate::infect::questions::{Answers, Arg, Asked, Buffer, Questions, u32_at};
use crate::snapshot::MemPolicy;

/// Nodes that a mask has room for, in bits (`MAX_NUMNODES` is at most 1024).
const NODES: u64 = 1024;

/// Question about a thread's NUMA policy.
#[derive(Debug)]
pub struct Policy {
    asked: Asked,
    mode: Buffer,
    nodes: Buffer,
}

impl Policy {
    /// Asks.
    pub fn ask(questions: &mut Questions) -> Self {
        let (mode, nodes) = (questions.space(8), questions.space(NODES as usize / 8));
        let args = [
            mode.into(),
            nodes.into(),
            Arg::Value(NODES + 1),
            Arg::Value(0),
            Arg::Value(0),
        ];
        Self {
            asked: questions.ask(libc::SYS_get_mempolicy as u32, args),
            mode,
            nodes,
        }
    }

    /// Returns the policy, unless it is the default one.
    pub fn read(&self, answers: &Answers) -> Option<MemPolicy> {
        let mode = u32_at(answers.filled(self.asked, self.mode)?, 0);
        if mode == 0 {
            return None;
        }
        let mut nodes = answers.buffer(self.nodes).to_vec();
        while nodes.last() == Some(&0) {
            nodes.pop();
        }
        Some(MemPolicy { mode, nodes })
    }
}
