//! The tree's own network namespace: all that asks the kernel about sockets and links does so inside of it, by entering it; by
//! that alone nothing in it changes.

use super::Error;
use crate::error::Refusal;
use crate::objects::netns::{collect, refuse};
use crate::procfs;
use crate::snapshot::{NetNamespace, TaskIds};
use crate::support::{Loss, Lost};
use crate::sys::Pid;
use crate::sys::ns::Network;

/// Id of a network namespace that is the tree's own: those of the caller are below.
pub const OWN: u32 = 10;

fn link(pid: Pid) -> Option<Vec<u8>> {
    procfs::fd::read_link(pid, "ns/net").ok()
}

/// Where a tree's sockets are.
#[derive(Debug)]
pub struct Place(Option<Network>);

/// Which namespaces a tree is in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Namespaces {
    /// Its root.
    pub root: i32,
    /// Their ids.
    pub ids: TaskIds,
}

impl Place {
    /// Returns that of the tree with this root.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn of(root: Pid) -> Result<Self, Error> {
        let (theirs, ours) = (link(root), link(Pid::this()));
        let is_own = theirs.is_some() && theirs != ours;
        let own = is_own.then(|| Network::of(root)).transpose();
        Ok(Self(own.map_err(Error::Own)?))
    }

    /// Returns the namespaces of a tree, which is there.
    pub fn namespaces(&self, root: Pid) -> Namespaces {
        let mut ids = super::process::namespace_ids();
        if super::ipc::is_own(root) {
            ids.ipc_ns = super::ipc::OWN;
        }
        if self.0.is_some() {
            ids.net_ns = OWN;
        }
        Namespaces { root: root.0, ids }
    }

    /// Returns another handle of it; `None` where it is ours.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn own(&self) -> Result<Option<Network>, Error> {
        let own = self.0.as_ref().map(Network::try_clone).transpose();
        own.map_err(Error::Own)
    }

    /// Does something there.
    ///
    /// # Errors
    /// It cannot be entered, or what the act fails by.
    pub fn within<R>(&self, act: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
        match &self.0 {
            Some(own) => own.within(act).map_err(Error::Own)?,
            None => act(),
        }
    }
}

/// What a namespace has, and what is not kept of it.
pub type Collected = Result<(NetNamespace, Vec<Refusal>, Option<Loss>), Error>;

/// Returns what is in the namespace that the caller is in, the one of the tree with this root, and what is not kept of it.
///
/// # Errors
/// The kernel does not tell.
pub fn collect(root: Pid, is_portable: bool) -> Collected {
    let mut refused = Vec::new();
    let own = collect::collect(OWN, &mut refused).map_err(Error::Network)?;
    let refusals = refused.into_iter().map(|(object, reason)| Refusal {
        task: root.0,
        object,
        reason,
        remedy: String::new(),
    });
    let mut refusals: Vec<Refusal> = refusals.collect();
    if is_portable && !own.filters.is_empty() {
        refusals.push(Refusal {
            task: root.0,
            object: "tables of nftables".into(),
            reason: "the portable format has none".into(),
            remedy: "leave --portable out".into(),
        });
    }
    let lost = match refuse::tracked_connections() {
        0 => None,
        count => Some(Loss::with(Lost::TrackedConnections, count)),
    };
    Ok((own, refusals, lost))
}

/// Returns what is kept of a namespace of which the user wants nothing kept.
pub fn empty() -> (NetNamespace, Vec<Refusal>, Option<Loss>) {
    (NetNamespace::empty(OWN), Vec::new(), None)
}

/// Returns whether nobody is in the tree's namespace but the tree.
pub fn is_alone(root: Pid, tree: impl Fn(i32) -> bool) -> bool {
    let wanted = link(root);
    let all = procfs::tasks::processes().unwrap_or_default();
    let mut others = all.iter().filter(|pid| !tree(pid.0));
    !others.any(|pid| wanted.is_some() && link(*pid) == wanted)
}
