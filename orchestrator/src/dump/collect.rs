//! What can be told of a frozen tree from outside; all that cannot be kept is refused here, at once.

use super::areas::{self, Segment};
use super::files::{Choices, FileTable};
use super::{Error, Settings, losses, process, relations};
use crate::error::Refusals;
use crate::procfs::{self, timers::TimerLine};
use crate::snapshot::{PipeBuffer, Task};
use crate::support::Loss;
use crate::tracee::{Frozen, Tree};

/// What is known of a frozen tree before the parasite is asked.
#[derive(Debug)]
pub struct Facts {
    /// The living, in the order of [`Tree::living`].
    pub tasks: Vec<TaskFacts>,
    /// Those that have ended.
    pub dead: Vec<Task>,
    /// All open file descriptions.
    pub files: FileTable,
    /// Shared anonymous memory.
    pub segments: Vec<Segment>,
    /// What lies in pipes, and in named ones.
    pub pipes: [Vec<PipeBuffer>; 2],
    /// What is not kept.
    pub losses: Vec<Loss>,
}

/// What is known of one process.
#[derive(Debug)]
pub struct TaskFacts {
    /// The process.
    pub task: Task,
    /// Its POSIX timers, as `/proc` tells them.
    pub timers: Vec<TimerLine>,
}

/// Collects, and refuses what cannot be kept.
///
/// # Errors
/// `/proc` cannot be read, or something is refused.
pub fn collect(tree: &Tree, settings: &Settings) -> Result<Facts, Error> {
    let mut refusals = Vec::new();
    let mut files = FileTable::new(Choices {
        ghost_limit: settings.ghost_limit,
        file_locks: settings.file_locks,
        shell_job: settings.shell_job,
    });
    let mut segments = Vec::new();
    let mut tasks: Vec<TaskFacts> = Vec::new();
    let mut losses = Vec::new();
    for (index, frozen) in tree.living.iter().enumerate() {
        let pid = frozen.pid();
        if index > 0 {
            refusals.extend(process::refuse_foreign(pid)?);
            losses.extend(losses::collect_early(pid)?);
        }
        let areas = procfs::smaps::read(pid)?;
        let fds = files.collect(pid, &mut refusals)?;
        let vmas = areas::collect(pid, &areas, &mut files, &mut segments, &mut refusals);
        let mut task = process::collect(frozen, index as u32, &mut files, &mut refusals)?;
        task.fds = fds;
        if let Some(mm) = &mut task.mm {
            mm.vmas = vmas;
        }
        let timers = procfs::timers::read(pid)?;
        tasks.push(TaskFacts { task, timers });
    }
    files.settle(&mut refusals);
    let dead: Vec<Task> = tree.dead.iter().map(process::of_dead).collect();
    let living: Vec<&Frozen> = tree.living.iter().collect();
    relations::refuse_shared(&living, &mut refusals);
    relations::settle(&mut tasks, &dead, settings.shell_job, &mut refusals);
    Refusals(refusals).into_result()?;
    losses.extend(losses::of_files(&tasks, &files));
    Ok(Facts {
        // Now, as the tree stands still: what it leaves in a pipe is what the image has.
        pipes: files.read_pipes()?,
        losses,
        tasks,
        dead,
        files,
        segments,
    })
}
