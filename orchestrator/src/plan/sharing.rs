//! Who makes what several tasks have: the first of them that has it.

use std::collections::BTreeMap;

use super::family::{Family, Kind};
use crate::snapshot::{FileId, FileKind, Snapshot, Task, VmaKind};

/// Makers, by their places in the family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Of each open file description that a descriptor refers to.
    pub files: BTreeMap<FileId, usize>,
    /// Of each memfd's inode.
    pub memfds: BTreeMap<u32, usize>,
    /// Of each segment of shared anonymous memory.
    pub segments: BTreeMap<u64, usize>,
}

impl Sharing {
    /// Returns the makers. All descriptions of a pipe, a named one, a pair of sockets or a memfd are made by one: they lead to the same thing.
    pub fn of(snapshot: &Snapshot, family: &Family) -> Self {
        let mut all = Self::default();
        let [mut pipes, mut fifos, mut pairs]: [BTreeMap<u32, usize>; 3] = Default::default();
        let kinds: BTreeMap<FileId, &FileKind> = snapshot
            .files
            .iter()
            .map(|file| (file.id, &file.kind))
            .collect();
        for (member, task) in living(snapshot, family) {
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
                    _ => member,
                };
                all.files.entry(entry.file).or_insert(maker);
            }
            for vma in task.mm.iter().flat_map(|mm| &mm.vmas) {
                match vma.kind {
                    VmaKind::SharedAnonymous(id) => {
                        all.segments.entry(id).or_insert(member);
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
