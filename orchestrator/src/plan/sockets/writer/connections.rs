//! Sockets that are connected as they are made: those that were accepted, with who had connected; pairs; and what is left of
//! them when the other end is closed.

use super::{
    Address, Identity, Place, ROOM, Step, UnixName, UnixSocket, Writer, identity, shown, words,
};

impl<'a> Writer<'a, '_> {
    /// Adds what a socket that is gone had accepted: it comes back for that moment.
    pub(super) fn accept_from_gone(&mut self, socket: &'a UnixSocket, client: u32) {
        let Some(name) = &socket.name else {
            return;
        };
        let (actor, fd) = self.fds[&socket.ino];
        let key = (socket.kind, name.bytes.clone(), name.is_deleted);
        let object = words(socket);
        let known = self
            .gone
            .get(&key)
            .filter(|((maker, _), _)| *maker == actor);
        let (listener, node) = match known {
            Some(known) => *known,
            None if self.gone.contains_key(&key) => {
                // Another member's: nobody sees who has accepted.
                let known = self.gone[&key];
                self.fds.insert(socket.ino, (known.0.0, fd));
                let id = self.sockets.all[&socket.ino].0.id;
                self.script.made.insert(id, (known.0.0, fd));
                known
            }
            None => {
                let listener = self.number(actor);
                self.make(
                    actor,
                    Step::Socket {
                        fd: listener.1,
                        kind: socket.kind,
                    },
                    &object,
                );
                let node = self.bind(actor, listener.1, name, &object);
                let identity = identity(self.sockets.get(client));
                let step = Step::Listen {
                    fd: listener.1,
                    backlog: ROOM,
                    identity,
                };
                self.make(actor, step, &object);
                self.gone.insert(key, (listener, node));
                (listener, node)
            }
        };
        let to = self.address(node, name);
        self.connect_and_accept(socket, client, (listener, to));
    }

    pub(super) fn address(&self, node: Option<Place>, name: &UnixName) -> Address {
        match node {
            Some((member, fd)) => Address::Node {
                pid: self.family.members[member].pid,
                fd,
            },
            None => Address::Name(name.bytes.clone()),
        }
    }

    pub(super) fn close_gone(&mut self) {
        for ((_, name, _), (listener, node)) in std::mem::take(&mut self.gone) {
            let object = format!("Unix socket {}", shown(&name));
            self.make(listener.0, Step::Close { fd: listener.1 }, &object);
            if let Some((member, fd)) = node {
                self.make(member, Step::Close { fd }, &object);
            }
        }
    }

    pub(super) fn accept_from(&mut self, socket: &'a UnixSocket, listener: u32, client: u32) {
        let Some(name) = self.sockets.get(listener).and_then(|l| l.name.as_ref()) else {
            return;
        };
        let to = self.address(self.nodes.get(&listener).copied(), name);
        self.connect_and_accept(socket, client, (self.fds[&listener], to));
    }

    /// Adds a connection and its acceptance; the client is one that is closed, or another socket of the script.
    fn connect_and_accept(
        &mut self,
        socket: &'a UnixSocket,
        client: u32,
        (listener, to): (Place, Address),
    ) {
        let object = words(socket);
        let (_, fd) = self.fds[&socket.ino];
        // The accepted one tells of who connects.
        let of_client = identity(Some(socket));
        match self.sockets.get(client) {
            Some(client) => {
                self.make_client(client);
                let (actor, fd) = self.fds[&client.ino];
                let identity = of_client;
                self.make(actor, Step::Connect { fd, to, identity }, &words(client));
            }
            None => {
                let actor = self.sockets.actor(Some(socket)).unwrap_or(listener.0);
                let (_, closed) = self.number(actor);
                self.make(
                    actor,
                    Step::Socket {
                        fd: closed,
                        kind: socket.kind,
                    },
                    &object,
                );
                let step = Step::Connect {
                    fd: closed,
                    to,
                    identity: of_client,
                };
                self.make(actor, step, &object);
                self.leave(socket, (actor, closed));
            }
        }
        self.make(
            listener.0,
            Step::Accept {
                from: listener.1,
                fd,
            },
            &object,
        );
        self.make(listener.0, Step::Buffers { fd, of: socket }, &object);
    }

    pub(super) fn make_client(&mut self, client: &'a UnixSocket) {
        let (actor, fd) = self.fds[&client.ino];
        let object = words(client);
        self.make(
            actor,
            Step::Socket {
                fd,
                kind: client.kind,
            },
            &object,
        );
        self.make(actor, Step::Buffers { fd, of: client }, &object);
        self.name(client);
    }

    pub(super) fn connect_to(&mut self, client: &'a UnixSocket, listener: u32, identity: Identity) {
        let (actor, fd) = self.fds[&client.ino];
        let name = self.sockets.get(listener).and_then(|l| l.name.as_ref());
        if let Some(name) = name {
            let to = self.address(self.nodes.get(&listener).copied(), name);
            self.make(actor, Step::Connect { fd, to, identity }, &words(client));
        }
    }

    pub(super) fn connect_out(&mut self, socket: &'a UnixSocket, outside: u32) {
        self.make_client(socket);
        let (actor, fd) = self.fds[&socket.ino];
        if let Some(name) = self.sockets.get(outside).and_then(|o| o.name.as_ref()) {
            let to = Address::Name(name.bytes.clone());
            let identity = None;
            self.make(actor, Step::Connect { fd, to, identity }, &words(socket));
        }
    }

    pub(super) fn make_pair(&mut self, socket: &'a UnixSocket, peer: u32) {
        let Some(peer) = self.sockets.get(peer) else {
            return;
        };
        let ((actor, one), (_, other)) = (self.fds[&socket.ino], self.fds[&peer.ino]);
        let object = words(socket);
        let identity = identity(Some(socket)).or(identity(Some(peer)));
        let step = Step::Pair {
            fds: [one, other],
            kind: socket.kind,
            identity,
        };
        self.make(actor, step, &object);
        for (end, fd) in [(socket, one), (peer, other)] {
            self.make(actor, Step::Buffers { fd, of: end }, &object);
        }
        self.send_before_names([socket, peer], actor);
        for end in [socket, peer] {
            self.name(end);
            self.connected.insert(end.ino);
        }
    }

    /// Adds a socket whose other end is closed, and has sent what waits in it.
    pub(super) fn make_widow(&mut self, socket: &'a UnixSocket) {
        let (actor, fd) = self.fds[&socket.ino];
        let object = words(socket);
        let (_, closed) = self.number(actor);
        let identity = identity(Some(socket));
        let step = Step::Pair {
            fds: [fd, closed],
            kind: socket.kind,
            identity,
        };
        self.make(actor, step, &object);
        self.make(actor, Step::Buffers { fd, of: socket }, &object);
        self.name(socket);
        self.connected.insert(socket.ino);
        self.leave(socket, (actor, closed));
    }

    /// Has the other end of a socket close when all is sent.
    fn leave(&mut self, socket: &'a UnixSocket, (actor, closed): Place) {
        let object = words(socket);
        self.closed.insert(socket.ino, (actor, closed));
        if socket.is_reset {
            let (own, fd) = self.fds[&socket.ino];
            self.last_words
                .push((own, Step::Unread { fd }, object.clone()));
        }
        self.last_words
            .push((actor, Step::Close { fd: closed }, object));
    }
}
