//! Who makes what several tasks have: the first of them that has it.

use std::collections::{BTreeMap, BTreeSet};

use super::family::{Family, Kind};
use super::joint::{Joint, TABLE};
use super::pidfds::gone_of;
use super::sockets::Script;
use crate::snapshot::{FileId, FileKind, Snapshot, Task, VmaKind};

/// Makers, by their places in the family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Of each open file description that a descriptor refers to, or that waits in a socket.
    pub files: BTreeMap<FileId, usize>,
    /// First member that has each open file description: it sets what the description has beside its content. Who makes what
    /// nobody has, and waits in a socket, has it until then.
    pub holders: BTreeMap<FileId, usize>,
    /// Open file descriptions that wait in a socket, and nobody has.
    pub in_flight: BTreeSet<FileId>,
    /// Of each memfd's inode.
    pub memfds: BTreeMap<u32, usize>,
    /// Of each segment of shared anonymous memory.
    pub segments: BTreeMap<u64, usize>,
    /// Of each segment of System V shared memory.
    pub system_v: BTreeMap<u32, usize>,
}

impl Sharing {
    /// Returns the makers. All descriptions of a pipe, a named one, a pair of sockets, a memfd or a process that
    /// is gone are made by one: they lead to the same thing.
    pub fn of(snapshot: &Snapshot, family: &Family, joint: &Joint, script: &Script<'_>) -> Self {
        let mut all = Self::default();
        let [mut pipes, mut fifos, mut pairs]: [BTreeMap<u32, usize>; 3] = Default::default();
        let mut departed = BTreeMap::new();
        let kinds: BTreeMap<FileId, &FileKind> = snapshot
            .files
            .iter()
            .map(|file| (file.id, &file.kind))
            .collect();
        all.holders.clone_from(&script.holders);
        for (id, (member, _)) in &script.made {
            all.files.insert(*id, *member);
        }
        for (member, task) in living(snapshot, family) {
            // Who has its descriptors from another makes none.
            let member = joint.first(member, TABLE);
            for entry in &task.fds {
                let maker = match kinds.get(&entry.file) {
                    Some(FileKind::Pipe(end)) => *pipes.entry(end.pipe_id).or_insert(member),
                    Some(FileKind::Fifo(fifo)) => *fifos.entry(fifo.pipe_id).or_insert(member),
                    Some(FileKind::Unix(socket)) => {
                        let pair = socket.ino.min(socket.peer);
                        *pairs.entry(pair).or_insert(member)
                    }
                    Some(FileKind::Memfd(memfd)) => {
                        *all.memfds.entry(memfd.inode_id).or_insert(member)
                    }
                    kind => match kind.and_then(|kind| gone_of(kind)) {
                        Some(gone) => *departed.entry(gone).or_insert(member),
                        None => member,
                    },
                };
                all.files.entry(entry.file).or_insert(maker);
            }
            for vma in task.mm.iter().flat_map(|mm| &mm.vmas) {
                match vma.kind {
                    VmaKind::SharedAnonymous(id) => {
                        all.segments.entry(id).or_insert(member);
                    }
                    VmaKind::SystemV(id) | VmaKind::SystemVReadOnly(id) => {
                        all.system_v.entry(id).or_insert(member);
                    }
                    VmaKind::Memfd(id) => {
                        if let Some(FileKind::Memfd(memfd)) = kinds.get(&id) {
                            all.memfds.entry(memfd.inode_id).or_insert(member);
                        }
                    }
                    _ => {}
                }
            }
        }
        if snapshot.ipc.is_some() {
            // Those of the tree's own namespace are made by one, whoever has them: the next id is told to the kernel for all.
            let all_ids = snapshot.segments.iter().map(|segment| segment.perm.id);
            all.system_v.extend(all_ids.map(|id| (id, 0)));
        }
        let waiting = snapshot.files.iter().filter_map(|file| match &file.kind {
            FileKind::Unix(socket) => Some(&socket.queue),
            _ => None,
        });
        let waiting = waiting.flatten().flat_map(|message| &message.files);
        for &id in waiting.filter(|id| !script.holders.contains_key(id)) {
            let member = script.filler;
            let maker = match kinds.get(&id) {
                Some(FileKind::Pipe(end)) => *pipes.entry(end.pipe_id).or_insert(member),
                Some(FileKind::Fifo(fifo)) => *fifos.entry(fifo.pipe_id).or_insert(member),
                Some(FileKind::Memfd(memfd)) => *all.memfds.entry(memfd.inode_id).or_insert(member),
                kind => match kind.and_then(|kind| gone_of(kind)) {
                    Some(gone) => *departed.entry(gone).or_insert(member),
                    None => member,
                },
            };
            let maker = *all.files.entry(id).or_insert(maker);
            all.holders.insert(id, maker);
            all.in_flight.insert(id);
        }
        all
    }

    /// Returns the open file descriptions that a member makes, by id.
    pub fn files_of(&self, member: usize) -> impl Iterator<Item = FileId> {
        let own = self
            .files
            .iter()
            .filter(move |(_, maker)| **maker == member);
        own.map(|(id, _)| *id)
    }
}

fn living<'a>(
    snapshot: &'a Snapshot,
    family: &'a Family,
) -> impl Iterator<Item = (usize, &'a Task)> {
    let members = family.members.iter().enumerate();
    members.filter_map(|(place, member)| match member.kind {
        Kind::Living(task) => Some((place, &snapshot.tasks[task])),
        _ => None,
    })
}
