//! The tree's own network namespace: made and filled before the tree, by a thread that is in it. Until the tree is in it too it
//! goes with us. Packets are kept away from it until all sockets are there: they would be answered by a reset.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{Doing, Error, Result};
use crate::external::OuterLink;
use crate::netlink::nft::{self, Owned, Scope};
use crate::netlink::raw::Asker;
use crate::objects::netns::kinds::{Making, making};
use crate::objects::netns::plan::{self, Act, Step};
use crate::objects::netns::present;
use crate::objects::netns::{filters, links};
use crate::plan::Refusal;
use crate::snapshot::{FileKind, Link, NetNamespace, NetworkLock, Snapshot};
use crate::sys::ns::Network;
use crate::sys::socket;

/// How often settings are compared: one may change others.
const PASSES: usize = 3;
/// How long the kernel may take for routes that it makes by itself.
const AT_MOST: Duration = Duration::from_secs(2);
/// Name of the table that keeps packets away.
const LOCK: &str = "orchestrator-restore";

/// Where the tree is to be.
#[derive(Debug, Default)]
pub(super) struct Place {
    own: Option<Network>,
    lock: Option<Owned>,
    /// Settings that this kernel does not have.
    pub(super) not_kept: Vec<String>,
}

impl Place {
    /// Makes the namespace of a tree that has one of its own, or opens the one that it joins.
    pub(super) fn make(
        snapshot: &Snapshot,
        network: &super::Network,
        outer: &[OuterLink],
    ) -> Result<Self> {
        if let super::Network::Joined(path) = network {
            let own = Some(open(path)?);
            return Ok(Self {
                own,
                ..Self::default()
            });
        }
        let Some(wanted) = &snapshot.network else {
            return Ok(Self::default());
        };
        let own = Network::new().doing("make a network namespace")?;
        if wanted.is_empty() {
            let own = Some(own);
            return Ok(Self {
                own,
                ..Self::default()
            });
        }
        let home = Network::here().doing("open the network namespace of this command")?;
        let doing = "enter a new network namespace";
        make_upon(wanted, outer, &own)?;
        let made = own.within(|| make_links(wanted, snapshot, outer, &home));
        let lock = made.doing(doing)??;
        // Before the other end is up, the tree's has no carrier.
        for outer in outer
            .iter()
            .filter(|outer| !outer.is_below && is_of(wanted, outer))
        {
            bring_up(outer)?;
        }
        let not_kept = own.within(|| fill(wanted)).doing(doing)??;
        Ok(Self {
            own: Some(own),
            lock,
            not_kept,
        })
    }

    /// Returns the namespace; `None` = ours.
    pub(super) fn own(&self) -> Option<&Network> {
        self.own.as_ref()
    }

    /// Returns what keeps packets away, which goes when it goes.
    pub(super) fn take_lock(&mut self) -> Option<Owned> {
        self.lock.take()
    }

    /// Does something there.
    pub(super) fn within<R>(&self, act: impl FnOnce() -> Result<R>) -> Result<R> {
        match &self.own {
            Some(own) => own
                .within(act)
                .doing("enter the network namespace of the tree")?,
            None => act(),
        }
    }
}

/// Opens a namespace by a file of it.
pub(super) fn open(path: &Path) -> Result<Network> {
    let path = path.to_string_lossy();
    let opened = Network::open(&path);
    opened.doing("open the network namespace of --join-ns")
}

/// Has a tree come into another namespace than its own, of which nothing is needed then.
pub(super) fn settle(snapshot: &mut Snapshot, network: &super::Network) {
    match (network, &mut snapshot.network) {
        (super::Network::Joined(_), own) => *own = None,
        (super::Network::Empty, Some(own)) => *own = NetNamespace::empty(own.id),
        _ => {}
    }
}

/// Refuses links that cannot be made, and those whose other end nobody has said where to put.
pub(super) fn refusals(snapshot: &Snapshot, outer: &[OuterLink]) -> Vec<Refusal> {
    let links = snapshot.network.iter().flat_map(|own| &own.links);
    let refused = links.filter_map(|link| {
        let (reason, remedy) = match making(link) {
            None => ("devices of this kind are not kept yet", String::new()),
            Some(Making::Upon) if outer_of(outer, link).is_none() => (
                "what it lies on is outside of what was dumped",
                format!(
                    "use --external macvlan[{}]:OUTER",
                    String::from_utf8_lossy(&link.name)
                ),
            ),
            Some(Making::Outward) if outer_of(outer, link).is_none() => (
                "its other end lies outside of what was dumped",
                format!(
                    "use --external veth[{}]:OUTER@BRIDGE",
                    String::from_utf8_lossy(&link.name)
                ),
            ),
            Some(_) => return None,
        };
        Some(Refusal {
            task: snapshot.root().map_or(0, |root| root.pid),
            object: link.words(),
            reason: reason.into(),
            remedy,
        })
    });
    refused.collect()
}

fn failed(source: io::Error) -> Error {
    Error::Network {
        object: "links".into(),
        source,
    }
}

/// Returns what was said of a link that needs one outside.
fn outer_of<'a>(outer: &'a [OuterLink], link: &Link) -> Option<&'a OuterLink> {
    let is_below = making(link) == Some(Making::Upon);
    let mut outer = outer.iter();
    outer.find(|outer| outer.inner == link.name && outer.is_below == is_below)
}

fn is_of(wanted: &NetNamespace, outer: &OuterLink) -> bool {
    let mut links = wanted.links.iter();
    links.any(|link| link.name == outer.inner && making(link) == Some(Making::Outward))
}

/// Makes the links that lie on one of the namespace that we are in.
fn make_upon(wanted: &NetNamespace, outer: &[OuterLink], own: &Network) -> Result<()> {
    let links = wanted.links.iter();
    for link in links.filter(|link| making(link) == Some(Making::Upon)) {
        let asker = present::open().map_err(failed)?;
        let lower = outer_of(outer, link).and_then(|outer| socket::interface_index(&outer.outer));
        let lower = lower.ok_or_else(|| Error::Network {
            object: format!("what {} lies on", link.words()),
            source: io::ErrorKind::NotFound.into(),
        })?;
        make(&asker, &links::upon(link, lower, own.as_fd().as_raw_fd()))?;
    }
    Ok(())
}

/// Makes the links, none of them up but loopback's, and returns what keeps packets away.
fn make_links(
    wanted: &NetNamespace,
    snapshot: &Snapshot,
    outer: &[OuterLink],
    home: &Network,
) -> Result<Option<Owned>> {
    let lock = lock(snapshot)?;
    let asker = present::open().map_err(failed)?;
    let there = present::links(&asker).map_err(failed)?;
    let home = home.as_fd().as_raw_fd();
    let steps = links::links(&wanted.links, &there, outer, home);
    steps.iter().try_for_each(|step| make(&asker, step))?;
    let there = present::links(&asker).map_err(failed)?;
    let steps = links::details(&wanted.links, &there);
    steps.iter().try_for_each(|step| make(&asker, step))?;
    Ok(lock)
}

/// Brings up the other end of a link, which is in our namespace.
fn bring_up(outer: &OuterLink) -> Result<()> {
    let asker = present::open().map_err(failed)?;
    let bridge = outer.bridge.as_deref().map(|name| {
        socket::interface_index(name).ok_or_else(|| Error::Network {
            object: format!("bridge {}", String::from_utf8_lossy(name)),
            source: io::ErrorKind::NotFound.into(),
        })
    });
    let steps = links::outer_up(outer, bridge.transpose()?);
    steps.iter().try_for_each(|step| make(&asker, step))
}

/// Makes something that may not be there yet.
fn make(asker: &Asker, step: &Step) -> Result<()> {
    let Act::Request(kind, flags, body) = &step.act else {
        return Ok(());
    };
    let made = asker.have_done(*kind, *flags, body);
    made.map_err(|source| Error::Network {
        object: step.object.clone(),
        source,
    })
}

fn fill(wanted: &NetNamespace) -> Result<Vec<String>> {
    let asker = present::open().map_err(failed)?;
    let mut not_kept = Vec::new();
    for _ in 0..PASSES {
        let there = present::settings().map_err(failed)?;
        let steps = plan::settings(&wanted.settings, &there);
        if steps.is_empty() {
            break;
        }
        not_kept = write_all(&steps)?;
    }
    run(&asker, &links::ups(&wanted.links))?;
    run(&asker, &plan::addresses(&wanted.addresses))?;
    let there = present::addresses(&asker).map_err(failed)?;
    run(&asker, &plan::other_addresses(&wanted.addresses, &there))?;
    let mut there = present::routes(&asker).map_err(failed)?;
    let began = Instant::now();
    while plan::is_awaiting(&wanted.routes, &there) && began.elapsed() < AT_MOST {
        std::thread::sleep(Duration::from_millis(1));
        there = present::routes(&asker).map_err(failed)?;
    }
    run(&asker, &plan::other_routes(&wanted.routes, &there))?;
    add_routes(&asker, plan::routes(&wanted.routes, &there))?;
    let there = present::rules(&asker).map_err(failed)?;
    run(&asker, &plan::rules(&wanted.rules, &there))?;
    let there = present::neighbours(&asker).map_err(failed)?;
    run(&asker, &plan::neighbours(&wanted.neighbours, &there))?;
    let filtered = filters::plan(&wanted.filters).send();
    filtered.map_err(|source| Error::Network {
        object: "tables of nftables".into(),
        source,
    })?;
    let there = present::links(&asker).map_err(failed)?;
    not_kept.extend(links::unlike_before(&wanted.links, &there));
    Ok(not_kept)
}

/// Keeps packets away from sockets that are not there yet.
fn lock(snapshot: &Snapshot) -> Result<Option<Owned>> {
    let mut files = snapshot.files.iter();
    let has_sockets = files.any(|file| matches!(file.kind, FileKind::Inet(_)));
    if !has_sockets || snapshot.origin.network_lock == NetworkLock::Skip {
        return Ok(None);
    }
    match nft::lock_owned(LOCK, &Scope::All) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if snapshot.has_connections() => Err(Error::NetworkLock(error)),
        Err(_) => Ok(None),
    }
}

fn run(asker: &Asker, steps: &[Step]) -> Result<()> {
    steps.iter().try_for_each(|step| act(asker, step))
}

fn act(asker: &Asker, step: &Step) -> Result<()> {
    let Act::Request(kind, flags, body) = &step.act else {
        return Ok(());
    };
    match asker.have_done(*kind, *flags, body) {
        // The kernel has made it, or removed it with something else.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EEXIST | libc::ESRCH | libc::EADDRNOTAVAIL)
            ) =>
        {
            Ok(())
        }
        done => done.map_err(|source| Error::Network {
            object: step.object.clone(),
            source,
        }),
    }
}

/// Adds routes: one may need another, by which its gateway is reached.
fn add_routes(asker: &Asker, mut steps: Vec<Step>) -> Result<()> {
    loop {
        let before = steps.len();
        let mut failure = None;
        steps.retain(|step| match act(asker, step) {
            Ok(()) => false,
            Err(_) if step.is_of_the_kernel() => false,
            Err(error) => {
                failure.get_or_insert(error);
                true
            }
        });
        match failure {
            None => return Ok(()),
            Some(error) if steps.len() == before => return Err(error),
            Some(_) => {}
        }
    }
}

/// Writes settings, and returns those that there are none of.
fn write_all(steps: &[Step]) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for step in steps {
        let Act::Write(setting) = &step.act else {
            continue;
        };
        match std::fs::write(present::setting_path(&setting.name), &setting.value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing.push(format!("{}: this kernel has none such", step.object));
            }
            written => written.map_err(|source| Error::Network {
                object: step.object.clone(),
                source,
            })?,
        }
    }
    Ok(missing)
}
