//! Unix sockets: each by itself, then which is connected to which.

use super::{FileTable, Refused};
use crate::error::Refusal;
use crate::netlink::unix_diag;
use crate::objects::unix::collect;
use crate::snapshot::*;
use crate::support::{Loss, Lost};
use crate::sys::{Pid, RemoteFd, socket};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

/// A socket that was found.
#[derive(Debug)]
pub(super) struct FoundSocket {
    /// A process that has it, and its number there.
    named_by: (Pid, RemoteFd),
    id: FileId,
    ino: u32,
    /// Process, user and group that are told as those of its other end.
    peer_credentials: [u32; 3],
}

impl FileTable {
    /// Returns a Unix socket, or why it is not kept.
    pub(super) fn socket(
        &mut self,
        own: &OwnedFd,
        ino: u64,
        named_by: (Pid, RemoteFd),
    ) -> Result<FileKind, Refused> {
        // As the kernel tells it by netlink too: inodes of sockets have 32 bits.
        let ino = ino as u32;
        let fact = collect::collect(own, ino).map_err(|reason| (reason, String::new()))?;
        self.sockets.push(FoundSocket {
            named_by,
            id: self.next_id(),
            ino,
            peer_credentials: socket::peer_credentials(own).unwrap_or_default(),
        });
        Ok(FileKind::Unix(fact))
    }

    /// Finds what each socket is connected to, and refuses those that are connected to nobody inside.
    pub(super) fn connect_sockets(&mut self, refusals: &mut Vec<Refusal>) {
        if self.sockets.is_empty() {
            return;
        }
        let told = unix_diag::read();
        let inside: BTreeMap<u32, FileId> = self.sockets.iter().map(|s| (s.ino, s.id)).collect();
        let holders: BTreeSet<u32> = self.entries.iter().map(|(pid, _)| pid.0 as u32).collect();
        for found in std::mem::take(&mut self.sockets) {
            let [pid, uid, gid] = found.peer_credentials;
            if (uid, gid) != (0, 0) || !holders.contains(&pid) {
                let what = format!(
                    "socket:[{}], process {pid}, user {uid}, group {gid}",
                    found.ino
                );
                self.losses.push(Loss::with(Lost::PeerCredentials, what));
            }
            let told = match &told {
                Ok(told) => told.get(&found.ino).copied().unwrap_or_default(),
                Err(error) => {
                    let reason =
                        format!("the kernel does not tell what it is connected to: {error}");
                    refusals.push(refusal(&found, reason));
                    continue;
                }
            };
            if !inside.contains_key(&told.peer) || told.peer == found.ino {
                let reason = match told.peer {
                    0 => {
                        "it is connected to nothing, or its other end is closed, which is not kept yet"
                    }
                    _ => "its other end is outside of what is dumped, or cannot be kept",
                };
                refusals.push(refusal(&found, reason.into()));
                continue;
            }
            let file = self.files.iter_mut().find(|file| file.id == found.id);
            if let Some(FileKind::Unix(socket)) = file.map(|file| &mut file.kind) {
                (socket.peer, socket.shutdown) = (told.peer, told.shutdown);
            }
        }
    }
}

fn refusal(found: &FoundSocket, reason: String) -> Refusal {
    let (pid, fd) = found.named_by;
    Refusal {
        task: pid.0,
        object: format!("descriptor {fd} (socket:[{}])", found.ino),
        reason,
        remedy: String::new(),
    }
}
