//! Keeping the network away from connections of TCP between a dump and its restore: what comes would be answered by a reset,
//! or be lost.
//!
//! While a dump reads, the lock is a table of nftables that goes with us, however we end. Once the tree is about to be killed
//! a lasting one takes its place, which a restore removes; one that stays behind is found by its name and removed by
//! `orchestrator unlock`.

use crate::netlink::nft::{self, Ends, Owned};
use crate::snapshot::Snapshot;
use std::io;

/// Beginning of the names of our tables.
const PREFIX: &str = "orchestrator-";
/// End of the name of a table that goes with us.
const WHILE_DUMPING: &str = "-dump";
/// Beginning of the peer's, and how much of the identity of a dump follows it.
const PEER_PREFIX: &str = "CRIU-";
const PEER_ID: usize = 21;
/// How much of it follows in ours.
const ID: usize = 8;

/// Returns the name of the lasting lock of a dump: of its root, by its identity. The peer removes its own only, so where it is to
/// restore the name is as it would be.
fn name(pid: i32, run_id: &str, is_portable: bool) -> String {
    let id = |len: usize| run_id.get(..len).unwrap_or(run_id);
    match is_portable {
        true => format!("{PEER_PREFIX}{}", id(PEER_ID)),
        false => format!("{PREFIX}{pid}-{}", id(ID)),
    }
}

/// A lock that goes when this goes.
#[derive(Debug)]
pub struct Lock {
    name: String,
    connections: Vec<Ends>,
    owned: Option<Owned>,
    is_lasting: bool,
}

impl Lock {
    /// Locks these connections of a tree that is being dumped.
    ///
    /// # Errors
    /// nftables are not there, or not for us.
    pub fn take(
        pid: i32,
        run_id: &str,
        is_portable: bool,
        connections: Vec<Ends>,
    ) -> io::Result<Self> {
        let owned = nft::lock_owned(&format!("{PREFIX}{pid}{WHILE_DUMPING}"), &connections)?;
        Ok(Self {
            name: name(pid, run_id, is_portable),
            connections,
            owned: Some(owned),
            is_lasting: false,
        })
    }

    /// Has the lock last when we have gone, if [`Lock::keep`] is said.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub fn make_lasting(&mut self) -> io::Result<()> {
        nft::lock(&self.name, &self.connections)?;
        self.is_lasting = true;
        Ok(())
    }

    /// Leaves the lasting lock where it is.
    pub fn keep(mut self) {
        self.is_lasting = false;
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_lasting
            && let Err(error) = nft::unlock(&self.name)
        {
            tracing::error!("the table {} of nftables stays: {error}", self.name);
        }
        if let Some(owned) = self.owned.take() {
            owned.unlock();
        }
    }
}

/// Removes the lock of the dump that a snapshot is of, whoever of both has made it; where there is none, somebody has removed it.
///
/// # Errors
/// There is one, and it cannot be removed.
pub fn unlock(snapshot: &Snapshot) -> io::Result<()> {
    let (Some(root), Some(run_id)) = (snapshot.root(), &snapshot.origin.run_id) else {
        return Ok(());
    };
    let Ok(tables) = nft::tables() else {
        return Ok(());
    };
    for is_portable in [false, true] {
        let name = name(root.pid, run_id, is_portable);
        if tables.contains(&name) {
            nft::unlock(&name)?;
        }
    }
    Ok(())
}

/// Removes locks of all dumps, or of those of one root, and returns their names.
///
/// # Errors
/// One cannot be removed, or nobody tells of them.
pub fn unlock_left(pid: Option<i32>) -> io::Result<Vec<String>> {
    let is_ours = |name: &String| match pid {
        Some(pid) => name.starts_with(&format!("{PREFIX}{pid}-")),
        None => name.starts_with(PREFIX),
    };
    let mut names = nft::tables()?;
    names.retain(|name| is_ours(name) && !name.ends_with(WHILE_DUMPING));
    for name in &names {
        nft::unlock(name)?;
    }
    Ok(names)
}
