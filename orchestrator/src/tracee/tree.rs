//! A process and all below it, frozen.
//!
//! A process that stands still makes no children, so those that are listed once all of its threads are stopped are all that
//! it has, but for orphans: a descendant that ends before it is frozen leaves its children to a subreaper, which may be one of
//! ours and have been looked at before. So the looks go on until one over all processes finds nobody new.

use super::{Error, Frozen, freeze};
use crate::procfs::{self, stat::Stat};
use crate::sys::Pid;
use std::collections::BTreeSet;
use std::time::Duration;

/// Most looks over a tree: each finds only what was born, or orphaned, since the one before.
const MAX_LOOKS: usize = 1000;

/// A tree of which every thread stands still. Dropped, it is let go as it was.
#[derive(Debug)]
pub struct Tree {
    /// The living: every parent before its children, the root first.
    pub living: Vec<Frozen>,
    /// Those that have ended and were not waited for, by pid.
    pub dead: Vec<Stat>,
}

/// Freezes a process with all its descendants, each within a time limit (zero = none).
///
/// # Errors
/// The root is missing, or a process may not be traced or does not stop; all are let go then.
pub fn freeze_tree(root: Pid, limit: Duration) -> Result<Tree, Error> {
    let mut tree = Tree {
        living: vec![freeze(root, limit)?],
        dead: Vec::new(),
    };
    let mut known = BTreeSet::from([root]);
    for _ in 0..MAX_LOOKS {
        let before = known.len();
        let mut next = 0;
        while next < tree.living.len() {
            for child in tree.living[next].children()? {
                if known.insert(child) {
                    tree.add(child, limit)?;
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

impl Tree {
    /// Freezes a process that was listed as a child. One that has ended is a zombie, or gone where its parent ignores that.
    fn add(&mut self, child: Pid, limit: Duration) -> Result<(), Error> {
        match freeze(child, limit) {
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
