//! The tree's own network namespace: made and filled before the tree, by a thread that is in it. Until the tree is in it too it
//! goes with us. Packets are kept away from it until all sockets are there: they would be answered by a reset.

use std::io;
use std::time::{Duration, Instant};

use super::error::{Doing, Error, Result};
use crate::netlink::nft::{self, Owned, Scope};
use crate::netlink::raw::Asker;
use crate::objects::netns::plan::{self, Act, Step};
use crate::objects::netns::present;
use crate::snapshot::{FileKind, NetNamespace, NetworkLock, Snapshot};
use crate::sys::ns::Network;

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
    /// Makes the namespace of a tree that has one of its own.
    pub(super) fn make(snapshot: &Snapshot) -> Result<Self> {
        let Some(wanted) = &snapshot.network else {
            return Ok(Self::default());
        };
        let own = Network::new().doing("make a network namespace")?;
        let filled = own.within(|| fill(wanted, snapshot));
        let (lock, not_kept) = filled.doing("enter a new network namespace")??;
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

fn fill(wanted: &NetNamespace, snapshot: &Snapshot) -> Result<(Option<Owned>, Vec<String>)> {
    let failed = |source: io::Error| Error::Network {
        object: "network namespace".into(),
        source,
    };
    let lock = lock(snapshot)?;
    let asker = present::open().map_err(failed)?;
    let there = present::links(&asker).map_err(failed)?;
    run(&asker, &plan::links(&wanted.links, &there))?;
    let mut not_kept = Vec::new();
    for _ in 0..PASSES {
        let there = present::settings().map_err(failed)?;
        let steps = plan::settings(&wanted.settings, &there);
        if steps.is_empty() {
            break;
        }
        not_kept = write_all(&steps)?;
    }
    run(&asker, &plan::ups(&wanted.links))?;
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
    run(&asker, &plan::neighbours(&wanted.neighbours))?;
    Ok((lock, not_kept))
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
