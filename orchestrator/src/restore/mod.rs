//! Restoring: read the images, ask the system, plan, run the plan, and let go.
//!
//! ```text
//! images -> snapshot -> plan -> launch -> run -> commit
//!           nothing was changed ^         ^ every failure here kills what was made
//! ```
//!
//! What a restore does is in its plan; this module only runs plans. See [`run`] for how a failure is found and told.

mod arena;
mod between;
mod commit;
mod connections;
mod datagrams;
mod error;
mod files;
mod ghosts;
mod inherit;
mod launch;
mod map;
mod network;
mod numbers;
mod queues;
mod run;
mod segments;
mod sockets;

use std::path::{Path, PathBuf};
use std::time::Instant;

pub use error::{Error, Result};
pub use map::record_working_set;
pub use run::How;
use run::run;

use crate::external::{Inherited, OuterLink};
use crate::image::{self, ImageSet, RestoreStats};
use crate::kernel;
use crate::lazy::link::Link;
use crate::lazy::split::split;
use crate::plan::{self, Plan, Refusal, Settings};
use crate::stages::{Stage, Stages};
use crate::sys::Pid;
use error::Doing as _;
use ghosts::Ghosts;
use network::Place;
use sockets::Names;

/// What the user chose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Descriptors that the tree gets from us.
    pub inherited: Vec<Inherited>,
    /// Who has a word at stages.
    pub stages: Stages,
    /// The restored process becomes a child of our parent, not of us.
    pub sibling: bool,
    /// We end while the tree lives on.
    pub detached: bool,
    /// The monotonic clocks are the host's.
    pub host_clocks: bool,
    /// The tree joins the session, group and terminal of the caller.
    pub shell_job: bool,
    /// The caller waits for the tree in the foreground, and takes its terminal back after it.
    pub foreground: bool,
    /// Every process is left stopped.
    pub leave_stopped: bool,
    /// Other ends of the tree's links.
    pub outer_links: Vec<OuterLink>,
    /// Which network namespace it comes into.
    pub network: Network,
    /// Connections of TCP are restored.
    pub tcp_established: bool,
    /// Their sockets are restored closed.
    pub tcp_close: bool,
    /// Pages that were read are taken out of the images.
    pub dedup: bool,
    /// Memory comes while the tree runs, from the daemon that waits in this folder.
    pub lazy: Option<PathBuf>,
    /// Memory is mapped from the page files.
    pub map_images: bool,
}

/// Which network namespace a tree comes into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Network {
    /// The caller's, or a new one like its own.
    #[default]
    AsDumped,
    /// A new one in which nothing is, instead of its own.
    Empty,
    /// The one behind this file.
    Joined(PathBuf),
}

/// A tree that lives again.
#[derive(Debug)]
pub struct Restored {
    /// Its root.
    pub pid: Pid,
    /// What was measured.
    pub stats: RestoreStats,
    /// What of the snapshot was not brought back, in words.
    pub not_kept: Vec<String>,
    /// What was mapped from page files.
    pub mapped: Mapped,
}

/// Memory that was mapped from page files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mapped {
    /// Mappings.
    pub areas: u64,
    /// Their pages.
    pub pages: u64,
    /// Pages of them that were used by a run before, and made ready.
    pub prefetched: u64,
}

/// Restores the image set in the folder at `dir`.
pub fn restore_images(dir: &Path, options: &Options) -> Result<Restored> {
    let started = Instant::now();
    options.stages.reached(Stage::PreRestore, None)?;
    let mut images = image::read(dir)?;
    network::settle(&mut images.snapshot, &options.network);
    close_connections(&mut images, options);
    let link = lazy(&mut images, options)?;
    if options.map_images {
        map::map(&mut images, dir)?;
    }
    inherit(&mut images, options)?;
    let mut plan = plan_of(&images, options)?;
    let names = Names::make(&plan.socket_files)?;
    let ghosts = Ghosts::make(&images)?;
    if !ghosts.is_empty() {
        ghosts.lead(&mut images.snapshot);
        plan = plan_of(&images, options)?;
    }
    let how = How {
        sibling: options.sibling,
        detached: options.detached,
        leave_stopped: options.leave_stopped,
    };
    let how = (how, link.as_ref());
    let place = Place::make(&images.snapshot, &options.network, &options.outer_links)?;
    let mut restored = run(&plan, &images, how, (&options.stages, place))?;
    names.keep();
    ghosts.finish();
    if options.dedup
        && let Err(error) = image::punch(&images)
    {
        // The tree lives: what stays in the images does no harm.
        tracing::warn!("what was read stays in the images: {error}");
    }
    restored.stats.restore_us = micros(started);
    restored.stats.pages_restored = stored_pages(&images);
    restored.not_kept.extend_from_slice(&plan.not_kept);
    restored.mapped = map::mapped(&images.snapshot);
    Ok(restored)
}

/// Returns the plan by which [`restore_images`] would restore, and changes nothing.
pub fn plan_only(dir: &Path, options: &Options) -> Result<Plan> {
    let mut images = image::read(dir)?;
    network::settle(&mut images.snapshot, &options.network);
    close_connections(&mut images, options);
    if options.lazy.is_some() {
        split(&mut images.snapshot)?;
    }
    if options.map_images {
        map::map(&mut images, dir)?;
    }
    inherit(&mut images, options)?;
    plan_of(&images, options)
}

/// Leaves what can come later to the daemon, which has to be there.
fn lazy(images: &mut ImageSet, options: &Options) -> Result<Option<Link>> {
    let Some(work_dir) = &options.lazy else {
        return Ok(None);
    };
    let link = Link::connect(work_dir)?;
    split(&mut images.snapshot)?;
    Ok(Some(link))
}

/// Has the sockets of connections of TCP be closed, where the user or the dump says so.
fn close_connections(images: &mut ImageSet, options: &Options) {
    if options.tcp_close || images.snapshot.origin.tcp_close {
        connections::close(&mut images.snapshot);
    }
}

/// Has the snapshot's descriptions be those that we give.
fn inherit(images: &mut ImageSet, options: &Options) -> Result<()> {
    let refused = inherit::lead(&mut images.snapshot, &options.inherited);
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Error::Refused(refused)),
    }
}

fn plan_of(images: &ImageSet, options: &Options) -> Result<Plan> {
    let mut refused: Vec<Refusal> = images.refusals().into_iter().map(from_image).collect();
    let (of_files, plan) = beside(
        images.snapshot.files.len(),
        || files::refusals(&images.snapshot),
        || plan_for_host(images, options),
    );
    refused.extend(of_files);
    refused.extend(connections::refusals(&images.snapshot, options));
    refused.extend(network::refusals(&images.snapshot, &options.outer_links));
    if !refused.is_empty() {
        return Err(Error::Refused(refused));
    }
    let plan = plan?;
    if let (true, Some(session)) = (options.sibling, plan.launch.session) {
        let reason = "its leader has gone: it is founded by a child of this command, which cannot make a brother of this command";
        return Err(Error::Refused(vec![Refusal {
            task: plan.launch.pid,
            object: format!("session {session}"),
            reason: reason.into(),
            remedy: "restore without --restore-sibling".into(),
        }]));
    }
    let refused = sockets::refusals(&plan.socket_files, plan.launch.pid);
    match refused.is_empty() {
        true => Ok(plan),
        false => Err(Error::Refused(refused)),
    }
}

fn plan_for_host(images: &ImageSet, options: &Options) -> Result<Plan> {
    let host = match &options.network {
        Network::Joined(path) => {
            let joined = network::open(path)?.within(|| kernel::probe_host(images));
            joined.doing("enter the network namespace of --join-ns")??
        }
        _ => kernel::probe_host(images)?,
    };
    let settings = Settings {
        shell_job: options.shell_job,
        foreground: options.foreground,
        host_clocks: options.host_clocks,
    };
    plan::plan(&images.snapshot, &host, &settings).map_err(Error::Refused)
}

/// From so many files on a second thread is worth its making.
const WORTH_A_THREAD: usize = 256;

/// Does two things that know nothing of each other, at the same time where there is much to do.
fn beside<A: Send, B>(
    files: usize,
    look: impl FnOnce() -> A + Send,
    plan: impl FnOnce() -> B,
) -> (A, B) {
    if files < WORTH_A_THREAD {
        return (look(), plan());
    }
    std::thread::scope(|scope| {
        let looking = scope.spawn(look);
        let plan = plan();
        (looking.join().expect("looking does not panic"), plan)
    })
}

fn from_image(refusal: image::Refusal) -> Refusal {
    Refusal {
        task: refusal.task,
        object: refusal.object,
        reason: refusal.reason,
        remedy: String::new(),
    }
}

fn stored_pages(images: &ImageSet) -> u64 {
    let tasks = images.snapshot.tasks.iter();
    let private = tasks
        .filter_map(|task| task.mm.as_ref())
        .flat_map(|mm| &mm.pages);
    let shared = images.snapshot.shared.iter();
    let shared = shared.flat_map(|memory| &memory.pages);
    private.chain(shared).map(|run| run.pages).sum()
}

/// Returns the microseconds since `start`.
fn micros(start: Instant) -> u32 {
    start.elapsed().as_micros().try_into().unwrap_or(u32::MAX)
}
