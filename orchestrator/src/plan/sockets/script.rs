//! The script: from what each socket is to the steps that make all of them. Pure.
//!
//! The order. A name whose file is gone is taken and lost before another socket takes it for good; so listening sockets that
//! are gone come first, serve the connections that they had accepted, and go again. Each connection is accepted before the
//! next is made; those that wait come last. A datagram reaches a socket that is connected to its sender or to nobody, so what
//! waits comes before the connections of datagram sockets, unless it all is from the other end. What a program has forbidden
//! itself comes last.

use super::roles::Sockets;
use super::writer::Writer;
use super::{Address, Made, SocketFiles, Step, Turn};
use crate::plan::Host;
use crate::plan::family::Family;
use crate::plan::program::Builder;
use crate::plan::refusals::Report;
use crate::snapshot::{FileId, Snapshot};
use std::collections::BTreeMap;

/// The steps, and what is known before any program is planned.
#[derive(Debug, Default)]
pub struct Script<'a> {
    /// In order.
    pub turns: Vec<Turn<'a>>,
    /// The sockets that it makes.
    pub made: Made,
    /// Number of descriptors that it needs.
    pub numbers: i32,
    /// Files of names.
    pub files: SocketFiles,
    /// First member that has each file.
    pub holders: BTreeMap<FileId, usize>,
    /// The member that sends what is in flight, and has what nobody else has.
    pub filler: usize,
}

impl<'a> Script<'a> {
    /// Returns the script for a snapshot.
    pub fn of(
        snapshot: &'a Snapshot,
        family: &'a Family,
        host: &Host,
        report: &mut Report,
    ) -> Self {
        let sockets = Sockets::of(snapshot, family);
        let script = Script {
            filler: sockets.filler(),
            holders: sockets.holders.clone(),
            ..Script::default()
        };
        let mut writer = Writer::new(script, &sockets, family, &host.hidden);
        let [_, uid, ..] = host.creds.uids;
        let [_, gid, ..] = host.creds.gids;
        writer.assign((uid, gid), report);
        writer.write();
        writer.script
    }

    /// Returns process and number of each socket that it makes.
    pub fn where_made(&self, family: &Family) -> BTreeMap<FileId, (i32, i32)> {
        let made = self.made.iter();
        made.map(|(id, (member, fd))| (*id, (family.members[*member].pid, *fd)))
            .collect()
    }

    /// Moves all numbers to where they are to be, and has the actors wait for each other.
    pub fn place(&mut self, first: i32, b: &mut Builder) {
        for turn in &mut self.turns {
            turn.step.shift(first);
        }
        for (_, fd) in self.made.values_mut() {
            *fd += first;
        }
        for at in 1..self.turns.len() {
            let [before, after] = [&self.turns[at - 1], &self.turns[at]];
            if before.phase == after.phase && before.actor != after.actor {
                let word = b.put_words(&[0]);
                self.turns[at - 1].after = Some(word);
                self.turns[at].before = Some(word);
            }
        }
    }
}

impl Step<'_> {
    fn shift(&mut self, by: i32) {
        match self {
            Self::Socket { fd, .. }
            | Self::Buffers { fd, .. }
            | Self::Bind { fd, .. }
            | Self::Listen { fd, .. }
            | Self::Unread { fd }
            | Self::Shutdown { fd, .. }
            | Self::Settle { fd, .. }
            | Self::Close { fd } => *fd += by,
            Self::Pair { fds, .. } => fds.iter_mut().for_each(|fd| *fd += by),
            Self::Node { of, fd } => {
                *of += by;
                *fd += by;
            }
            Self::Accept { from, fd } => {
                *from += by;
                *fd += by;
            }
            Self::Connect { fd, to, .. } => {
                *fd += by;
                to.shift(by);
            }
            Self::Send { from, to, .. } => {
                from.1 += by;
                if let Some(to) = to {
                    to.shift(by);
                }
            }
            Self::Owner { .. } => {}
        }
    }
}

impl Address {
    fn shift(&mut self, by: i32) {
        if let Self::Node { fd, .. } = self {
            *fd += by;
        }
    }
}
