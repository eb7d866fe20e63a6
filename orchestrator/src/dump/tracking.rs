//! Rounds of dumps: which pages changed since the set before, and what tracks them until the next.
//!
//! A page is left to the parent set if its tracker says that it was not written since that set was made, and the set has it.
//! Whatever is in doubt is written: where the keeper is gone, knows of another set than the one that was named, tracks a
//! process that has ended (its number is another's now), or could not be asked.
//!
//! Tracking begins anew in the middle of a dump, before it is known whether that comes to an end. So the keeper is ended first:
//! from then on until the new set is complete nobody could take an old note for the truth about new bits.

use super::Error;
use crate::image::{Previous, run_id};
use crate::keeper::{self, Kept, Tracked};
use crate::memory::dirty::{Method, Next, Parted, Tracker, part, wp_async};
use crate::memory::select::Wanted;
use crate::procfs::smaps::{Areas, VmFlags};
use crate::procfs::{self, pagemap::Pagemap};
use crate::snapshot::{PageRun, Vma};
use crate::sys::{self, Pid, RemoteFd, fd, uffd};
use crate::tracee::Frozen;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What the user wants of rounds.
#[derive(Debug, Clone, Default)]
pub struct Rounds {
    /// Where the set before lies, from the images folder on.
    pub previous: Option<PathBuf>,
    /// Changes are tracked from now on, for the next round.
    pub track: bool,
    /// What the new set supersedes is taken out of its parents.
    pub dedup: bool,
    /// How to track; `None` = the best way of this kernel.
    pub method: Option<Method>,
}

/// What is known of one process.
#[derive(Debug)]
struct Task {
    started: u64,
    method: Method,
    tracker: Box<dyn Tracker>,
    /// The pages of the set before; none where the tracker is new, or knows of another set.
    before: Vec<PageRun>,
}

/// The tracking of a tree.
#[derive(Debug)]
pub struct Tracking {
    root: Pid,
    next: Next,
    method: Option<Method>,
    /// The parent of the new set.
    previous: Option<Previous>,
    kept: Option<Kept>,
    /// Pages of the set before, read while the tree still ran.
    before: BTreeMap<i32, Vec<PageRun>>,
    tasks: BTreeMap<i32, Task>,
    /// Id of this dump.
    pub run_id: String,
}

impl Tracking {
    /// Finds what an earlier round left, while the tree still runs.
    ///
    /// # Errors
    /// The set before cannot be read.
    pub fn prepare(root: Pid, rounds: &Rounds, dir: &Path) -> Result<Self, Error> {
        let previous = rounds.previous.as_ref();
        let previous = previous.map(|link| Previous::open(dir, link)).transpose()?;
        let kept = keeper::find(root).unwrap_or_else(|error| {
            tracing::warn!("what was tracked cannot be fetched: {error}");
            None
        });
        let mut before = BTreeMap::new();
        if let Some(previous) = &previous {
            match &kept {
                Some(kept) if kept.run_id == previous.run_id => {
                    for task in &kept.tasks {
                        before.insert(task.pid.0, previous.pages_of(task.pid.0)?);
                    }
                }
                Some(_) => tracing::warn!(
                    "what is tracked began with another set than {}: all pages count as changed",
                    previous.link.display()
                ),
                None => tracing::warn!(
                    "nothing was tracked since {} was made: all pages count as changed",
                    previous.link.display()
                ),
            }
        }
        let method = match rounds.track {
            true => rounds.method.or_else(Method::of_this_kernel),
            false => None,
        };
        if rounds.track && method.is_none() {
            tracing::warn!("this kernel tracks no changes: each round writes all pages");
        }
        Ok(Self {
            root,
            next: if rounds.track {
                Next::Begin
            } else {
                Next::GoOn
            },
            method,
            previous,
            kept,
            before,
            tasks: BTreeMap::new(),
            run_id: run_id()?,
        })
    }

    /// Returns the link to the parent set.
    pub fn link(&self) -> Option<&Path> {
        self.previous
            .as_ref()
            .map(|previous| previous.link.as_path())
    }

    /// Takes up the tracking of a process that stands still, or begins one.
    ///
    /// # Errors
    /// The process is gone, or cannot be told from another.
    pub fn take_up(&mut self, frozen: &mut Frozen, areas: &Areas) -> Result<(), Error> {
        let pid = frozen.pid();
        let started = keeper::started(pid)?;
        let kept = self.kept.as_mut().map(|kept| &mut kept.tasks);
        let known = kept.and_then(|tasks| {
            let place = tasks
                .iter()
                .position(|task| (task.pid, task.started) == (pid, started))?;
            Some(tasks.swap_remove(place))
        });
        let known = known.filter(|task| serves(task, areas));
        let may_begin = self.next == Next::Begin;
        if may_begin && is_pinned(pid, areas)? {
            tracing::info!(
                "process {pid} has memory that devices may write: all of it counts as changed"
            );
            return Ok(());
        }
        let (method, tracker, before) = match (known, self.method) {
            (Some(task), _) => {
                let before = self.before.remove(&pid.0).unwrap_or_default();
                (task.method, task.method.tracker(pid, task.held), before)
            }
            (None, Some(method)) if may_begin => {
                let held = match method {
                    Method::WpAsync => make_uffd(frozen)?,
                    Method::SoftDirty => None,
                };
                (method, method.tracker(pid, held), Vec::new())
            }
            _ => return Ok(()),
        };
        if let Some(tracker) = tracker {
            let task = Task {
                started,
                method,
                tracker,
                before,
            };
            self.tasks.insert(pid.0, task);
        }
        Ok(())
    }

    /// Takes our own mark off the areas that are tracked: it is none of the program's.
    pub fn unmark(&self, pid: Pid, areas: &mut Areas) {
        let task = self.tasks.get(&pid.0);
        let Some(uffd) = task.and_then(|task| task.tracker.held()) else {
            return;
        };
        let marked = areas.vmas.iter_mut();
        for area in marked.filter(|area| area.vm_flags.contains(VmFlags::UFFD_WP)) {
            let range = sys::RemoteAddr(area.start)..sys::RemoteAddr(area.end);
            if uffd::register(uffd, range).is_ok() {
                area.vm_flags.remove(VmFlags::UFFD_WP);
            }
        }
    }

    /// Returns whether the tracking of a process can be asked while it runs.
    pub fn sees_running(&self, pid: Pid) -> bool {
        let task = self.tasks.get(&pid.0);
        task.is_none_or(|task| task.tracker.sees_running())
    }

    /// Returns what of a process was not written since the set before, and begins anew where there is to be a next round.
    ///
    /// # Errors
    /// The keeper does not end.
    pub fn unwritten(&mut self, pid: Pid, areas: &[Vma]) -> Result<Vec<[u64; 2]>, Error> {
        if self.next == Next::Begin {
            self.end_keeper()?;
        }
        let Some(task) = self.tasks.get_mut(&pid.0) else {
            return Ok(Vec::new());
        };
        let found = task.tracker.unwritten(areas, self.next);
        Ok(found.unwrap_or_else(|error| {
            tracing::warn!("what of process {pid} was written cannot be told: {error}");
            self.tasks.remove(&pid.0);
            Vec::new()
        }))
    }

    /// Parts what is wanted of a process into what is to be stored and what the parent set has.
    pub fn part(&self, pid: Pid, wanted: Vec<Wanted>, unwritten: &[[u64; 2]]) -> Parted {
        match self.tasks.get(&pid.0) {
            Some(task) if !task.before.is_empty() => part(&wanted, unwritten, &task.before),
            _ => Parted {
                own: wanted,
                parent: Vec::new(),
            },
        }
    }

    fn end_keeper(&mut self) -> Result<(), Error> {
        match self.kept.take() {
            Some(kept) => Ok(kept.end()?),
            None => Ok(()),
        }
    }

    /// Hands what is tracked to a new keeper, now that the set is complete; where there is to be no next round, ends it.
    pub fn finish(mut self) {
        let root = self.root;
        let done = match self.next {
            Next::GoOn => self.end_keeper(),
            Next::Begin => self.hand_over().map_err(Error::from),
        };
        if let Err(error) = done {
            // The set is complete all the same.
            tracing::warn!("the changes of process {root} are not tracked: {error}");
        }
    }

    fn hand_over(&self) -> Result<(), keeper::Error> {
        let mut tracked = Vec::new();
        for (&pid, task) in &self.tasks {
            let held = task.tracker.held();
            let held = held.map(|held| held.try_clone_to_owned()).transpose();
            tracked.push(Tracked {
                pid: Pid(pid),
                started: task.started,
                method: task.method,
                held: held.map_err(keeper::Error::Start)?,
            });
        }
        match tracked.is_empty() {
            true => Ok(()),
            false => keeper::keep(self.root, self.run_id.as_bytes(), &tracked),
        }
    }
}

/// Returns whether what is kept is of the address space that the process has now: `execve` gives it another.
fn serves(task: &Tracked, areas: &Areas) -> bool {
    let (Method::WpAsync, Some(uffd)) = (task.method, &task.held) else {
        return true;
    };
    let Ok(pagemap) = Pagemap::open(task.pid) else {
        return false;
    };
    let private = areas.vmas.iter();
    let mut private =
        private.filter(|area| !area.shared && area.prot & libc::PROT_WRITE as u32 != 0);
    private.any(|area| {
        wp_async::register(uffd, [area.start, area.end]).is_ok()
            && wp_async::is_registered(&pagemap, area.start)
    })
}

/// Returns whether the process may have memory that a device writes behind the back of its page table: what is pinned for
/// io_uring, by RDMA, or for asynchronous I/O under way.
fn is_pinned(pid: Pid, areas: &Areas) -> Result<bool, Error> {
    if procfs::status::read(pid)?.pinned_kib != 0 {
        return Ok(true);
    }
    if areas
        .vmas
        .iter()
        .any(|area| areas.path(area).starts_with(b"/[aio]"))
    {
        return Ok(true);
    }
    let links = std::fs::read_dir(format!("/proc/{}/fd", pid.0)).map_err(Error::Descriptors)?;
    let mut links = links
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok());
    Ok(links.any(|link| {
        let link = link.as_os_str().as_encoded_bytes();
        link == b"anon_inode:[io_uring]"
            || link.starts_with(b"/dev/vfio/")
            || link.starts_with(b"/dev/infiniband/")
    }))
}

/// Makes a userfaultfd in the process and takes it out again. `None` where the process cannot have one: its descriptors are used
/// up, or its system calls are watched.
fn make_uffd(frozen: &mut Frozen) -> Result<Option<OwnedFd>, Error> {
    let pid = frozen.pid();
    if procfs::status::read(pid)?.seccomp != 0 {
        return Ok(None);
    }
    let flags = libc::O_CLOEXEC as u64 | libc::O_NONBLOCK as u64 | uffd::USER_MODE_ONLY;
    let made = frozen.remote_raw(libc::SYS_userfaultfd, [flags, 0, 0, 0, 0, 0])?;
    let Ok(number @ 0..) = i32::try_from(made) else {
        frozen.put_back()?;
        tracing::warn!(
            "process {pid} cannot be tracked: userfaultfd in it failed ({})",
            -made
        );
        return Ok(None);
    };
    let fetched = fd::pidfd_open(pid).and_then(|pidfd| fd::pidfd_getfd(pidfd, RemoteFd(number)));
    let closed = frozen.remote("close", libc::SYS_close, [number as u64, 0, 0, 0, 0, 0]);
    frozen.put_back()?;
    closed?;
    let uffd = fetched.map_err(Error::Own)?;
    Ok(uffd::enable_async(&uffd).is_ok().then_some(uffd))
}
