//! Keeping the network away from connections of TCP between a dump and its restore: what comes would be answered by a reset,
//! or be lost.
//!
//! While a dump reads, the lock is a table of nftables that goes with us, however we end. Once the tree is about to be killed
//! a lasting one takes its place, which a restore removes; one that stays behind is found by its name and removed by
//! `orchestrator unlock`. Where the user asks for iptables, rules of that stand from the first moment on, and go by the same ways.

pub mod iptables;

use crate::netlink::nft::{self, Ends, Owned, Scope};
use crate::objects::inet::repair;
use crate::procfs;
use crate::snapshot::{FileKind, NetworkLock, Snapshot};
use crate::sys::ns::Network;
use crate::sys::{Pid, RemoteFd, fd, socket};
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

/// What is kept away.
#[derive(Debug)]
pub struct Kept {
    /// Connections.
    pub connections: Vec<Ends>,
    /// All of the network namespace is, where this can be told.
    pub is_all: bool,
    /// The network namespace; `None` = ours.
    pub place: Option<Network>,
}

impl Kept {
    fn scope(&self) -> Scope {
        match self.is_all {
            true => Scope::All,
            false => Scope::Connections(self.connections.clone()),
        }
    }

    /// Does something where it is.
    fn within<R>(&self, act: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        match &self.place {
            Some(place) => place
                .within(act)
                .map_err(|error| io::Error::from(error.errno))?,
            None => act(),
        }
    }
}

/// A lock that goes when this goes.
#[derive(Debug)]
pub struct Lock {
    name: String,
    kept: Kept,
    owned: Option<Owned>,
    /// Rules of iptables; with a name, or without one as the peer has them.
    rules: Option<Option<String>>,
    is_lasting: bool,
}

impl Lock {
    /// Keeps packets away from a tree that is being dumped.
    ///
    /// # Errors
    /// nftables are not there, or not for us.
    pub fn take(pid: i32, run_id: &str, is_portable: bool, kept: Kept) -> io::Result<Self> {
        let meanwhile = format!("{PREFIX}{pid}{WHILE_DUMPING}");
        let owned = kept.within(|| nft::lock_owned(&meanwhile, &kept.scope()))?;
        Ok(Self {
            name: name(pid, run_id, is_portable),
            kept,
            owned: Some(owned),
            rules: None,
            is_lasting: false,
        })
    }

    /// As [`Lock::take`], by iptables.
    ///
    /// # Errors
    /// Its programs are not there, or say no.
    pub fn take_by_iptables(
        pid: i32,
        run_id: &str,
        is_portable: bool,
        kept: Kept,
    ) -> io::Result<Self> {
        let name = name(pid, run_id, is_portable);
        let rules = (!is_portable).then(|| name.clone());
        kept.within(|| iptables::lock(rules.as_deref(), &kept.connections))?;
        Ok(Self {
            name,
            kept,
            owned: None,
            rules: Some(rules),
            is_lasting: true,
        })
    }

    /// Has the lock last when we have gone, if [`Lock::keep`] is said.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub fn make_lasting(&mut self) -> io::Result<()> {
        if self.rules.is_none() {
            let scope = self.kept.scope();
            self.kept.within(|| nft::lock(&self.name, &scope))?;
        }
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
        let unlocked = match (self.is_lasting, &self.rules) {
            (false, _) => Ok(()),
            (true, None) => self.kept.within(|| nft::unlock(&self.name)).map(drop),
            (true, Some(rules)) => {
                let connections = &self.kept.connections;
                self.kept
                    .within(|| iptables::unlock(rules.as_deref(), connections))
            }
        };
        if let Err(error) = unlocked {
            tracing::error!("the lock {} of the network stays: {error}", self.name);
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
    if snapshot.origin.network_lock == NetworkLock::Iptables {
        let connections: Vec<Ends> = ends(snapshot).collect();
        let name = name(root.pid, run_id, false);
        iptables::unlock(Some(&name), &connections)?;
        return iptables::unlock(None, &connections);
    }
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

fn ends(snapshot: &Snapshot) -> impl Iterator<Item = Ends> {
    snapshot.files.iter().filter_map(|file| match &file.kind {
        FileKind::Inet(socket) => socket.connection().map(|_| (socket.local, socket.remote)),
        _ => None,
    })
}

/// Has connections of a process and those below it go on that a dump has left in the mode of repair which was killed, and
/// returns what they are called.
///
/// # Errors
/// One cannot be taken, or does not leave the mode.
pub fn mend(root: Pid) -> io::Result<Vec<String>> {
    let (mut mended, mut left) = (Vec::new(), vec![root]);
    while let Some(pid) = left.pop() {
        for tid in procfs::tasks::read(pid).unwrap_or_default() {
            left.extend(procfs::tasks::read_children(pid, tid).unwrap_or_default());
        }
        let Ok(pidfd) = fd::pidfd_open(pid) else {
            continue;
        };
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
            let entry = entry?;
            let link = std::fs::read_link(entry.path()).unwrap_or_default();
            let is_socket = link.to_string_lossy().starts_with("socket:");
            let number = entry.file_name().to_string_lossy().parse();
            let (true, Ok(number)) = (is_socket, number) else {
                continue;
            };
            let Ok(own) = fd::pidfd_getfd(&pidfd, RemoteFd(number)) else {
                continue;
            };
            let [kind, protocol] =
                [libc::SO_TYPE, libc::SO_PROTOCOL].map(|option| socket::option(&own, option));
            let is_tcp = kind == Ok(libc::SOCK_STREAM) && protocol == Ok(libc::IPPROTO_TCP);
            if is_tcp && repair::mend(&own).map_err(io::Error::other)? {
                mended.push(format!("descriptor {number} of process {pid}"));
            }
        }
    }
    Ok(mended)
}

/// Removes locks of all dumps, or of those of one root, and returns what they are called.
///
/// # Errors
/// One cannot be removed, or nobody tells of them.
pub fn unlock_left(pid: Option<i32>) -> io::Result<Vec<String>> {
    let prefix = match pid {
        Some(pid) => format!("{PREFIX}{pid}-"),
        None => PREFIX.into(),
    };
    let mut names = nft::tables()?;
    names.retain(|name| name.starts_with(&prefix) && !name.ends_with(WHILE_DUMPING));
    for name in &names {
        nft::unlock(name)?;
    }
    let names = names
        .into_iter()
        .map(|name| format!("the table {name} of nftables"));
    let rules = iptables::unlock_left(&prefix)?.into_iter();
    Ok(names
        .chain(rules.map(|name| format!("the rules {name} of iptables")))
        .collect())
}
