//! What is kept of a program, and what is not: the table of every attribute that the kernel lets be read or set of a task, a
//! thread, its memory and its descriptors. The dump takes the words for what it does not keep from here; `docs/support.md`
//! and README's table are made from here (`cargo xtask support`).

mod table;

pub use table::ATTRIBUTES;

use std::fmt;

/// What has the attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What the threads of a process share.
    Process,
    /// Each thread.
    Thread,
    /// The address space.
    Memory,
    /// Each memory area.
    Area,
    /// Each descriptor, or the open file description behind it.
    Descriptor,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The restored program has it as it was.
    Kept,
    /// It is not kept, and the dump says so of the program that has it.
    Warned(Lost),
    /// A program that has it is not dumped.
    Refused,
    /// No one is told of it by the kernel, so that nobody can keep it.
    Untold,
}

/// One attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    /// What has it.
    pub scope: Scope,
    /// Its name.
    pub name: &'static str,
    /// How it is read, with the first kernel where that is not an old one.
    pub read: &'static str,
    /// How it is set, or why it is not.
    pub set: &'static str,
    /// Where it is in the images: record and field.
    pub record: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// What proves that: a file of the sources and a word in it; none for what is untold.
    pub proof: Option<(&'static str, &'static str)>,
}

/// What a dump names as not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Control groups.
    Cgroup,
    /// Process and thread keyrings.
    Keyring,
    /// Core scheduling.
    CoreCookie,
    /// System V semaphores to undo.
    SemaphoreUndo,
    /// The label of a security module.
    SecurityLabel,
    /// The number of the audit session.
    AuditSession,
    /// A watch of epoll that has told its event.
    SilencedWatch,
    /// Whether an eventfd is a semaphore, on kernels that do not say.
    EventFdKind,
    /// How long data will live.
    WriteHint,
    /// Who made the other end of a Unix socket.
    PeerCredentials,
    /// Empty messages in a Unix socket that somebody has looked at.
    HiddenMessages,
    /// When messages that wait in a socket were sent.
    MessageTimes,
    /// A line of fdinfo that nobody knows.
    UnknownState,
    /// Datagrams that wait in a socket of the network.
    Datagrams,
    /// An error that waits in a socket of the network.
    SocketError,
    /// Times and processes of the last uses of objects of System V.
    IpcTimes,
    /// Events that wait in a fanotify.
    FanotifyEvents,
    /// What comes with the signal that tells of a message.
    QueueNoticeValue,
    /// Packets that wait in a TUN or TAP device.
    Packets,
    /// Connections that the filter of a network namespace knows.
    TrackedConnections,
    /// Which thread of its parent made a process.
    ParentThread,
}

/// Something that is not kept of a certain program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    what: Lost,
    detail: String,
}

impl Loss {
    /// Returns the loss of what a program has one of.
    pub fn of(what: Lost) -> Self {
        Self::with(what, "")
    }

    /// Returns a loss with what tells it from others of its kind.
    pub fn with(what: Lost, detail: impl ToString) -> Self {
        let detail = detail.to_string();
        Self { what, detail }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attribute = self.what.attribute();
        f.write_str(attribute.name)?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        write!(f, " ({})", attribute.set)
    }
}

impl Lost {
    /// Returns its row of the table.
    fn attribute(self) -> &'static Attribute {
        let row = ATTRIBUTES.iter().find(|row| row.fate == Fate::Warned(self));
        row.expect("the table has a row for each")
    }
}

impl Scope {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 5] = [
        Self::Process,
        Self::Thread,
        Self::Memory,
        Self::Area,
        Self::Descriptor,
    ];

    /// Returns the heading of its part of the table.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Process => "Process",
            Self::Thread => "Thread",
            Self::Memory => "Address space",
            Self::Area => "Memory area",
            Self::Descriptor => "Descriptor",
        }
    }
}

impl Fate {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Warned(_) => "named",
            Self::Refused => "refused",
            Self::Untold => "untold",
        }
    }
}

/// Returns the text of `docs/support.md`.
pub fn document() -> String {
    let mut text = String::from(concat!(
        "# What is kept, and what is not\n\n",
        "Made by `cargo xtask support` from `orchestrator/src/support/table.rs`; a test checks that each proof is there.\n\n",
        "- **kept**: the restored program has it as it was.\n",
        "- **named**: not kept; the dump says so of the program that has it, in one line that begins with `not kept:`.\n",
        "- **refused**: a program that has it is not dumped; the error names it, and the program runs on untouched.\n",
        "- **untold**: the kernel tells nobody of it, so that it can be neither kept nor named.\n\n",
    ));
    text.push_str(&summary());
    for scope in Scope::ALL {
        text.push_str(&format!(
            "\n## {}\n\n| attribute | | read by | set by | in the images | proven by |\n|---|---|---|---|---|---|\n",
            scope.heading()
        ));
        for row in ATTRIBUTES.iter().filter(|row| row.scope == scope) {
            let proof = row
                .proof
                .map_or(String::new(), |(file, word)| format!("`{file}`: `{word}`"));
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} | {proof} |\n",
                row.name,
                row.fate.word(),
                row.read,
                row.set,
                row.record
            ));
        }
    }
    text
}

/// Returns the table for README: how many of each, and the names of those that are not kept.
pub fn summary() -> String {
    let mut text = String::from(
        "| of a | kept | named as not kept | refused | untold by the kernel |\n|---|---|---|---|---|\n",
    );
    for scope in Scope::ALL {
        let names = |word: &str| {
            let rows = ATTRIBUTES
                .iter()
                .filter(|row| row.scope == scope && row.fate.word() == word);
            let names: Vec<&str> = rows.map(|row| row.name).collect();
            names
        };
        text.push_str(&format!(
            "| {} | {} attributes | {} | {} | {} |\n",
            scope.heading().to_lowercase(),
            names("kept").len(),
            names("named").join(", "),
            names("refused").join(", "),
            names("untold").join(", ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_proof_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut missing = Vec::new();
        for row in ATTRIBUTES {
            let Some((file, word)) = row.proof else {
                assert_eq!(row.fate, Fate::Untold, "{}: no proof", row.name);
                continue;
            };
            let text = std::fs::read_to_string(root.join(file)).expect(file);
            if !text.contains(word) {
                missing.push((row.name, file, word));
            }
        }
        assert_eq!(missing, []);
    }

    #[test]
    fn a_victim_that_proves_something_is_run() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tests");
        let all = std::fs::read_dir(root).expect("the tests").flatten();
        let tests: String = all
            .map(|entry| std::fs::read_to_string(entry.path()).expect("a test"))
            .collect();
        for (file, _) in ATTRIBUTES.iter().filter_map(|row| row.proof) {
            if let Some(victim) = file.strip_prefix("tests/victims/") {
                let name = format!("\"{}\"", victim.trim_end_matches(".c"));
                assert!(tests.contains(&name), "no test runs {victim}");
            }
        }
    }

    #[test]
    fn names_are_said_once() {
        for (index, row) in ATTRIBUTES.iter().enumerate() {
            let is_same = |other: &&Attribute| (other.scope, other.name) == (row.scope, row.name);
            assert!(
                !ATTRIBUTES[..index].iter().any(|other| is_same(&other)),
                "{}",
                row.name
            );
            if let Fate::Warned(lost) = row.fate {
                assert_eq!(lost.attribute().name, row.name, "two rows for one loss");
            }
        }
    }

    #[test]
    fn every_loss_has_words() {
        // No variant is forgotten here: a new one does not compile until it is listed.
        let next = |lost| match lost {
            None => Some(Lost::Cgroup),
            Some(Lost::Cgroup) => Some(Lost::Keyring),
            Some(Lost::Keyring) => Some(Lost::CoreCookie),
            Some(Lost::CoreCookie) => Some(Lost::SemaphoreUndo),
            Some(Lost::SemaphoreUndo) => Some(Lost::SecurityLabel),
            Some(Lost::SecurityLabel) => Some(Lost::AuditSession),
            Some(Lost::AuditSession) => Some(Lost::SilencedWatch),
            Some(Lost::SilencedWatch) => Some(Lost::EventFdKind),
            Some(Lost::EventFdKind) => Some(Lost::WriteHint),
            Some(Lost::WriteHint) => Some(Lost::PeerCredentials),
            Some(Lost::PeerCredentials) => Some(Lost::HiddenMessages),
            Some(Lost::HiddenMessages) => Some(Lost::MessageTimes),
            Some(Lost::MessageTimes) => Some(Lost::UnknownState),
            Some(Lost::UnknownState) => Some(Lost::Datagrams),
            Some(Lost::Datagrams) => Some(Lost::SocketError),
            Some(Lost::SocketError) => Some(Lost::IpcTimes),
            Some(Lost::IpcTimes) => Some(Lost::FanotifyEvents),
            Some(Lost::FanotifyEvents) => Some(Lost::QueueNoticeValue),
            Some(Lost::QueueNoticeValue) => Some(Lost::Packets),
            Some(Lost::Packets) => Some(Lost::TrackedConnections),
            Some(Lost::TrackedConnections) => Some(Lost::ParentThread),
            Some(Lost::ParentThread) => None,
        };
        let mut lost = next(None);
        while let Some(now) = lost {
            assert!(!Loss::with(now, "7").to_string().is_empty());
            lost = next(Some(now));
        }
    }
}
