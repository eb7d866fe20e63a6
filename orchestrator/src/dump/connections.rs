//! Connections of TCP: the network is kept away, what they are in the middle of is read, and they end with the tree without a
//! word to their other ends.
//!
//! ```text
//! lock that goes with us -> each: repair, read, out of repair -> ... -> lasting lock -> the tree is doomed -> repair -> killed
//!                           a failure from here on: the locks go, the connections go on            ^ a failure: nothing is left
//! ```

use super::collect::Facts;
use super::files::FileTable;
use super::network::{self, Place};
use super::{Error, Settings};
use crate::network::{Kept, Lock};
use crate::objects::inet::repair;
use crate::snapshot::{FileId, FileKind, InetSocket, NetworkLock, TcpState};
use crate::sys::{Pid, RemoteFd, fd as kernel};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

/// A connection that was found: what it is called in the snapshot, and by whom it is had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) id: FileId,
    pub(super) named_by: (Pid, RemoteFd),
    pub(super) state: TcpState,
}

/// The connections of a frozen tree. When this goes, they go on.
#[derive(Debug, Default)]
pub(super) struct Connections {
    lock: Option<Lock>,
    own: Vec<OwnedFd>,
}

impl Connections {
    /// Locks the network, and reads them.
    ///
    /// # Errors
    /// The network cannot be locked, or a connection cannot be read.
    pub(super) fn read(
        facts: &mut Facts,
        settings: &Settings,
        (run_id, place): (&str, &Place),
    ) -> Result<Self, Error> {
        let tree: BTreeSet<i32> = facts.tasks.iter().map(|facts| facts.task.pid).collect();
        let files = &mut facts.files;
        let found = files.connections().to_vec();
        if found.is_empty() {
            return Ok(Self::default());
        }
        let sockets = found.iter().filter_map(|found| files.inet(found.id));
        let ends = sockets.map(|socket| (socket.local, socket.remote));
        let own = place.own()?;
        let is_alone = own.is_some() && network::is_alone(settings.pid, |pid| tree.contains(&pid));
        let kept = Kept {
            connections: ends.collect(),
            is_all: is_alone,
            place: own,
        };
        let lock = match settings.network_lock {
            NetworkLock::Skip => None,
            NetworkLock::Nftables => {
                let lock = Lock::take(settings.pid.0, run_id, settings.portable, kept);
                Some(lock.map_err(Error::NetworkLock)?)
            }
            NetworkLock::Iptables => {
                let pid = settings.pid.0;
                let lock = Lock::take_by_iptables(pid, run_id, settings.portable, kept);
                Some(lock.map_err(Error::Iptables)?)
            }
        };
        let mut own = Vec::with_capacity(found.len());
        for one in found {
            let (pid, fd) = one.named_by;
            let copy = kernel::pidfd_open(pid)
                .and_then(|pidfd| kernel::pidfd_getfd(pidfd.as_fd(), fd))
                .map_err(Error::Own)?;
            let Some(socket) = files.inet_mut(one.id) else {
                continue;
            };
            socket.stream = repair::read(&copy, one.state).map_err(|reason| Error::Connection {
                task: pid.0,
                object: format!("descriptor {fd} ({})", socket.words()),
                reason,
            })?;
            own.push(copy);
        }
        Ok(Self { lock, own })
    }

    /// Has the network be locked when we have gone.
    ///
    /// # Errors
    /// It cannot be locked.
    pub(super) fn make_lasting(&mut self) -> Result<(), Error> {
        match &mut self.lock {
            Some(lock) => lock.make_lasting().map_err(Error::NetworkLock),
            None => Ok(()),
        }
    }

    /// Has them end without a word: the tree is doomed, or may be killed while it is stopped.
    pub(super) fn silence(&self) {
        for own in &self.own {
            if let Err(error) = repair::silence(own) {
                tracing::warn!("a connection is not closed in silence: {error}");
            }
        }
    }

    /// Leaves the network locked.
    pub(super) fn keep(mut self) {
        if let Some(lock) = self.lock.take() {
            lock.keep();
        }
    }
}

impl FileTable {
    fn inet(&self, id: FileId) -> Option<&InetSocket> {
        let place = self.files.binary_search_by_key(&id, |file| file.id).ok()?;
        match &self.files[place].kind {
            FileKind::Inet(socket) => Some(socket),
            _ => None,
        }
    }

    fn inet_mut(&mut self, id: FileId) -> Option<&mut InetSocket> {
        let place = self.files.binary_search_by_key(&id, |file| file.id).ok()?;
        match &mut self.files[place].kind {
            FileKind::Inet(socket) => Some(socket),
            _ => None,
        }
    }
}
