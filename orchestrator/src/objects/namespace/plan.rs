//! From the fact to operations. Pure.

use crate::plan::Builder;
use crate::snapshot::{NamespaceFile, TaskIds};

/// Returns why a task with these namespaces cannot open it: it is none of its own.
pub fn obstacle(file: &NamespaceFile, ids: &TaskIds) -> Option<String> {
    let is_own = file.ns != 0 && file.ns == file.own_of(ids);
    (!is_own).then(|| format!("it is of another {} namespace than the task's", file.name))
}

/// Adds the opening of the namespace of this kind that the task is in.
pub fn plan_open(b: &mut Builder, file: &NamespaceFile, flags: u32) -> i32 {
    b.open_path(format!("/proc/self/ns/{}", file.name).as_bytes(), flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_of_the_task_are_opened() {
        let ids = TaskIds {
            net_ns: 2,
            uts_ns: 4,
            ..TaskIds::default()
        };
        assert_eq!(obstacle(&NamespaceFile { ns: 2, name: "net" }, &ids), None);
        assert!(obstacle(&NamespaceFile { ns: 4, name: "net" }, &ids).is_some());
        assert!(obstacle(&NamespaceFile { ns: 0, name: "ipc" }, &ids).is_some());
        let mut b = Builder::for_test();
        plan_open(&mut b, &NamespaceFile { ns: 4, name: "uts" }, 0o100_000);
        assert_eq!(b.calls()[0].1[2], 0o100_000);
    }
}
