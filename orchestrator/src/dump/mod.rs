//! The dump: seize, collect, infect, ask, drain, cure, encode, let go or kill.
//!
//! Everything that stands in the way is found before the target is changed, and told at once. Until the image set is
//! complete the target can be let go as it was, and every error path does that.

mod areas;
mod ask;
mod collect;
mod descriptor;
mod drain;
mod files;
mod losses;
mod policies;
mod process;
mod relations;
mod thread;

use crate::error::{Refusals, Target};
use crate::image::{self, DumpStats, ImageWriter};
use crate::infect::{self, Infected};
use crate::memory::{self, output::PageOutput};
use crate::procfs;
use crate::snapshot::{Origin, Snapshot};
use crate::support::Loss;
use crate::sys::signal::SignalsBlocked;
use crate::sys::{self, Pid};
use crate::tracee::{self, Frozen, Tree};
use collect::{Facts, collect};
use drain::{Drained, drain_all};
use std::path::Path;
use std::time::{Duration, Instant};

/// What becomes of the target once it is dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It is killed.
    Kill,
    /// It runs on.
    Run,
    /// It is left stopped.
    Stop,
}

/// What to dump, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The root of the tree.
    pub pid: Pid,
    /// What becomes of it.
    pub after: After,
    /// Locks on files are kept.
    pub file_locks: bool,
    /// Most bytes of a deleted file that is kept.
    pub ghost_limit: u64,
    /// The images are to be restored by the peer too: nothing in them that it does not know.
    pub portable: bool,
    /// A job of a shell: its session and terminal lie outside.
    pub shell_job: bool,
    /// Time after which freezing is given up; zero = never.
    pub timeout: Duration,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something cannot be kept.
    #[error("{0}")]
    Refused(#[from] Refusals),
    /// Freezing or letting go.
    #[error(transparent)]
    Tracee(#[from] tracee::Error),
    /// The parasite.
    #[error(transparent)]
    Infect(#[from] infect::Error),
    /// `/proc`.
    #[error(transparent)]
    Proc(#[from] procfs::Error),
    /// Memory.
    #[error(transparent)]
    Memory(#[from] memory::Error),
    /// The images.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A system call of ours.
    #[error(transparent)]
    Own(sys::Error),
    /// A deleted file.
    #[error("cannot read a deleted file")]
    Ghost(#[source] std::io::Error),
    /// A pipe of the target.
    #[error("cannot read what a pipe holds")]
    Pipe(#[source] std::io::Error),
}

/// A dump that failed: why, and what became of the target.
#[derive(Debug, thiserror::Error)]
#[error("{source}{}", after(*target))]
pub struct Failure {
    /// Why.
    pub source: Error,
    /// What became of the target.
    pub target: Target,
}

fn after(target: Target) -> String {
    match target {
        Target::Absent => String::new(),
        target => format!("; {target}"),
    }
}

impl Failure {
    fn new(target: Target, source: impl Into<Error>) -> Self {
        Self {
            source: source.into(),
            target,
        }
    }

    /// Looks whether the target is still there: whoever ends it in the middle of a dump makes any call fail.
    fn checked(mut self, pid: Pid) -> Self {
        let is_alive = procfs::stat::read(pid).is_ok_and(|stat| !matches!(stat.state, b'Z' | b'X'));
        if !is_alive {
            self.target = match &self.source {
                Error::Tracee(tracee::Error::Missing(_)) | Error::Refused(_) => Target::Absent,
                _ => Target::Lost,
            };
        }
        self
    }
}

/// Dumps a process tree into the folder `dir`.
///
/// # Errors
/// With the word what became of the target.
pub fn dump(settings: &Settings, dir: &Path) -> Result<DumpStats, Failure> {
    // Whoever interrupts us is heard when the target is as it was: to die in the middle leaves our memory in it.
    let quiet = SignalsBlocked::new().map_err(|error| untouched(Error::Own(error)))?;
    let dumped = dump_tree(settings, dir);
    drop(quiet);
    dumped.map_err(|failure| failure.checked(settings.pid))
}

fn dump_tree(settings: &Settings, dir: &Path) -> Result<DumpStats, Failure> {
    let begin = Instant::now();
    let prepared = prepare(settings, dir).map_err(untouched)?;
    let seize = Instant::now();
    let tree = tracee::freeze_tree(settings.pid, settings.timeout).map_err(untouched)?;
    let mut stats = DumpStats {
        freezing_us: micros(seize),
        ..DumpStats::default()
    };
    let frozen_at = Instant::now();
    tell_frozen(&tree);
    let mut facts = collect(&tree, settings).map_err(untouched)?;
    let mut infected = infect_all(tree).map_err(put_back)?;
    let origin = ask::ask(&mut infected, &mut facts).map_err(put_back)?;
    let Prepared {
        mut writer,
        pages,
        mut losses,
    } = prepared;
    let drained = drain_all(
        &mut infected,
        &mut facts,
        (pages, settings.portable),
        &mut writer,
        &mut stats,
    )
    .map_err(put_back)?;
    losses.append(&mut facts.losses);
    let tree = cure_all(infected).map_err(put_back)?;
    if settings.after == After::Run {
        // The image set is written beside the running target: all that it needs is here.
        tree.into_iter().for_each(Frozen::release);
        stats.frozen_us = micros(frozen_at);
        finish(facts, origin, drained, writer, &stats).map_err(put_back)?;
    } else {
        stats.frozen_us = micros(frozen_at);
        finish(facts, origin, drained, writer, &stats).map_err(put_back)?;
        end(tree, settings.after).map_err(put_back)?;
    }
    if let Some(words) = losses::words(&losses) {
        tracing::warn!("{words}");
    }
    tracing::info!(
        "dumped in {} us, of it {} us frozen",
        micros(begin),
        stats.frozen_us
    );
    Ok(stats)
}

fn untouched(error: impl Into<Error>) -> Failure {
    Failure::new(Target::Untouched, error)
}

fn put_back(error: impl Into<Error>) -> Failure {
    Failure::new(Target::PutBack, error)
}

/// What is made and looked at while the target still runs.
#[derive(Debug)]
struct Prepared {
    writer: ImageWriter,
    pages: PageOutput,
    losses: Vec<Loss>,
}

fn prepare(settings: &Settings, dir: &Path) -> Result<Prepared, Error> {
    let missing = |error| match is_missing(&error) {
        true => Error::Tracee(tracee::Error::Missing(settings.pid.0)),
        false => error,
    };
    let mut writer = ImageWriter::create(dir)?;
    let early = process::refuse_early(settings.pid, settings.shell_job).map_err(missing)?;
    Refusals(early).into_result()?;
    let losses = losses::collect_early(settings.pid).map_err(missing)?;
    let pages = PageOutput::new(writer.pages_file(1)?, 1);
    Ok(Prepared {
        writer,
        pages,
        losses,
    })
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Proc(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ESRCH)))
}

fn tell_frozen(tree: &Tree) {
    let threads: usize = tree.living.iter().map(|task| task.threads().len()).sum();
    tracing::info!(
        "{} processes with {threads} threads stand still",
        tree.living.len()
    );
}

fn micros(since: Instant) -> u32 {
    since.elapsed().as_micros().min(u128::from(u32::MAX)) as u32
}

/// Puts the parasite into every process; those that have it are cured where one cannot be infected.
fn infect_all(tree: Tree) -> Result<Vec<Infected>, Error> {
    let infected = tree.living.into_iter().map(infect::infect);
    Ok(infected.collect::<Result<_, _>>()?)
}

fn cure_all(infected: Vec<Infected>) -> Result<Vec<Frozen>, Error> {
    let cured = infected.into_iter().map(Infected::cure);
    Ok(cured.collect::<Result<_, _>>()?)
}

fn end(tree: Vec<Frozen>, after: After) -> Result<(), Error> {
    match after {
        After::Kill => {
            // Should we end in the middle of it, it is done all the same: there is no half of a tree.
            tree.iter().try_for_each(Frozen::doom)?;
            // Children first: their parents' ends would make them somebody else's.
            tree.into_iter().rev().try_for_each(Frozen::kill)?;
        }
        After::Run => tree.into_iter().for_each(Frozen::release),
        After::Stop => tree.into_iter().for_each(Frozen::release_stopped),
    }
    Ok(())
}

/// Writes all that is not memory, which makes the image set valid.
fn finish(
    facts: Facts,
    origin: Origin,
    drained: Drained,
    writer: ImageWriter,
    stats: &DumpStats,
) -> Result<(), Error> {
    let snapshot = assemble(facts, origin, drained);
    Ok(writer.finish(&snapshot, stats)?)
}

/// Puts the parts together.
fn assemble(facts: Facts, origin: Origin, drained: Drained) -> Snapshot {
    let Facts {
        tasks,
        dead,
        mut files,
        pipes: [pipes, fifos],
        ..
    } = facts;
    files.add_build_ids();
    let mut living: Vec<_> = tasks.into_iter().map(|facts| facts.task).collect();
    for (task, pages) in living.iter_mut().zip(drained.private) {
        if let Some(mm) = &mut task.mm {
            mm.pages = pages;
        }
    }
    living.extend(dead);
    Snapshot {
        origin,
        tasks: living,
        pipes,
        fifos,
        locks: files.locks,
        files: files.files,
        memfds: files.memfds,
        terminals: files.terminals,
        shared: drained.shared,
        ghosts: drained.ghosts,
    }
}
