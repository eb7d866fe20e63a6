//! A cgroup that stands still while its threads are seized: no process of it is born meanwhile, nor makes a step between the
//! stops of two of its threads.
//!
//! The kernel's rule: a thread that the freezer holds can be seized, but one of the first hierarchy stops for its tracer only once it
//! is thawed, before it returns to its program (`get_signal`, `kernel/signal.c`). So all are seized and interrupted while the cgroup is
//! frozen, and it is thawed before their stops are awaited. Whatever becomes of us, it is thawed: by the guard's drop, and by a
//! process that waits for our end if we are killed.

use super::{Deadline, Error};
use crate::sys::Pid;
use crate::sys::at_end::WriteAtEnd;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How deep cgroups are looked into for this process.
const MAX_DEPTH: usize = 64;

/// A frozen cgroup. Dropped, it is thawed.
#[derive(Debug)]
pub(super) struct FrozenCgroup {
    path: PathBuf,
    control: File,
    hierarchy: Hierarchy,
    at_end: Option<WriteAtEnd>,
}

/// The words of the two kinds of freezers (`Documentation/admin-guide`: `cgroup-v1/freezer-subsystem`, `cgroup-v2`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hierarchy {
    First,
    Unified,
}

impl Hierarchy {
    fn control(self) -> &'static str {
        match self {
            Self::First => "freezer.state",
            Self::Unified => "cgroup.freeze",
        }
    }

    fn freeze(self) -> &'static [u8] {
        match self {
            Self::First => b"FROZEN",
            Self::Unified => b"1",
        }
    }

    fn thaw(self) -> &'static [u8] {
        match self {
            Self::First => b"THAWED",
            Self::Unified => b"0",
        }
    }

    /// Returns whether it is asked to stand still, and whether it does.
    fn state(self, path: &Path) -> std::io::Result<(bool, bool)> {
        let state = std::fs::read_to_string(path.join(self.control()))?;
        match self {
            Self::First => Ok((state.trim() != "THAWED", state.trim() == "FROZEN")),
            Self::Unified => {
                let events = std::fs::read_to_string(path.join("cgroup.events"))?;
                let stands = events.lines().any(|line| line == "frozen 1");
                Ok((stands || state.trim() == "1", stands))
            }
        }
    }
}

impl FrozenCgroup {
    /// Freezes a cgroup, given by its folder.
    ///
    /// # Errors
    /// It is none, this process is in it, somebody else froze it, or it does not stand still in time.
    pub(super) fn freeze(path: &Path, deadline: &Deadline) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Cgroup {
            path: path.display().to_string(),
            reason,
        };
        let known = [Hierarchy::Unified, Hierarchy::First];
        let hierarchy = known.into_iter().find(|h| path.join(h.control()).exists());
        let hierarchy = hierarchy.ok_or_else(|| {
            wrong("it is no cgroup that can be frozen: it has neither cgroup.freeze nor freezer.state".into())
        })?;
        if holds(path, Pid::this(), MAX_DEPTH).map_err(|error| wrong(error.to_string()))? {
            return Err(wrong(
                "this command is in it, and would freeze itself".into(),
            ));
        }
        let state = || {
            let state = hierarchy.state(path);
            state.map_err(|error| wrong(format!("cannot read its state: {error}")))
        };
        if state()?.0 {
            return Err(wrong("it is frozen already; thaw it first".into()));
        }
        let control = OpenOptions::new()
            .write(true)
            .open(path.join(hierarchy.control()));
        let control = control.map_err(|error| wrong(format!("cannot freeze it: {error}")))?;
        let at_end = WriteAtEnd::new(&control, hierarchy.thaw());
        let at_end = at_end.map_err(|error| wrong(format!("cannot guard it: {error}")))?;
        let mut frozen = Self {
            path: path.into(),
            control,
            hierarchy,
            at_end: Some(at_end),
        };
        let written = frozen.control.write_all(hierarchy.freeze());
        written.map_err(|error| wrong(format!("cannot freeze it: {error}")))?;
        while !state()?.1 {
            if deadline.is_over() {
                let seconds = deadline.seconds;
                let reason =
                    format!("it did not stand still within {seconds} s; --timeout allows more");
                return Err(wrong(reason));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(frozen)
    }
}

impl Drop for FrozenCgroup {
    fn drop(&mut self) {
        if let Err(error) = self.control.write_all(self.hierarchy.thaw()) {
            tracing::error!("cannot thaw cgroup {}: {error}", self.path.display());
        }
        // After it: until then we may be killed.
        self.at_end = None;
    }
}

/// Returns whether a process is in a cgroup or below it.
fn holds(path: &Path, pid: Pid, depth: usize) -> std::io::Result<bool> {
    // A threaded cgroup has no list of processes.
    let read = |name: &str| std::fs::read_to_string(path.join(name));
    let listed = read("cgroup.procs").or_else(|_| read("cgroup.threads"))?;
    if listed.lines().any(|line| line == pid.to_string()) {
        return Ok(true);
    }
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if depth > 0 && entry.file_type()?.is_dir() {
            match holds(&entry.path(), pid, depth - 1) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                // It was removed meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(false)
}
