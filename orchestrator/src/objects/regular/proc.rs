//! Files of `/proc` that are of a process or thread: whose, by their paths. Pure.

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whose {
    /// The process.
    pub pid: i32,
    /// A thread that is not the first of its process.
    pub tid: Option<i32>,
}

impl Whose {
    /// Returns the folder of the process or thread.
    pub fn folder(&self) -> String {
        let pid = self.pid;
        match self.tid {
            Some(tid) => format!("/proc/{pid}/task/{tid}"),
            None => format!("/proc/{pid}"),
        }
    }
}

/// Returns whose the file at this path is, if it is of anybody.
pub fn whose(path: &[u8]) -> Option<Whose> {
    let path = std::str::from_utf8(path).ok()?;
    let mut parts = path.strip_prefix("/proc/")?.split('/');
    let pid = parts.next()?.parse().ok()?;
    let tid = match parts.next() {
        Some("task") => parts.next().and_then(|tid| tid.parse().ok()),
        _ => None,
    };
    Some(Whose {
        pid,
        tid: tid.filter(|tid| *tid != pid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_whose_it_is() {
        let told = |path: &str| whose(path.as_bytes()).map(|whose| (whose.pid, whose.tid));
        assert_eq!(told("/proc/12/stat"), Some((12, None)));
        assert_eq!(told("/proc/12"), Some((12, None)));
        assert_eq!(told("/proc/12/task/12/stat"), Some((12, None)));
        assert_eq!(told("/proc/12/task/13/stat"), Some((12, Some(13))));
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
