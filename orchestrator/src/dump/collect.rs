//! What can be told of a frozen tree from outside; all that cannot be kept is refused here, at once.

use super::areas::{self, Segment};
use super::files::{Before, Choices, FileTable};
use super::network::{self, Namespaces};
use super::tracking::Tracking;
use super::{Error, Settings, ipc, losses, process, queues, relations, segments as shm};
use crate::error::{Refusal, Refusals};
use crate::memory::{scan, select::Pages};
use crate::objects::seccomp::collect::Filters;
use crate::procfs::{self, smaps::Areas, timers::TimerLine};
use crate::snapshot::{
    IpcNamespace, NetNamespace, PipeBuffer, PosixQueue, SeccompFilter, ShmSegment, Task,
};
use crate::support::Loss;
use crate::sys::Pid;
use crate::tracee::{Frozen, Stopped, Tree};
use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// What is known of a frozen tree before the parasite is asked.
#[derive(Debug)]
pub struct Facts {
    /// The living, in the order of [`Tree::living`].
    pub tasks: Vec<TaskFacts>,
    /// Those that have ended.
    pub dead: Vec<Task>,
    /// All open file descriptions.
    pub files: FileTable,
    /// Shared memory that areas map.
    pub segments: Vec<Segment>,
    /// Segments of System V shared memory.
    pub shm: Vec<ShmSegment>,
    /// What else the IPC namespace has, where it is the tree's own.
    pub ipc: Option<IpcNamespace>,
    /// POSIX message queues.
    pub queues: Vec<PosixQueue>,
    /// The network namespace, where it is the tree's own.
    pub network: Option<NetNamespace>,
    /// Filters of seccomp.
    pub filters: Vec<SeccompFilter>,
    /// What lies in pipes, and in named ones.
    pub pipes: [Vec<PipeBuffer>; 2],
    /// What is not kept.
    pub losses: Vec<Loss>,
    /// The session of the root, whose leader has gone, is the tree's own.
    pub has_own_session: bool,
}

/// Namespaces that a tree is in.
struct Namespace<'scope> {
    all: Namespaces,
    /// Who reads that of the network, where it is the tree's own.
    network: Option<ScopedJoinHandle<'scope, network::Collected>>,
}

/// What is known of one process.
#[derive(Debug)]
pub struct TaskFacts {
    /// The process.
    pub task: Task,
    /// Its POSIX timers, as `/proc` tells them.
    pub timers: Vec<TimerLine>,
    /// What its pages are, where that is known already.
    pub pages: Option<Vec<Pages>>,
}

/// Collects, and refuses what cannot be kept. What was seen of the root's descriptors before need not be asked for.
///
/// # Errors
/// `/proc` cannot be read, or something is refused.
pub fn collect(
    tree: &mut Tree,
    settings: &Settings,
    tracking: &mut Tracking,
    (mut before, namespaces): (Before, Namespaces),
) -> Result<Facts, Error> {
    before.settle();
    std::thread::scope(|scope| {
        // Beside all else: it has hundreds of settings.
        let is_own = namespaces.ids.net_ns == network::OWN;
        let (root, portable) = (Pid(namespaces.root), settings.portable);
        let is_empty = settings.empty_network;
        let look = move || match is_empty {
            true => Ok(network::empty()),
            false => network::collect(root, portable),
        };
        let network = is_own.then(|| scope.spawn(look));
        // The pages of a copy are looked at when the tree runs again.
        let areas = AreaReader::start(scope, &tree.living, !settings.live);
        let namespace = Namespace {
            all: namespaces,
            network,
        };
        collect_tree(tree, settings, tracking, (before, &areas, namespace))
    })
}

/// Waits for what is in the network namespace, and adds what is not kept of it.
fn settle(
    network: ScopedJoinHandle<'_, network::Collected>,
    refusals: &mut Vec<Refusal>,
    losses: &mut Vec<Loss>,
) -> Result<NetNamespace, Error> {
    let (own, refused, lost) = network.join().expect("a look does not panic")?;
    refusals.extend(refused);
    losses.extend(lost);
    Ok(own)
}

fn choices(settings: &Settings) -> Choices {
    Choices {
        ghost_limit: settings.ghost_limit,
        link_remap: settings.link_remap,
        external: settings.external.clone(),
        irmap_paths: settings.irmap_paths.clone(),
        file_locks: settings.file_locks,
        shell_job: settings.shell_job,
        outside: settings.outside.clone(),
        connections: settings.connections,
    }
}

fn processes(tree: &Tree, dead: &[Task]) -> BTreeSet<i32> {
    let living = tree.living.iter().map(|frozen| frozen.pid().0);
    living.chain(dead.iter().map(|task| task.pid)).collect()
}

fn collect_tree(
    tree: &mut Tree,
    settings: &Settings,
    tracking: &mut Tracking,
    (mut before, area_reader, namespace): (Before, &AreaReader, Namespace<'_>),
) -> Result<Facts, Error> {
    let mut refusals = Vec::new();
    let dead: Vec<Task> = tree.dead.iter().map(process::of_dead).collect();
    let mut files = FileTable::new(choices(settings), processes(tree, &dead), namespace.all);
    let mut segments = Vec::new();
    let mut tasks: Vec<TaskFacts> = Vec::new();
    let mut losses = Vec::new();
    let mut filters = Filters::default();
    let ids = relations::ids(&tree.living, namespace.all.ids);
    let mut spaces = BTreeSet::new();
    let root = tree.living[0].pid();
    for (index, frozen) in tree.living.iter_mut().enumerate() {
        let pid = frozen.pid();
        if index > 0 {
            refusals.extend(process::refuse_foreign(pid, root)?);
            losses.extend(losses::collect_early(pid)?);
        }
        losses.extend(losses::of_children(frozen)?);
        let (mut areas, pages) = area_reader.next(index, frozen)?;
        // An address space is tracked once, whoever shares it.
        if spaces.insert(ids[index].vm) {
            tracking.take_up(frozen, &areas)?;
        }
        tracking.unmark(pid, &mut areas);
        let fds = files.collect(pid, std::mem::take(&mut before), &mut refusals)?;
        let vmas = areas::collect(pid, &areas, &mut files, &mut segments, &mut refusals);
        let mut task =
            process::collect(frozen, ids[index], &mut files, &mut filters, &mut refusals)?;
        task.fds = fds;
        if let Some(mm) = &mut task.mm {
            mm.vmas = vmas;
        }
        let timers = procfs::timers::read(pid)?;
        tasks.push(TaskFacts {
            task,
            timers,
            pages,
        });
    }
    files.settle(&mut refusals);
    let all: Vec<&Task> = tasks.iter().map(|facts| &facts.task).collect();
    files.settle_terminals(&all, &mut refusals)?;
    files.refuse_outer_pidfds(&tasks, &dead, &mut refusals);
    shm::name_opened(&mut tasks, &mut segments, &mut files);
    let network = match namespace.network {
        Some(network) => Some(settle(network, &mut refusals, &mut losses)?),
        None => None,
    };
    let is_own = ipc::is_own(tree.living[0].pid());
    let (shm, namespace, device) = match is_own {
        true => {
            let to = (&mut segments, &mut files.queues);
            let found = ipc::collect(&tasks, to, &mut refusals)?;
            (found.segments, Some(found.namespace), found.device)
        }
        false => {
            let shm = shm::collect(&tasks, &mut refusals)?;
            let device = match files.queues.is_empty() {
                true => None,
                false => queues::own_device()?,
            };
            (shm, None, device)
        }
    };
    let whose = (device, is_own, settings.portable);
    queues::refuse(&files.queues, &tasks, whose, &mut refusals)?;
    relations::refuse_shared_sockets(&tasks, &files.files, &mut refusals);
    relations::refuse_shared_outside(&tree.living[0], &mut refusals);
    let has_own_session = relations::settle(&mut tasks, &dead, settings.shell_job, &mut refusals)?;
    relations::refuse_own_directories(&tasks, settings.portable, &mut refusals);
    let is_lost = has_own_session && settings.portable && !settings.shell_job;
    refusals.extend(is_lost.then(|| relations::refuse_portable(&tasks[0].task)));
    if refusals.is_empty() {
        let place = (&files.terminals[..], has_own_session);
        relations::refuse_unborn(&tasks, &dead, place, &mut refusals);
    }
    Refusals(refusals).into_result()?;
    for external in files.external_for_nothing() {
        tracing::warn!("{external}: nothing of the tree is it");
    }
    losses.extend(losses::of_files(&tasks, &files));
    losses.extend(losses::of_segments(&shm, namespace.as_ref()));
    files.read_terminals()?;
    let queues = queues::read(&files.queues, &mut losses)?;
    Ok(Facts {
        // Now, as the tree stands still: what it leaves in a pipe is what the image has.
        pipes: files.read_pipes()?,
        losses,
        tasks,
        dead,
        files,
        segments,
        shm,
        ipc: namespace,
        queues,
        network,
        filters: filters.all,
        has_own_session,
    })
}

/// From so much anonymous memory on, in KiB, walks over page tables take longer than making a thread.
const WORTH_A_THREAD: u64 = 16 << 10;

fn anonymous_kib(frozen: &Frozen) -> u64 {
    let status = frozen.threads().first().and_then(Stopped::known_status);
    status.and_then(|status| status.rss_anon_kib).unwrap_or(0)
}

/// Who reads the areas of processes. The kernel walks over all page tables for what it tells of them, so where there is much
/// memory others read them, in the order of the processes, beside all else: for a tree two threads in turn.
enum AreaReader {
    Here,
    Beside(Vec<Receiver<procfs::Result<Areas>>>, bool),
}

impl AreaReader {
    fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        living: &[Frozen],
        with_pages: bool,
    ) -> Self {
        if living.iter().map(anonymous_kib).sum::<u64>() < WORTH_A_THREAD {
            return Self::Here;
        }
        let lanes = living.len().min(2);
        let start = |lane: usize| {
            let own = living.iter().skip(lane).step_by(lanes);
            let pids: Vec<_> = own.map(Frozen::pid).collect();
            let (send, receive) = sync_channel(1);
            scope.spawn(move || {
                // Nobody takes them any more where something else has failed.
                let _ = pids
                    .into_iter()
                    .try_for_each(|pid| send.send(procfs::smaps::read(pid)));
            });
            receive
        };
        Self::Beside((0..lanes).map(start).collect(), with_pages)
    }

    /// Returns the areas of a process, each in its turn, and what its pages are if they were looked at beside.
    fn next(&self, index: usize, frozen: &Frozen) -> Result<(Areas, Option<Vec<Pages>>), Error> {
        let pid = frozen.pid();
        match self {
            Self::Here => Ok((procfs::smaps::read(pid)?, None)),
            Self::Beside(lanes, with_pages) => {
                let pages = match anonymous_kib(frozen) {
                    much if *with_pages && much >= WORTH_A_THREAD => scan::all_pages(pid)?,
                    _ => None,
                };
                let areas = lanes[index % lanes.len()].recv();
                Ok((areas.expect("all processes are read")?, pages))
            }
        }
    }
}
