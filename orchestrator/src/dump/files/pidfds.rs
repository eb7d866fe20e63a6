//! pidfds: of processes and threads of the tree, or of such that are gone; one outside would be another after a restore.

use super::FileTable;
use crate::dump::collect::TaskFacts;
use crate::error::Refusal;
use crate::snapshot::{FileId, FileKind, PidFd, Task};
use crate::sys::{Pid, RemoteFd, fd as kernel};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

/// A pidfd that was found.
#[derive(Debug)]
pub(super) struct FoundPidFd {
    /// A process that has it, and its number there.
    named_by: (Pid, RemoteFd),
    id: FileId,
}

impl FileTable {
    /// Returns a pidfd, by the numbers that fdinfo tells of it: -1 for a process that is gone.
    pub(super) fn pidfd(
        &mut self,
        numbers: &[i32],
        own: &OwnedFd,
        ino: u64,
        named_by: (Pid, RemoteFd),
    ) -> PidFd {
        let of = numbers.first().copied().filter(|&pid| pid != -1);
        self.pidfds.push(FoundPidFd {
            named_by,
            id: self.next_id(),
        });
        PidFd {
            of,
            ino: ino as u32,
            exit_status: match of {
                Some(_) => None,
                None => kernel::pidfd_exit_status(own),
            },
        }
    }

    /// Refuses pidfds of processes and threads that are not of the tree.
    pub fn refuse_outer_pidfds(
        &self,
        tasks: &[TaskFacts],
        dead: &[Task],
        refusals: &mut Vec<Refusal>,
    ) {
        let threads = tasks.iter().flat_map(|facts| &facts.task.threads);
        let mut inside: BTreeSet<i32> = threads.map(|thread| thread.tid).collect();
        inside.extend(dead.iter().map(|task| task.pid));
        for found in &self.pidfds {
            let file = self.files.iter().find(|file| file.id == found.id);
            let Some(FileKind::PidFd(PidFd { of: Some(of), .. })) = file.map(|file| &file.kind)
            else {
                continue;
            };
            if !inside.contains(of) {
                let (pid, fd) = found.named_by;
                refusals.push(Refusal {
                    task: pid.0,
                    object: format!("descriptor {fd} (pidfd)"),
                    reason: match of {
                        0 => "it is of a process of another pid namespace".into(),
                        of => format!("it is of process {of}, which is outside of what is dumped"),
                    },
                    remedy: String::new(),
                });
            }
        }
    }
}
