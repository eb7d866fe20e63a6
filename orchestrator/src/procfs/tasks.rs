//! Which threads a process has, and which children.

use super::text::only_line;
use super::{Error, Result, Subject};
use crate::sys::{Pid, Tid};
use std::path::Path;

/// Returns the threads of a process, by number.
pub fn read(pid: Pid) -> Result<Vec<Tid>> {
    let numbers = numbered_entries(&Subject::from(pid).path("task"))?;
    Ok(numbers.into_iter().map(Tid).collect())
}

/// Returns all processes that can be seen, by number.
pub fn processes() -> Result<Vec<Pid>> {
    let numbers = numbered_entries(Path::new("/proc"))?;
    Ok(numbers.into_iter().map(Pid).collect())
}

/// Returns the children that a thread made or inherited, by number (`CONFIG_PROC_CHILDREN`). It is exact only while they and
/// the thread stand still.
pub fn read_children(pid: Pid, tid: Tid) -> Result<Vec<Pid>> {
    parse_children(&Subject::from((pid, tid)).read("children")?)
}

/// Parses the bytes of `children`.
pub fn parse_children(bytes: &[u8]) -> Result<Vec<Pid>> {
    let pids: Vec<i32> = only_line("children", bytes).numbers("pids")?;
    Ok(pids.into_iter().map(Pid).collect())
}

/// Returns the entries of a folder whose names are numbers, in order.
pub(super) fn numbered_entries(path: &Path) -> Result<Vec<i32>> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if let Some(number) = name.to_str().and_then(|name| name.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_a_list_of_pids() {
        assert_eq!(
            parse_children(b"12 345 ").expect("parses"),
            [Pid(12), Pid(345)]
        );
        assert_eq!(parse_children(b"").expect("parses"), []);
        assert!(parse_children(b"12 x").is_err());
    }

    #[test]
    fn our_threads_and_children_are_found() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep starts");
        let children = read_children(Pid::this(), Tid::this()).expect("children");
        assert!(children.contains(&Pid(child.id() as i32)));
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(read(Pid::this()).expect("threads").contains(&Tid::this()));
    }
}
