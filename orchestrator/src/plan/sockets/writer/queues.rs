//! The end of the script: what waits in sockets, connections of datagram sockets, and what comes last.

use super::{
    Address, At, Identity, Phase, Place, Role, Step, UnixMessage, UnixSocket, Writer, words,
};

impl<'a> Writer<'a, '_> {
    pub(super) fn fill_queues(&mut self, all: &[(&'a UnixSocket, Role)]) {
        let datagrams = || {
            let all = all.iter().map(|(socket, _)| *socket);
            all.filter(|socket| socket.kind == libc::SOCK_DGRAM && !socket.is_outside)
        };
        // Two that are connected to each other may hold more than others may send.
        for socket in datagrams() {
            if self.hears_only_its_peer(socket) {
                self.connect_datagrams(socket, Phase::Make);
            }
        }
        for (socket, _) in all {
            let sent = self.sent.get(&socket.ino).copied().unwrap_or(0);
            for (number, message) in socket.queue.iter().enumerate().skip(sent) {
                self.send(socket, message, number);
            }
        }
        for (actor, step, object) in std::mem::take(&mut self.last_words) {
            self.fill(actor, step, &object);
        }
        // Whoever is connected to another was so before that was connected elsewhere.
        let mut left: Vec<&UnixSocket> = datagrams()
            .filter(|socket| !self.connected.contains(&socket.ino))
            .collect();
        while let Some(next) = left.iter().position(|socket| {
            let others = || left.iter().filter(|other| other.peer == socket.ino);
            others().all(|other| other.ino == socket.ino || other.ino == socket.peer)
        }) {
            let socket = left.remove(next);
            self.connect_datagrams(socket, Phase::Fill);
        }
        // In a circle: the kernel will refuse one of them by name.
        for socket in left {
            self.connect_datagrams(socket, Phase::Fill);
        }
    }

    /// Adds what an end of a pair has sent before it had the name that it has now.
    pub(super) fn send_before_names(&mut self, ends: [&'a UnixSocket; 2], actor: usize) {
        for [socket, peer] in [ends, [ends[1], ends[0]]] {
            if socket.kind != libc::SOCK_DGRAM || peer.name.is_none() {
                continue;
            }
            let from = self.fds[&peer.ino];
            let nameless = socket.queue.iter();
            let nameless = nameless.take_while(|m| m.sender.is_empty() && m.files.is_empty());
            for message in nameless {
                let step = Step::Send {
                    from,
                    to: None,
                    message,
                };
                self.push(Phase::Make, actor, step, &words(socket));
                *self.sent.entry(socket.ino).or_default() += 1;
            }
        }
    }

    fn hears_only_its_peer(&self, socket: &UnixSocket) -> bool {
        let Some(peer) = self.sockets.get(socket.peer) else {
            return false;
        };
        let name = peer.name.as_ref().map_or(&[][..], |name| &name.bytes);
        let is_mutual = peer.peer == socket.ino && peer.ino != socket.ino;
        let hears = |ends: [&UnixSocket; 2]| {
            let name = ends[1].name.as_ref().map_or(&[][..], |name| &name.bytes);
            ends[0].queue.iter().all(|message| message.sender == name)
        };
        !name.is_empty() && is_mutual && hears([socket, peer]) && hears([peer, socket])
    }

    fn connect_datagrams(&mut self, socket: &'a UnixSocket, phase: Phase) {
        if !self.connected.insert(socket.ino) {
            return;
        }
        let (actor, fd) = self.fds[&socket.ino];
        let object = words(socket);
        let identity: Identity = None;
        if let Some(lost) = socket.lost_peer.as_ref().filter(|name| !name.is_empty()) {
            return self.connect_to_lost(socket, lost);
        }
        let Some(peer) = self.sockets.get(socket.peer) else {
            return;
        };
        let Some(name) = &peer.name else {
            return;
        };
        let to = self.address(self.nodes.get(&peer.ino).copied(), name);
        self.push(phase, actor, Step::Connect { fd, to, identity }, &object);
    }

    /// Adds a connection to what is closed: it comes back for that moment.
    fn connect_to_lost(&mut self, socket: &'a UnixSocket, lost: &[u8]) {
        let (actor, fd) = self.fds[&socket.ino];
        let object = words(socket);
        let (place, to) = self.stand_in(actor, socket.kind, lost, &object);
        let identity: Identity = None;
        self.fill(actor, Step::Connect { fd, to, identity }, &object);
        self.fill(actor, Step::Close { fd: place.1 }, &object);
    }

    /// Adds a socket of this name for as long as one is needed.
    fn stand_in(&mut self, actor: usize, kind: i32, name: &[u8], object: &str) -> (Place, Address) {
        let (_, fd) = self.number(actor);
        self.fill(actor, Step::Socket { fd, kind }, object);
        if name.is_empty() {
            return ((actor, fd), Address::Name(Vec::new()));
        }
        let is_path = name[0] != 0;
        let at = match is_path {
            true => self.hide(name),
            false => At::Nowhere,
        };
        let name = name.to_vec();
        self.fill(
            actor,
            Step::Bind {
                fd,
                name: name.clone(),
                at,
            },
            object,
        );
        let to = match is_path {
            true => {
                let (_, node) = self.number(actor);
                self.fill(actor, Step::Node { of: fd, fd: node }, object);
                let pid = self.family.members[actor].pid;
                self.last_words
                    .push((actor, Step::Close { fd: node }, object.into()));
                Address::Node { pid, fd: node }
            }
            false => Address::Name(name),
        };
        ((actor, fd), to)
    }

    /// Adds a message that waits in a socket.
    fn send(&mut self, socket: &'a UnixSocket, message: &'a UnixMessage, number: usize) {
        let object = format!("{}: message {number}", words(socket));
        let Some((from, to)) = self.sender(socket, message, &object) else {
            return;
        };
        // Whoever has what comes with it: all of a queue, so that its order is kept.
        let has_files = socket.queue.iter().any(|message| !message.files.is_empty());
        let actor = if has_files {
            self.script.filler
        } else {
            from.0
        };
        self.fill(actor, Step::Send { from, to, message }, &object);
    }

    /// Returns who sends a message, and where to.
    fn sender(
        &mut self,
        socket: &'a UnixSocket,
        message: &'a UnixMessage,
        object: &str,
    ) -> Option<(Place, Option<Address>)> {
        let closed = self.closed.get(&socket.ino).copied();
        if socket.kind != libc::SOCK_DGRAM {
            let peer = self.fds.get(&socket.peer).copied();
            return Some((closed.or(peer)?, None));
        }
        let name_of = |socket: &UnixSocket| {
            let name = socket.name.as_ref();
            name.map_or(Vec::new(), |name| name.bytes.clone())
        };
        let peer = self.sockets.get(socket.peer);
        let peer = peer.filter(|peer| self.connected.contains(&socket.ino) && !peer.is_outside);
        if let Some(peer) = peer.filter(|peer| name_of(peer) == message.sender) {
            return Some((self.fds[&peer.ino], None));
        }
        if let Some(closed) = closed {
            return Some((closed, None));
        }
        let name = socket.name.as_ref()?;
        let to = self.address(self.nodes.get(&socket.ino).copied(), name);
        let mut all = self.sockets.all.values().map(|(_, socket)| *socket);
        let sender = all.find(|other| {
            !message.sender.is_empty()
                && other.kind == socket.kind
                && !other.is_outside
                && name_of(other) == message.sender
        });
        let from = match sender.and_then(|sender| self.fds.get(&sender.ino)) {
            Some(from) => *from,
            None => {
                let actor = self.fds[&socket.ino].0;
                let (place, _) = self.stand_in(actor, socket.kind, &message.sender, object);
                let step = Step::Close { fd: place.1 };
                self.last_words.push((actor, step, object.into()));
                place
            }
        };
        Some((from, Some(to)))
    }

    /// Adds what comes last.
    pub(super) fn settle(&mut self, all: &[(&'a UnixSocket, Role)]) {
        for (actor, step, object) in std::mem::take(&mut self.last_words) {
            self.fill(actor, step, &object);
        }
        for (socket, _) in all.iter().filter(|(socket, _)| !socket.is_outside) {
            let (actor, fd) = self.fds[&socket.ino];
            let object = words(socket);
            let flags = self.sockets.all[&socket.ino].0.flags;
            self.fill(
                actor,
                Step::Settle {
                    fd,
                    of: socket,
                    flags,
                },
                &object,
            );
            let shutdown = socket.shutdown;
            if shutdown != 0 {
                self.fill(actor, Step::Shutdown { fd, shutdown }, &object);
            }
            if let Some(name) = &socket.name
                && !name.is_deleted
                && name.mode.is_some()
                && self.nodes.contains_key(&socket.ino)
            {
                self.fill(actor, Step::Owner { name }, &object);
            }
        }
    }
}
