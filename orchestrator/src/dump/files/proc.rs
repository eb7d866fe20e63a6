//! Files and folders of a process in `/proc`: what they say is of that process. Those of processes and threads of the tree are
//! opened again when these are there; those of a process that has ended, by one of its number that ends then; those of one
//! outside only while it is the same one, which its start tells.

use super::{FileTable, Refused, ghosts, regular_of};
use crate::objects::regular::proc::{Whose, whose};
use crate::procfs::stat::started;
use crate::snapshot::{ProcOwner, RegularFile};
use crate::sys::file::FileStat;
use std::path::Path;

impl FileTable {
    /// Refuses a file of `/proc` by the name that the kernel has for it, if it is of a process or thread that a restore does
    /// not find by its path.
    ///
    /// # Errors
    /// With the reason.
    pub fn check_proc(&self, link: &[u8]) -> Result<(), Refused> {
        let path = link.strip_suffix(ghosts::DELETED).unwrap_or(link);
        let Some(whose) = whose(path) else {
            return Ok(());
        };
        let is_gone = path.len() != link.len() || !Path::new(&whose.folder()).exists();
        let Whose { pid, tid } = whose;
        let reason = match tid {
            _ if is_gone => {
                format!("it is of process {pid} or a thread of it, which has ended")
            }
            _ if !self.processes.contains(&pid) => {
                format!("it is of process {pid}, which is outside of what is dumped")
            }
            Some(tid) => format!("it is of thread {tid}"),
            None => return Ok(()),
        };
        Err((reason, String::new()))
    }

    /// Returns a descriptor of such a file, with whose it is; `None` for any other file. `found` is what its name leads to now.
    ///
    /// # Errors
    /// With the reason: nobody can be made whose it could be.
    pub(super) fn proc_file(
        &self,
        link: &[u8],
        stat: &FileStat,
        found: Option<&FileStat>,
        pos: u64,
    ) -> Result<Option<RegularFile>, Refused> {
        // The kernel calls it deleted once somebody has looked for it.
        let path = link.strip_suffix(ghosts::DELETED).unwrap_or(link);
        let Some(whose) = whose(path) else {
            return Ok(None);
        };
        let is_there = found.is_some_and(|found| (found.dev, found.ino) == (stat.dev, stat.ino));
        let of = match is_there {
            false => Some(self.gone(whose)?),
            true if self.processes.contains(&whose.pid) => None,
            true => Some(outside(whose)?),
        };
        Ok(Some(RegularFile {
            of,
            ..regular_of(path, stat, pos)
        }))
    }

    fn gone(&self, whose: Whose) -> Result<ProcOwner, Refused> {
        let Whose { pid, tid } = whose;
        let reason = match tid {
            Some(tid) => format!("it is of thread {tid} of process {pid}, which has ended"),
            None if self.processes.contains(&pid) || Path::new(&whose.folder()).exists() => {
                format!("it is no longer there, and there is a process {pid}")
            }
            None => return Ok(ProcOwner::Gone(pid)),
        };
        Err((reason, String::new()))
    }
}

fn outside(whose: Whose) -> Result<ProcOwner, Refused> {
    let folder = whose.folder();
    let start = started(&folder);
    start.map(ProcOwner::Outside).ok_or_else(|| {
        let reason = format!("nothing tells when the owner of {folder} was started");
        (reason, String::new())
    })
}
