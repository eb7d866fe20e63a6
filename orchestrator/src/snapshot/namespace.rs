//! Descriptors of namespaces.

use super::TaskIds;

/// Kinds of namespace, by their names in `/proc/PID/ns` and their bits of `clone(2)`. Those of time are not among them:
/// the clocks of a restored tree are kept by a new one.
const KINDS: [(&str, i32); 7] = [
    ("pid", libc::CLONE_NEWPID),
    ("net", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("mnt", libc::CLONE_NEWNS),
    ("user", libc::CLONE_NEWUSER),
    ("cgroup", libc::CLONE_NEWCGROUP),
];

/// What a descriptor of a namespace refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceFile {
    /// The namespace, as an id within the image set.
    pub ns: u32,
    /// Its name in `/proc/PID/ns`.
    pub name: &'static str,
}

impl NamespaceFile {
    /// Returns the one of this name that a task with these namespaces is in.
    pub fn of_task(name: &str, ids: &TaskIds) -> Option<Self> {
        let (name, _) = KINDS.iter().find(|(known, _)| *known == name)?;
        let mut file = Self { ns: 0, name };
        file.ns = file.own_of(ids);
        Some(file)
    }

    /// Returns the one with this id, of the kind of this bit.
    pub fn of_flag(ns: u32, flag: u32) -> Option<Self> {
        let kind = KINDS.iter().find(|(_, known)| *known as u32 == flag);
        kind.map(|(name, _)| Self { ns, name })
    }

    /// Returns the bit of `clone(2)` for its kind.
    pub fn flag(&self) -> u32 {
        let kind = KINDS.iter().find(|(name, _)| *name == self.name);
        kind.map_or(0, |(_, flag)| *flag as u32)
    }

    /// Returns the namespace of its kind that a task is in.
    pub fn own_of(&self, ids: &TaskIds) -> u32 {
        match self.name {
            "pid" => ids.pid_ns,
            "net" => ids.net_ns,
            "ipc" => ids.ipc_ns,
            "uts" => ids.uts_ns,
            "mnt" => ids.mnt_ns,
            "user" => ids.user_ns,
            _ => ids.cgroup_ns,
        }
    }
}
