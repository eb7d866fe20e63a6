//! Files and folders of a process in `/proc`: what they say is of that process. Those of processes of the tree are opened
//! again when all of it is born. A number outside of it may be another's by then, and what a dead process has left open
//! tells nothing any more and cannot be opened again: both are refused.

use super::{FileTable, Refused, ghosts};

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Whose {
    pid: i32,
    /// A thread that is not the first of its process.
    tid: Option<i32>,
    is_gone: bool,
}

impl FileTable {
    /// Refuses a file of `/proc` by the name that the kernel has for it, if it is of a process or thread that a restore does
    /// not find.
    ///
    /// # Errors
    /// With the reason.
    pub fn check_proc(&self, link: &[u8]) -> Result<(), Refused> {
        let Some(whose) = whose(link) else {
            return Ok(());
        };
        let pid = whose.pid;
        // The kernel calls it deleted once somebody has looked for it.
        let is_gone = whose.is_gone || !std::path::Path::new(&format!("/proc/{pid}")).exists();
        let reason = match whose.tid {
            _ if is_gone => {
                format!("it is of process {pid} or a thread of it, which has ended")
            }
            _ if !self.processes.contains(&pid) => {
                format!("it is of process {pid}, which is outside of what is dumped")
            }
            Some(tid) => format!("it is of thread {tid}, which is not kept yet"),
            None => return Ok(()),
        };
        Err((reason, String::new()))
    }
}

fn whose(link: &[u8]) -> Option<Whose> {
    let path = link.strip_suffix(ghosts::DELETED);
    let is_gone = path.is_some();
    let path = std::str::from_utf8(path.unwrap_or(link)).ok()?;
    let mut parts = path.strip_prefix("/proc/")?.split('/');
    let pid = parts.next()?.parse().ok()?;
    let tid = match parts.next() {
        Some("task") => parts.next().and_then(|tid| tid.parse().ok()),
        _ => None,
    };
    Some(Whose {
        pid,
        tid: tid.filter(|tid| *tid != pid),
        is_gone,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(link: &str) -> Option<(i32, Option<i32>, bool)> {
        whose(link.as_bytes()).map(|whose| (whose.pid, whose.tid, whose.is_gone))
    }

    #[test]
    fn the_name_says_whose_it_is() {
        assert_eq!(told("/proc/12/stat"), Some((12, None, false)));
        assert_eq!(told("/proc/12"), Some((12, None, false)));
        assert_eq!(told("/proc/12/task/12/stat"), Some((12, None, false)));
        assert_eq!(told("/proc/12/task/13/stat"), Some((12, Some(13), false)));
        assert_eq!(told("/proc/12/maps (deleted)"), Some((12, None, true)));
        for other in [
            "/proc/stat",
            "/proc/sys/kernel/pid_max",
            "/proc",
            "/home/proc/12",
        ] {
            assert_eq!(told(other), None, "{other}");
        }
    }
}
