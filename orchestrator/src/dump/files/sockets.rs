//! Unix sockets: each by itself, then what waits in it, then which is connected to which.
//!
//! What comes with messages as descriptors may be in no table of any process: it is asked through duplicates of ours, which
//! are held until the dump has let go of the tree, and may be sockets in which others wait.

use super::fetch::{Fetched, fetch};
use super::{FileTable, Refused};
use crate::dump::connections::Found;
use crate::error::Refusal;
use crate::netlink::unix_diag::{self, Told};
use crate::objects::inet::collect as inet;
use crate::objects::sockopt;
use crate::objects::unix::{collect, hidden, queue};
use crate::snapshot::*;
use crate::support::{Loss, Lost};
use crate::sys::{Pid, RemoteFd, fd as kernel, socket};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// What is known of sockets until all is.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    found: Vec<FoundSocket>,
    /// All of the network namespace, by inode; asked for once there is one.
    told: Option<Result<BTreeMap<u32, Told>, String>>,
    /// What is asked once for all sockets of the network.
    inet: inet::Asked,
    /// The same of those of netlink and of packets.
    pub(super) others: super::other_sockets::Asked,
    /// Connections of TCP.
    connections: Vec<Found>,
    /// Duplicates of descriptors in flight.
    in_flight: Vec<OwnedFd>,
}

/// A socket that was found.
#[derive(Debug, Clone)]
struct FoundSocket {
    /// A process that has it, and its number there.
    named_by: (Pid, RemoteFd),
    id: FileId,
    ino: u32,
    has_messages: bool,
    /// Descriptors that wait in it, as `fdinfo` counts them.
    in_flight: u32,
}

/// What the user allows of connections that leave the tree.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    /// All of them.
    pub all: bool,
    /// Those of these inodes.
    pub inodes: Vec<u32>,
    /// Sockets of these inodes, or what they are connected to, may be given by whoever restores.
    pub given: Vec<u32>,
    /// Connections that wait to be accepted are left out.
    pub skip_pending: bool,
}

impl Outside {
    fn allows(&self, one: u32, other: u32) -> bool {
        self.all
            || self.inodes.contains(&one)
            || self.inodes.contains(&other)
            || self.gives(one, other)
    }

    fn gives(&self, one: u32, other: u32) -> bool {
        self.given.contains(&one) || self.given.contains(&other)
    }
}

const ALLOW: &str = "use --ext-unix-sk, or --external unix[INODE]";

impl FileTable {
    /// Returns a Unix socket, or why it is not kept.
    pub(super) fn socket(&mut self, pid: Pid, seen: &mut Fetched) -> Result<FileKind, Refused> {
        let refused = |reason: String| (reason, String::new());
        let own = &seen.own;
        let Some(asked) = seen.socket.take() else {
            let domain = socket::option(own, libc::SO_DOMAIN)
                .map_err(|error| refused(format!("it cannot be asked: {error}")))?;
            let ino = seen.stat.ino as u32;
            return match domain {
                libc::AF_INET | libc::AF_INET6 => self.inet_socket(own, ino, (pid, seen.fd)),
                libc::AF_NETLINK => self.netlink_socket(own, ino).map_err(refused),
                libc::AF_PACKET => self.packet_socket(own, ino).map_err(refused),
                libc::AF_VSOCK => Err(refused("a socket of AF_VSOCK is not kept".into())),
                other => {
                    let reason = format!("a socket of address family {other} is not kept yet");
                    Err(refused(reason))
                }
            };
        };
        // As the kernel tells it by netlink too: inodes of sockets have 32 bits.
        let ino = seen.stat.ino as u32;
        let told = self.told(ino).map_err(refused)?;
        let cwd = || {
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
            cwd.map(|cwd| cwd.into_os_string().into_vec())
                .unwrap_or_default()
        };
        let collected = asked.and_then(|asked| collect::collect(own, asked, (ino, &told), cwd));
        let collected = collected.map_err(refused)?;
        self.sockets.found.push(FoundSocket {
            named_by: (pid, seen.fd),
            id: self.next_id(),
            ino,
            has_messages: collected.has_messages,
            in_flight: seen.info.in_flight,
        });
        Ok(FileKind::Unix(collected.fact))
    }

    /// Returns a socket of the network, or why it is not kept.
    fn inet_socket(
        &mut self,
        own: &OwnedFd,
        ino: u32,
        named_by: (Pid, RemoteFd),
    ) -> Result<FileKind, Refused> {
        let choices = inet::Choices {
            skip_pending: self.choices.outside.skip_pending,
            ..self.choices.connections
        };
        let collected = inet::collect(own, ino, &mut self.sockets.inet, choices);
        let collected = collected.map_err(|(reason, remedy)| (reason, remedy.into()))?;
        let mut lose = |what, why: &str| {
            let loss = Loss::with(what, format!("in {}{why}", collected.fact.words()));
            self.losses.push(loss);
        };
        if let Some(reason) = &collected.lost_datagrams {
            lose(Lost::Datagrams, &format!(": {reason}"));
        }
        if !collected.fact.datagrams.is_empty() && sockopt::tells_times(&collected.fact.options) {
            lose(Lost::MessageTimes, "");
        }
        if collected.has_error {
            lose(Lost::SocketError, "");
        }
        if let Some(state) = collected.fact.connection() {
            self.sockets.connections.push(Found {
                id: self.next_id(),
                named_by,
                state,
            });
        }
        Ok(FileKind::Inet(collected.fact))
    }

    /// Returns the connections of TCP that were found.
    pub(in crate::dump) fn connections(&self) -> &[Found] {
        &self.sockets.connections
    }

    fn told(&mut self, ino: u32) -> Result<Told, String> {
        let told = self
            .sockets
            .told
            .get_or_insert_with(|| unix_diag::read().map_err(|error| error.to_string()));
        match told {
            Ok(told) => told
                .get(&ino)
                .cloned()
                .ok_or_else(|| "it is of another network namespace, which is not kept yet".into()),
            Err(error) => Err(format!("the kernel does not tell of Unix sockets: {error}")),
        }
    }

    /// Reads what waits in sockets, also in those that are found by that.
    pub(super) fn read_sockets(&mut self, refusals: &mut Vec<Refusal>) {
        let mut next = 0;
        while let Some(found) = self.sockets.found.get(next).cloned() {
            next += 1;
            if !found.has_messages {
                continue;
            }
            match self.read_socket(&found) {
                Ok(queue) => {
                    let Some(fact) = self.unix_mut(found.id) else {
                        continue;
                    };
                    let is_stamped = sockopt::tells_times(&fact.options) && !queue.is_empty();
                    fact.queue = queue;
                    if is_stamped {
                        let what = format!("socket:[{}]", found.ino);
                        self.losses.push(Loss::with(Lost::MessageTimes, what));
                    }
                }
                Err(reason) => refusals.push(refusal(&found, reason, "")),
            }
        }
    }

    fn read_socket(&mut self, found: &FoundSocket) -> Result<Vec<UnixMessage>, String> {
        let lost = |error: crate::sys::Error| format!("it cannot be asked: {error}");
        let kind = self.unix_mut(found.id).map_or(0, |fact| fact.kind);
        let (pid, fd) = found.named_by;
        let pidfd = kernel::pidfd_open(pid).map_err(lost)?;
        let own = kernel::pidfd_getfd(&pidfd, fd).map_err(lost)?;
        let waiting = queue::read(&own, kind)?;
        let seen: usize = waiting.iter().map(|message| message.rights.len()).sum();
        if seen != found.in_flight as usize {
            let reason = format!(
                "{} descriptors wait in it, and {seen} are shown",
                found.in_flight
            );
            return Err(reason);
        }
        let mut messages = Vec::with_capacity(waiting.len());
        for message in waiting {
            let files = message.rights.into_iter().map(|own| self.right(own));
            messages.push(UnixMessage {
                files: files.collect::<Result<_, _>>()?,
                data: message.data,
                // All that is connected hears one other only.
                sender: match kind {
                    libc::SOCK_DGRAM => terminated_name(message.sender),
                    _ => Vec::new(),
                },
                credentials: message.credentials,
            });
        }
        Ok(messages)
    }

    /// Returns what a descriptor in flight refers to.
    fn right(&mut self, own: OwnedFd) -> Result<FileId, String> {
        let this = Pid::this();
        let fd = RemoteFd(own.as_raw_fd());
        let asked = kernel::pidfd_open(this)
            .map_err(crate::dump::Error::Own)
            .and_then(|pidfd| fetch(this, &pidfd, fd, &mut Vec::new()));
        let asked = asked
            .map_err(|error| format!("a descriptor that waits in it cannot be asked: {error}"))?;
        let known = self.files.len();
        let has_locks = !asked.info.locks.is_empty();
        let id = self
            .description(this, asked)
            .map_err(|(object, reason, _)| {
                format!("a descriptor waits in it that is not kept ({object}): {reason}")
            })?;
        if self.files.len() > known {
            let kind = &self.files[known].kind;
            if has_locks || matches!(kind, FileKind::Terminal(_) | FileKind::PidFd(_)) {
                return Err(
                    "a terminal, a locked file or a pidfd waits in it, which is not kept yet"
                        .into(),
                );
            }
            self.entries.push((
                this,
                FdEntry {
                    fd: fd.0,
                    cloexec: true,
                    file: id,
                },
            ));
            self.sockets.in_flight.push(own);
        }
        Ok(id)
    }

    fn unix_mut(&mut self, id: FileId) -> Option<&mut UnixSocket> {
        let place = self.files.binary_search_by_key(&id, |file| file.id).ok()?;
        match &mut self.files[place].kind {
            FileKind::Unix(fact) => Some(fact),
            _ => None,
        }
    }

    /// Finds what each socket is connected to, and refuses what is connected to nobody inside.
    pub(super) fn connect_sockets(&mut self, refusals: &mut Vec<Refusal>) {
        let Some(Ok(told)) = self.sockets.told.take() else {
            return;
        };
        let found = std::mem::take(&mut self.sockets.found);
        let around = Around {
            inside: found.iter().map(|found| found.ino).collect(),
            waits_at: told
                .iter()
                .flat_map(|(ino, told)| told.pending.iter().map(|client| (*client, *ino)))
                .filter(|(client, _)| *client != 0)
                .collect(),
            senders: senders(&found, &told),
            told,
        };
        for one in &found {
            if let Err((reason, remedy)) = self.connect(one, &around) {
                refusals.push(refusal(one, reason, &remedy));
            }
            if let Err(reason) = self.look_for_hidden(one, &around) {
                refusals.push(refusal(one, reason, ""));
            }
        }
        self.tell_lost_credentials(&found);
    }

    fn connect(&mut self, one: &FoundSocket, around: &Around) -> Result<(), Refused> {
        let told = &around.told[&one.ino];
        let Some(fact) = self.unix_mut(one.id) else {
            return Ok(());
        };
        if matches!(fact.state, UnixState::Listening(_)) {
            return self.look_at_pending(told, around);
        }
        let is_datagram = fact.kind == libc::SOCK_DGRAM;
        let peer = match (told.peer, around.waits_at.get(&one.ino)) {
            (None, _) => return Ok(()),
            (Some(0), Some(&listener)) => {
                if socket::unread_by_others(asked_again(one)?).is_ok_and(|bytes| bytes != 0) {
                    let reason = "it has sent what the other side gets to read when it accepts the connection, and nobody before";
                    return Err((reason.into(), String::new()));
                }
                listener
            }
            (Some(0), None) if is_datagram => {
                let name = socket::peer_name(asked_again(one)?).unwrap_or_default();
                fact.lost_peer = Some(terminated_name(name));
                return Ok(());
            }
            (Some(0), None) => return Ok(()),
            (Some(peer), _) => peer,
        };
        if around.inside.contains(&peer) {
            fact.peer = peer;
            return Ok(());
        }
        self.connect_outside(one, peer)
    }

    /// Refuses a queue whose senders are charged for more than it shows.
    fn look_for_hidden(&mut self, one: &FoundSocket, around: &Around) -> Result<(), String> {
        let is_empty = |fact: &UnixSocket| fact.kind == libc::SOCK_STREAM || fact.queue.is_empty();
        if self.unix_mut(one.id).is_none_or(|fact| is_empty(fact)) {
            return Ok(());
        }
        let (mut names, mut charged) = (Vec::new(), 0);
        for sender in around.senders.get(&one.ino).into_iter().flatten() {
            let own = again(sender).and_then(socket::unread_by_others);
            charged += own.map_err(|error| format!("its sender cannot be asked: {error}"))?;
            let name = self.unix_mut(sender.id).and_then(|fact| fact.name.clone());
            names.extend(name.map(|name| name.bytes));
        }
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let queue = self.unix_mut(one.id).map(|fact| &fact.queue[..]);
        match hidden::find(queue.unwrap_or_default(), &names, charged) {
            hidden::Hidden::Nothing => Ok(()),
            hidden::Hidden::Something => Err(
                "its senders have sent more than it shows: an empty message waits in it that somebody has looked at before"
                    .into(),
            ),
            hidden::Hidden::Unknown => {
                let what = format!("in socket:[{}]", one.ino);
                self.losses.push(Loss::with(Lost::HiddenMessages, what));
                Ok(())
            }
        }
    }

    /// A connection that nobody has accepted is known by those who wait.
    fn look_at_pending(&self, told: &Told, around: &Around) -> Result<(), Refused> {
        if self.choices.outside.skip_pending {
            return Ok(());
        }
        let remedy = "use --skip-in-flight to leave connections out that wait to be accepted";
        if told.pending.contains(&0) {
            let reason = "a connection waits to be accepted whose other end is closed: what it has sent cannot be read";
            return Err((reason.into(), remedy.into()));
        }
        match told.pending.iter().find(|ino| !around.inside.contains(ino)) {
            Some(ino) => {
                let reason = format!(
                    "a connection of socket {ino}, which is outside of what is dumped, waits to be accepted"
                );
                Err((reason, remedy.into()))
            }
            None => Ok(()),
        }
    }

    /// Keeps what is outside by its name, so that a restore connects to it again.
    fn connect_outside(&mut self, one: &FoundSocket, peer: u32) -> Result<(), Refused> {
        if !self.choices.outside.allows(one.ino, peer) {
            let reason = "its other end is outside of what is dumped, or cannot be kept";
            return Err((reason.into(), ALLOW.into()));
        }
        let own = asked_again(one)?;
        let name = terminated_name(socket::peer_name(own).unwrap_or_default());
        let is_given = self.choices.outside.gives(one.ino, peer);
        let Some(fact) = self.unix_mut(one.id) else {
            return Ok(());
        };
        let is_stream = fact.kind != libc::SOCK_DGRAM;
        let reason = match name.first() {
            None if !is_given => {
                "its other end is outside of what is dumped and has no name to connect to again; --external unix[INODE] of it lets a restore be given another"
            }
            Some(byte) if !b"\0/".contains(byte) => {
                "its other end is outside of what is dumped, and its name counts from a folder that is not known"
            }
            _ if is_stream && !fact.queue.is_empty() => {
                "what waits in it comes from outside of what is dumped, and would be lost"
            }
            _ => "",
        };
        if !reason.is_empty() {
            return Err((reason.into(), String::new()));
        }
        fact.peer = peer;
        let outside = UnixSocket {
            ino: peer,
            kind: fact.kind,
            state: match is_stream {
                true => UnixState::Listening(0),
                false => UnixState::Closed,
            },
            name: (!name.is_empty()).then(|| UnixName {
                bytes: name,
                ..UnixName::default()
            }),
            is_outside: true,
            ..UnixSocket::default()
        };
        let is_known = self.files.iter().any(
            |file| matches!(&file.kind, FileKind::Unix(known) if known.is_outside && known.ino == peer),
        );
        if !is_known {
            let flags = libc::O_RDWR as u32;
            self.add(flags, Owner::default(), FileKind::Unix(outside));
        }
        Ok(())
    }

    /// Names sockets whose other end tells of a process that has ended, or is outside.
    fn tell_lost_credentials(&mut self, found: &[FoundSocket]) {
        let holders: BTreeSet<u32> = self.entries.iter().map(|(pid, _)| pid.0 as u32).collect();
        for one in found {
            let credentials = self.unix_mut(one.id).and_then(|fact| fact.peer_credentials);
            if let Some([pid, uid, gid]) = credentials.filter(|told| !holders.contains(&told[0])) {
                let what = format!(
                    "socket:[{}], process {pid}, user {uid}, group {gid}",
                    one.ino
                );
                self.losses.push(Loss::with(Lost::PeerCredentials, what));
            }
        }
    }
}

/// What the sockets of the tree are among.
struct Around {
    told: BTreeMap<u32, Told>,
    inside: BTreeSet<u32>,
    /// Listening socket at which a connected one waits.
    waits_at: BTreeMap<u32, u32>,
    /// Those that are connected to each.
    senders: BTreeMap<u32, Vec<FoundSocket>>,
}

fn senders(found: &[FoundSocket], told: &BTreeMap<u32, Told>) -> BTreeMap<u32, Vec<FoundSocket>> {
    let mut senders: BTreeMap<u32, Vec<FoundSocket>> = BTreeMap::new();
    for one in found {
        if let Some(peer) = told[&one.ino].peer {
            senders.entry(peer).or_default().push(one.clone());
        }
    }
    senders
}

fn again(found: &FoundSocket) -> Result<OwnedFd, crate::sys::Error> {
    let (pid, fd) = found.named_by;
    kernel::pidfd_getfd(kernel::pidfd_open(pid)?.as_fd(), fd)
}

fn asked_again(found: &FoundSocket) -> Result<OwnedFd, Refused> {
    again(found).map_err(|error| {
        let reason = format!("it cannot be asked any more: {error}");
        (reason, String::new())
    })
}

/// Returns a name without the zero at the end of a path.
fn terminated_name(mut name: Vec<u8>) -> Vec<u8> {
    if name.first().is_some_and(|byte| *byte != 0) && name.last() == Some(&0) {
        name.pop();
    }
    name
}

fn refusal(found: &FoundSocket, reason: String, remedy: &str) -> Refusal {
    let (pid, fd) = found.named_by;
    Refusal {
        task: pid.0,
        object: format!("descriptor {fd} (socket:[{}])", found.ino),
        reason,
        remedy: remedy.into(),
    }
}
