//! The writing of the script, in its order.

mod connections;
mod queues;

use super::roles::{Role, Sockets};
use super::script::Script;
use super::{Address, At, Identity, Phase, Step, Turn};
use crate::plan::family::Family;
use crate::plan::refusals::Report;
use crate::snapshot::{UnixMessage, UnixName, UnixSocket, UnixState};
use std::collections::{BTreeMap, BTreeSet};

/// How many connections may wait while those are made that are accepted.
const ROOM: u32 = 4096;

/// A socket of the script: who makes it, and its number there.
type Place = (usize, i32);

/// A listening socket that comes back for a moment, and a descriptor of its file.
type Gone = (Place, Option<Place>);

pub(super) struct Writer<'a, 's> {
    /// What was written so far.
    pub(super) script: Script<'a>,
    sockets: &'s Sockets<'a>,
    family: &'s Family,
    /// Folder for names whose files are gone.
    hidden: &'s [u8],
    roles: BTreeMap<u32, Role>,
    fds: BTreeMap<u32, Place>,
    /// Descriptors of the files of sockets.
    nodes: BTreeMap<u32, Place>,
    /// Listening sockets that are gone, by kind and name: place, and that of a descriptor of its file.
    gone: BTreeMap<(i32, Vec<u8>, bool), Gone>,
    /// Other ends that are closed, by the inode of the socket that is left.
    closed: BTreeMap<u32, Place>,
    /// Messages that were sent before all others.
    sent: BTreeMap<u32, usize>,
    /// Sockets that have served when the queues are full.
    last_words: Vec<(usize, Step<'a>, String)>,
    /// Datagram sockets that are connected.
    connected: BTreeSet<u32>,
}

impl<'a, 's> Writer<'a, 's> {
    /// Returns a writer that has written nothing.
    pub(super) fn new(
        script: Script<'a>,
        sockets: &'s Sockets<'a>,
        family: &'s Family,
        hidden: &'s [u8],
    ) -> Self {
        Self {
            script,
            sockets,
            family,
            hidden,
            roles: BTreeMap::new(),
            fds: BTreeMap::new(),
            nodes: BTreeMap::new(),
            gone: BTreeMap::new(),
            closed: BTreeMap::new(),
            sent: BTreeMap::new(),
            last_words: Vec::new(),
            connected: BTreeSet::new(),
        }
    }

    /// Decides what each socket is, who makes it, and its number.
    pub(super) fn assign(&mut self, own_identity: (u32, u32), report: &mut Report) {
        for (ino, (file, socket)) in &self.sockets.all {
            if self.sockets.is_simple(socket, own_identity) {
                continue;
            }
            match self.sockets.role(socket) {
                Ok(role) => {
                    self.roles.insert(*ino, role);
                }
                Err(reason) => {
                    report.refuse(words(socket), reason, "");
                    continue;
                }
            }
            if !socket.is_outside {
                let maker = self.maker(socket, self.roles[ino]);
                let place = self.number(maker);
                self.fds.insert(*ino, place);
                self.script.made.insert(file.id, place);
            }
        }
    }

    fn maker(&self, socket: &UnixSocket, role: Role) -> usize {
        let all = self.sockets;
        let own = [socket.ino];
        let is_told =
            |other: Option<&UnixSocket>, default: usize| all.actor(other).unwrap_or(default);
        match role {
            Role::Listener => is_told(Some(socket), all.holder(&own)),
            Role::End(peer) => {
                let holder = all.holder(&[socket.ino, peer]);
                is_told(Some(socket), is_told(all.get(peer), holder))
            }
            Role::Widow => is_told(Some(socket), all.holder(&own)),
            Role::Accepted { listener, client } => match listener.and_then(|ino| all.get(ino)) {
                Some(listener) => is_told(Some(listener), all.holder(&[listener.ino])),
                None => is_told(all.get(client), all.holder(&own)),
            },
            Role::Client { accepted } => is_told(all.get(accepted), all.holder(&own)),
            _ => all.holder(&own),
        }
    }

    fn number(&mut self, member: usize) -> Place {
        self.script.numbers += 1;
        (member, self.script.numbers - 1)
    }

    fn push(&mut self, phase: Phase, actor: usize, step: Step<'a>, object: &str) {
        self.script.turns.push(Turn {
            actor,
            phase,
            step,
            object: object.into(),
            before: None,
            after: None,
        });
    }

    fn make(&mut self, actor: usize, step: Step<'a>, object: &str) {
        self.push(Phase::Make, actor, step, object);
    }

    fn fill(&mut self, actor: usize, step: Step<'a>, object: &str) {
        self.push(Phase::Fill, actor, step, object);
    }

    /// Returns the sockets of the script, by inode.
    fn all(&self) -> Vec<(&'a UnixSocket, Role)> {
        let all = self.roles.iter();
        all.filter_map(|(ino, role)| Some((self.sockets.get(*ino)?, *role)))
            .collect()
    }

    /// Adds all steps.
    pub(super) fn write(&mut self) {
        let all = self.all();
        for (socket, role) in &all {
            if let Role::Accepted {
                listener: None,
                client,
            } = role
            {
                self.accept_from_gone(socket, *client);
            }
        }
        self.close_gone();
        for (socket, role) in &all {
            if matches!(role, Role::Listener | Role::Plain) {
                self.make_alone(socket);
            }
        }
        for (socket, role) in &all {
            match *role {
                Role::Accepted {
                    listener: Some(listener),
                    client,
                } => {
                    self.accept_from(socket, listener, client);
                }
                Role::End(peer) if socket.ino < peer => self.make_pair(socket, peer),
                Role::Widow => self.make_widow(socket),
                Role::Leaving { outside } => self.connect_out(socket, outside),
                _ => {}
            }
        }
        for (socket, role) in &all {
            if let Role::Pending { listener } = role {
                self.make_client(socket);
                self.connect_to(socket, *listener, None);
            }
        }
        for (socket, role) in &all {
            if let (Role::Listener, UnixState::Listening(backlog)) = (role, socket.state) {
                let (actor, fd) = self.fds[&socket.ino];
                let identity = identity(Some(socket));
                self.make(
                    actor,
                    Step::Listen {
                        fd,
                        backlog,
                        identity,
                    },
                    &words(socket),
                );
            }
        }
        self.fill_queues(&all);
        self.settle(&all);
    }

    /// Adds a socket with its buffers and its name.
    fn make_alone(&mut self, socket: &'a UnixSocket) {
        let (actor, fd) = self.fds[&socket.ino];
        let object = words(socket);
        self.make(
            actor,
            Step::Socket {
                fd,
                kind: socket.kind,
            },
            &object,
        );
        self.make(actor, Step::Buffers { fd, of: socket }, &object);
        self.name(socket);
        if let Role::Listener = self.roles[&socket.ino] {
            let identity = identity(Some(socket));
            self.make(
                actor,
                Step::Listen {
                    fd,
                    backlog: ROOM,
                    identity,
                },
                &object,
            );
        }
    }

    /// Adds the name of a socket, and a descriptor of its file for those who look for it.
    fn name(&mut self, socket: &'a UnixSocket) {
        let Some(name) = &socket.name else {
            return;
        };
        let (actor, fd) = self.fds[&socket.ino];
        let node = self.bind(actor, fd, name, &words(socket));
        if let Some(node) = node {
            self.nodes.insert(socket.ino, node);
        }
    }

    fn bind(&mut self, actor: usize, fd: i32, name: &'a UnixName, object: &str) -> Option<Place> {
        if !name.is_abstract() && !name.is_deleted {
            self.script.files.bound.push(name.path());
        }
        let at = match name.is_deleted {
            true => self.hide(&name.bytes),
            false if name.folder.is_empty() => At::Nowhere,
            false => At::Folder(name.folder.clone()),
        };
        let bytes = name.bytes.clone();
        self.make(
            actor,
            Step::Bind {
                fd,
                name: bytes,
                at,
            },
            object,
        );
        if name.is_abstract() {
            return None;
        }
        let node = self.number(actor);
        self.make(actor, Step::Node { of: fd, fd: node.1 }, object);
        Some(node)
    }

    /// Returns a folder in which a file of this name is out of everybody's way.
    fn hide(&mut self, name: &[u8]) -> At {
        let hidden = &mut self.script.files.hidden;
        let folder = [self.hidden, format!("/{}", hidden.len()).as_bytes()].concat();
        hidden.push((folder.clone(), name.to_vec()));
        At::Hidden(folder)
    }
}

/// Returns whose user and group a socket tells to its other end.
fn identity(socket: Option<&UnixSocket>) -> Identity {
    let [_, uid, gid] = socket?.peer_credentials?;
    Some((uid, gid))
}

/// Returns the words for a socket.
fn words(socket: &UnixSocket) -> String {
    match &socket.name {
        Some(name) => format!("Unix socket {} ({})", socket.ino, shown(&name.bytes)),
        None => format!("Unix socket {}", socket.ino),
    }
}

fn shown(name: &[u8]) -> String {
    match name.split_first() {
        Some((0, rest)) => format!("@{}", rest.escape_ascii()),
        _ => String::from_utf8_lossy(name).into_owned(),
    }
}
