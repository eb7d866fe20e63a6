//! The dump: seize, collect, infect, ask, drain, cure, encode, let go or kill.
//!
//! Everything that stands in the way is found before the target is changed, and told at once. Until the image set is
//! complete the target can be let go as it was, and every error path does that.

mod areas;
mod ask;
mod collect;
mod connections;
mod descriptor;
mod drain;
mod files;
mod ipc;
mod keys;
mod live;
mod losses;
mod network;
pub mod outlet;
mod policies;
mod process;
mod queues;
mod relations;
pub mod rounds;
mod segments;
pub mod source;
mod thread;
pub mod tracking;

use crate::error::{Refusals, Target};
use crate::image::{self, DumpStats, ImageWriter};
use crate::infect::{self, Infected};
use crate::keeper;
use crate::memory::{self, output::PageOutput};
use crate::procfs;
use crate::snapshot::{NetworkLock, Origin, Snapshot};
use crate::stages::{self, Stage, Stages};
use crate::support::Loss;
use crate::sys::signal::SignalsBlocked;
use crate::sys::{self, Pid};
use crate::tracee::{self, Frozen, Tree};
use crate::wire::protocol::Holder;
use collect::{Facts, collect};
use connections::Connections;
use drain::{Drained, Drains, drain_all};
use files::Before;
pub use files::Outside;
use live::Taken;
use network::Place;
use outlet::{Destination, Outlet};
use source::{Left, Source};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracking::{Rounds, Tracking};

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
    /// It runs on as soon as its memory is copied.
    pub live: bool,
    /// Locks on files are kept.
    pub file_locks: bool,
    /// Most bytes of a deleted file that is kept.
    pub ghost_limit: u64,
    /// A file that was deleted under its name, and has others, gets one more until it is restored.
    pub link_remap: bool,
    /// Where else to look for names of what is watched.
    pub irmap_paths: Vec<PathBuf>,
    /// What lies outside, and is somebody else's at the restore.
    pub external: Vec<crate::external::External>,
    /// Who has a word at stages.
    pub stages: Stages,
    /// All of the images are brought to the disk before anything becomes of the target.
    pub sync: bool,
    /// The images are to be restored by the peer too: nothing in them that it does not know.
    pub portable: bool,
    /// Nothing is kept of what is in the tree's own network namespace.
    pub empty_network: bool,
    /// The pages go to this page server.
    pub page_server: Option<crate::wire::client::Reach>,
    /// Pages that can come later are left in the tree, and handed out here.
    pub lazy: Option<Source>,
    /// Pages are packed so.
    pub packing: Option<crate::wire::batches::Packing>,
    /// A job of a shell: its session and terminal lie outside.
    pub shell_job: bool,
    /// Connections of Unix sockets that leave the tree.
    pub outside: Outside,
    /// Connections of TCP.
    pub connections: crate::objects::inet::collect::Choices,
    /// How the network is kept away from connections that are kept.
    pub network_lock: NetworkLock,
    /// Time after which freezing is given up; zero = never.
    pub timeout: Duration,
    /// This cgroup stands still while the threads are seized.
    pub freeze_cgroup: Option<PathBuf>,
    /// What the set before has is not stored again.
    pub rounds: Rounds,
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
    /// The process that keeps track between dumps.
    #[error(transparent)]
    Keeper(#[from] keeper::Error),
    /// The descriptors of the target.
    #[error("cannot list the descriptors of a process")]
    Descriptors(#[source] std::io::Error),
    /// A terminal of the target.
    #[error("cannot read what waits in a pseudo-terminal")]
    Terminal(#[source] std::io::Error),
    /// Somebody who has a word.
    #[error(transparent)]
    Stage(#[from] stages::Error),
    /// A file that was deleted under its name.
    #[error("cannot give a deleted file the name {path}")]
    Link {
        /// The name.
        path: String,
        /// Why.
        #[source]
        source: sys::Error,
    },
    /// Pages that are handed out.
    #[error("cannot hand out the pages of the frozen process")]
    Serve(#[source] std::io::Error),
    /// Whoever asked for pages.
    #[error("the pages of the frozen process were not all handed out")]
    HandOut(#[from] Box<crate::page_server::Error>),
    /// The network namespace of the tree.
    #[error("cannot look at the network namespace of the tree")]
    Network(#[source] std::io::Error),
    /// Connections cannot be kept safe.
    #[error(
        "cannot lock the network by nftables; use --network-lock skip where it is locked by somebody else"
    )]
    NetworkLock(#[source] std::io::Error),
    /// The same, by other means.
    #[error("cannot lock the network by iptables")]
    Iptables(#[source] std::io::Error),
    /// A connection.
    #[error("task {task}: {object}: {reason}")]
    Connection {
        /// The process.
        task: i32,
        /// The descriptor.
        object: String,
        /// Why it cannot be kept.
        reason: String,
    },
    /// A POSIX message queue.
    #[error("cannot read what waits in the POSIX message queue /{name}")]
    Queue {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: sys::Error,
    },
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
        let is_alive = procfs::stat::read(pid).is_ok_and(|stat| !stat.is_ending());
        if !is_alive {
            self.target = match &self.source {
                Error::Tracee(tracee::Error::Missing(_)) | Error::Refused(_) => Target::Absent,
                _ => Target::Lost,
            };
        }
        self
    }
}

/// Dumps a process tree to where the images go.
///
/// # Errors
/// With the word what became of the target.
pub fn dump(settings: &Settings, to: Destination<'_>) -> Result<DumpStats, Failure> {
    // Whoever interrupts us is heard when the target is as it was: to die in the middle leaves our memory in it.
    let quiet = SignalsBlocked::new().map_err(|error| untouched(Error::Own(error)))?;
    let dumped = dump_tree(settings, to, quiet);
    dumped.map_err(|failure| failure.checked(settings.pid))
}

fn dump_tree(
    settings: &Settings,
    to: Destination<'_>,
    quiet: SignalsBlocked,
) -> Result<DumpStats, Failure> {
    let begin = Instant::now();
    settings
        .stages
        .reached(Stage::PreDump, Some(settings.pid))
        .map_err(untouched)?;
    let dir = to.dir().to_path_buf();
    let prepared = prepare(settings, to, &dir).map_err(untouched)?;
    let seize = Instant::now();
    let mut tree = tracee::freeze_tree(
        settings.pid,
        settings.timeout,
        settings.freeze_cgroup.as_deref(),
    )
    .map_err(untouched)?;
    let mut stats = DumpStats {
        freezing_us: micros(seize),
        ..DumpStats::default()
    };
    let frozen_at = Instant::now();
    tell_frozen(&tree);
    let Prepared {
        mut writer,
        outlet,
        pages,
        mut losses,
        mut tracking,
        before,
    } = prepared;
    let place = Place::of(settings.pid).map_err(untouched)?;
    let namespaces = place.namespaces(settings.pid);
    let facts = place.within(|| collect(&mut tree, settings, &mut tracking, (before, namespaces)));
    let mut facts = facts.map_err(untouched)?;
    tell_phase("collected", frozen_at);
    let mut infected = infect_all(tree, settings.live).map_err(put_back)?;
    tell_phase("infected", frozen_at);
    let mut origin = ask::ask(&mut infected, &mut facts, settings.portable).map_err(put_back)?;
    origin.run_id = Some(tracking.run_id.clone());
    origin.has_own_session = facts.has_own_session;
    let links = facts.files.make_links().map_err(put_back)?;
    let connections = Connections::read(&mut facts, settings, (&tracking.run_id, &place));
    let mut connections = connections.map_err(put_back)?;
    origin.network_lock = settings.network_lock;
    origin.tcp_close = settings.connections.close_connections;
    tell_phase("asked", frozen_at);
    let mut drains = Drains {
        writer: &mut writer,
        outlet: &outlet,
        tracking: &mut tracking,
        stats: &mut stats,
        portable: settings.portable || settings.lazy.is_some(),
        lazy: settings.lazy.is_some(),
        first: Some(pages),
        next_id: 2,
    };
    let taken = take(settings, &mut infected, &mut facts, &mut drains).map_err(put_back)?;
    losses.append(&mut facts.losses);
    tell_phase("drained", frozen_at);
    let tree = cure_all(infected).map_err(put_back)?;
    let tree = match settings.after {
        After::Run => {
            // They go on where the tree does.
            drop(std::mem::take(&mut connections));
            // The image set is written beside the running target: all that it needs is here.
            tree.into_iter().for_each(Frozen::release);
            Vec::new()
        }
        After::Kill | After::Stop => tree,
    };
    drains.stats.frozen_us = micros(frozen_at);
    let drained = taken.finish(&mut facts, &mut drains).map_err(put_back)?;
    let snapshot = assemble(facts, origin, drained);
    writer.finish(&snapshot, &stats).map_err(put_back)?;
    if let Some(source) = &settings.lazy {
        // The tree is as it was, and would run on without us.
        drop(quiet);
        let left = Left::of(&snapshot).map_err(put_back)?;
        source.serve(left).map_err(put_back)?;
    }
    let passed = settings.stages.reached(Stage::PostDump, Some(settings.pid));
    if settings.after != After::Run {
        // The images are there, whatever the script says.
        links.keep();
        passed.map_err(put_back)?;
        end(tree, settings.after, connections).map_err(put_back)?;
    } else {
        passed.map_err(put_back)?;
    }
    tracking.finish();
    if settings.rounds.dedup && !outlet.is_elsewhere() {
        take_out_superseded(&dir);
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

/// Writes the memory of a frozen tree, or copies it.
fn take(
    settings: &Settings,
    infected: &mut [Infected],
    facts: &mut Facts,
    drains: &mut Drains<'_>,
) -> Result<Taken, Error> {
    let unwritten = drain::unwritten(facts, drains.tracking)?;
    match settings.live {
        true => live::take(infected, facts, drains, unwritten),
        false => drain_all(infected, facts, drains, &unwritten).map(Taken::Whole),
    }
}

/// Takes out of the parents what the new set has: it is complete, so that this may be left off at any moment.
fn take_out_superseded(dir: &Path) {
    match image::dedup(dir) {
        Ok(pages) => tracing::info!("{pages} pages of parent sets were superseded"),
        Err(error) => tracing::warn!("superseded pages stay in parent sets: {error}"),
    }
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
    outlet: Outlet,
    pages: PageOutput,
    losses: Vec<Loss>,
    tracking: Tracking,
    before: Before,
}

fn prepare(settings: &Settings, to: Destination<'_>, dir: &Path) -> Result<Prepared, Error> {
    let missing = |error| missing(error, settings.pid);
    let (mut writer, outlet) = Outlet::open(
        to,
        (settings.page_server.as_ref(), settings.packing),
        settings.rounds.track,
    )?;
    if settings.sync {
        writer.sync_to_disk();
    }
    let early = process::refuse_early(settings.pid, settings.shell_job).map_err(missing)?;
    Refusals(early).into_result()?;
    let losses = losses::collect_early(settings.pid).map_err(missing)?;
    let tracking = Tracking::prepare(settings.pid, &settings.rounds, dir)?;
    writer.set_parent(tracking.link())?;
    let root = Holder::Task(settings.pid.0 as u32);
    let pages = outlet.output(&mut writer, root, 1)?;
    Ok(Prepared {
        writer,
        outlet,
        pages,
        losses,
        tracking,
        before: Before::look(settings.pid),
    })
}

/// Says that a process is missing where that is why `/proc` could not be read.
fn missing(error: Error, pid: Pid) -> Error {
    match is_missing(&error) {
        true => Error::Tracee(tracee::Error::Missing(pid.0)),
        false => error,
    }
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

fn tell_phase(done: &str, frozen_at: Instant) {
    tracing::debug!("{done} {} us after all stood still", micros(frozen_at));
}

fn micros(since: Instant) -> u32 {
    since.elapsed().as_micros().min(u128::from(u32::MAX)) as u32
}

/// Puts the parasite into every process; those that have it are cured where one cannot be infected.
fn infect_all(tree: Tree, live: bool) -> Result<Vec<Infected>, Error> {
    let room = match live {
        true => infect::Room::Copied,
        false => infect::Room::Plain,
    };
    let living = tree.living.into_iter();
    let infected = living.map(|frozen| infect::infect(frozen, room));
    Ok(infected.collect::<Result<_, _>>()?)
}

fn cure_all(infected: Vec<Infected>) -> Result<Vec<Frozen>, Error> {
    let cured = infected.into_iter().map(Infected::cure);
    Ok(cured.collect::<Result<_, _>>()?)
}

fn end(tree: Vec<Frozen>, after: After, mut connections: Connections) -> Result<(), Error> {
    match after {
        After::Kill => {
            connections.make_lasting()?;
            // Should we end in the middle of it, it is done all the same: there is no half of a tree.
            tree.iter().try_for_each(Frozen::doom)?;
            connections.silence();
            // Children first: their parents' ends would make them somebody else's. Those of one generation end together.
            for generation in generations(tree).into_iter().rev() {
                generation.iter().try_for_each(Frozen::kill)?;
                generation.into_iter().for_each(Frozen::await_end);
            }
            connections.keep();
        }
        After::Run => tree.into_iter().for_each(Frozen::release),
        // It may be killed now, and restored: nobody may hear of its connections.
        After::Stop => {
            connections.make_lasting()?;
            connections.silence();
            tracee::release_stopped(tree);
            connections.keep();
        }
    }
    Ok(())
}

/// Parts a tree, in which parents come before their children, by how far each is from the root.
fn generations(tree: Vec<Frozen>) -> Vec<Vec<Frozen>> {
    let mut depths: BTreeMap<i32, usize> = BTreeMap::new();
    let mut generations: Vec<Vec<Frozen>> = Vec::new();
    for frozen in tree {
        let pid = frozen.pid();
        let parent = procfs::stat::read(pid).map_or(0, |stat| stat.ppid);
        let depth = depths.get(&parent).map_or(0, |depth| depth + 1);
        depths.insert(pid.0, depth);
        if generations.len() == depth {
            generations.push(Vec::new());
        }
        generations[depth].push(frozen);
    }
    generations
}

/// Puts the parts together.
fn assemble(facts: Facts, origin: Origin, drained: Drained) -> Snapshot {
    let Facts {
        tasks,
        dead,
        mut files,
        pipes: [pipes, fifos],
        shm,
        ipc,
        queues,
        network,
        filters,
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
        segments: shm,
        ipc,
        posix_queues: queues,
        network,
        ghosts: drained.ghosts,
        seccomp: filters,
        ..Snapshot::default()
    }
}
