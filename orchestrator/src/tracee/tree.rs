//! A process and all below it, frozen.
//!
//! A process that stands still makes no children, so those that are listed once all of its threads are stopped are all that
//! it has, but for orphans: a descendant that ends before it is frozen leaves its children to a subreaper, which may be one of
//! ours and have been looked at before. So the looks go on until one over all processes finds nobody new.

use super::asleep::Clocks;
use super::cgroup::FrozenCgroup;
use super::{Deadline, Error, Frozen, Seized, freeze, has_ended};
use crate::procfs::{self, stat::Stat};
use crate::sys::Pid;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Most looks over a tree: each finds only what was born, or orphaned, since the one before.
const MAX_LOOKS: usize = 1000;

/// How long the stop of a thread is awaited that is let go anyhow.
const LAST_STOP: Duration = Duration::from_secs(1);

/// A tree of which every thread stands still. Dropped, it is let go as it was.
#[derive(Debug)]
pub struct Tree {
    /// The living: every parent before its children, the root first.
    pub living: Vec<Frozen>,
    /// Those that have ended and were not waited for, by pid.
    pub dead: Vec<Stat>,
}

/// Freezes a process with all its descendants, each within a time limit (zero = none), while a cgroup stands still if one
/// is given. What of the tree is not in that is seized all the same; what else is in it runs on once all are seized.
///
/// # Errors
/// The root is missing, or a process may not be traced or does not stop; all are let go then.
pub fn freeze_tree(root: Pid, limit: Duration, cgroup: Option<&Path>) -> Result<Tree, Error> {
    let mut seized = match cgroup {
        Some(cgroup) => seize_in_cgroup(root, cgroup, &Deadline::new(limit))?,
        None => BTreeMap::new(),
    };
    let tree = freeze_all(root, |pid| match seized.remove(&pid) {
        Some(seized) => seized.finish(&Deadline::new(limit)),
        None => freeze(pid, limit),
    });
    let_go(seized);
    tree
}

/// Lets processes go as they were that were told to stop.
fn let_go(seized: BTreeMap<Pid, Seized>) {
    for seized in seized.into_values() {
        // What a stop changes is mended once it has come; one that does not come has changed nothing.
        let _ = seized.finish(&Deadline::new(LAST_STOP));
    }
}

fn freeze_all(
    root: Pid,
    mut freeze: impl FnMut(Pid) -> Result<Frozen, Error>,
) -> Result<Tree, Error> {
    let mut tree = Tree {
        living: vec![freeze(root)?],
        dead: Vec::new(),
    };
    let mut known = BTreeSet::from([root]);
    for _ in 0..MAX_LOOKS {
        let before = known.len();
        let mut next = 0;
        while next < tree.living.len() {
            let children = match tree.living[next].first_children.take() {
                Some(children) => children,
                None => tree.living[next].children()?,
            };
            for child in children {
                if known.insert(child) {
                    tree.add(child, &mut freeze)?;
                }
            }
            next += 1;
        }
        if known.len() == before {
            return Ok(tree);
        }
    }
    Err(Error::Restless(root.0))
}

/// Looks at all processes of a tree, freezes a cgroup, seizes all, and thaws it: they stop before they make a step.
fn seize_in_cgroup(
    root: Pid,
    cgroup: &Path,
    deadline: &Deadline,
) -> Result<BTreeMap<Pid, Seized>, Error> {
    // Before it is frozen: what waits for how long cannot be seen later.
    let mut clocks = Clocks::default();
    let mut all = BTreeMap::new();
    walk(root, &mut all, |seized| {
        let tids = procfs::tasks::read(seized.frozen.pid)?;
        seized.look(&tids, &mut clocks)?;
        Ok(false)
    })?;
    for look in all
        .values_mut()
        .flat_map(|seized| seized.looks.values_mut())
    {
        look.stops = 2;
    }
    let frozen = FrozenCgroup::freeze(cgroup, deadline)?;
    let seized = loop {
        match walk(root, &mut all, |seized| seized.pass(&mut clocks)) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    drop(frozen);
    if let Err(error) = seized {
        let_go(all);
        return Err(error);
    }
    all.retain(|_, seized| !seized.frozen.threads.is_empty());
    Ok(all)
}

/// Goes over the processes of a tree, and returns whether `look` said of one that there was something new.
fn walk(
    root: Pid,
    all: &mut BTreeMap<Pid, Seized>,
    mut look: impl FnMut(&mut Seized) -> Result<bool, Error>,
) -> Result<bool, Error> {
    let mut waiting = vec![root];
    let mut is_new = false;
    while let Some(pid) = waiting.pop() {
        let looked = match all.entry(pid) {
            Entry::Occupied(known) => look(known.into_mut()),
            Entry::Vacant(unknown) => {
                Seized::begin(pid).and_then(|seized| look(unknown.insert(seized)))
            }
        };
        match looked {
            Ok(new) => is_new |= new,
            // It has ended; what becomes of it is seen later.
            Err(_) if pid != root && has_ended(pid, pid.leader()) => continue,
            Err(error) => return Err(error),
        }
        for tid in procfs::tasks::read(pid).unwrap_or_default() {
            waiting.extend(procfs::tasks::read_children(pid, tid).unwrap_or_default());
        }
    }
    Ok(is_new)
}

/// How long it takes at most until a process is stopped that was let go with a SIGSTOP, on a machine that is busy.
const STOPPED_WITHIN: Duration = Duration::from_secs(2);

/// Lets processes go, stopped by SIGSTOP, and waits until they are: whoever looks when we have ended sees them so.
pub fn release_stopped(tree: Vec<Frozen>) {
    let pids: Vec<Pid> = tree.iter().map(Frozen::pid).collect();
    tree.into_iter().for_each(Frozen::release_stopped);
    // Someone may have continued or ended them by now.
    let deadline = Deadline::new(STOPPED_WITHIN);
    while pids.iter().any(|&pid| is_on_its_way(pid)) && !deadline.is_over() {
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Returns whether a thread of a process has not come to its stop yet.
fn is_on_its_way(pid: Pid) -> bool {
    let threads = procfs::tasks::read(pid).unwrap_or_default();
    let mut states = threads
        .into_iter()
        .filter_map(|tid| procfs::stat::read((pid, tid)).ok());
    states.any(|stat| !matches!(stat.state, b'T' | b't' | b'Z' | b'X'))
}

impl Tree {
    /// Freezes a process that was listed as a child. One that has ended is a zombie, or gone where its parent ignores that.
    fn add(
        &mut self,
        child: Pid,
        freeze: &mut impl FnMut(Pid) -> Result<Frozen, Error>,
    ) -> Result<(), Error> {
        match freeze(child) {
            Ok(frozen) => self.living.push(frozen),
            Err(error) => match procfs::stat::read(child) {
                Ok(stat) if matches!(stat.state, b'Z' | b'X') && stat.num_threads <= 1 => {
                    self.dead.push(stat);
                }
                Err(gone) if matches!(gone.errno(), Some(libc::ENOENT | libc::ESRCH)) => {}
                _ => return Err(error),
            },
        }
        Ok(())
    }
}

impl Frozen {
    /// Returns the children of all its threads.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn children(&self) -> Result<Vec<Pid>, Error> {
        let mut all = Vec::new();
        for thread in self.threads() {
            all.extend(procfs::tasks::read_children(self.pid(), thread.tid)?);
        }
        Ok(all)
    }
}
