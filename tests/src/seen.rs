//! What `/proc` shows of a tree that stands still: its processes and threads, their descriptors and areas. Taken of a tree that
//! a dump has left stopped and of the same tree restored and left stopped, it has to be the same, but for what is a number of
//! the kernel's own (inodes of pipes, say) and what goes on with the time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{read, read_dir, read_link, read_to_string};
use std::path::{Path, PathBuf};

/// Lines of `status` that tell of use, of time, or of whoever looks.
const STATUS_LEFT_OUT: [&str; 11] = [
    "TracerPid",
    "FDSize",
    "Vm",
    "Rss",
    "Hugetlb",
    "SigQ",
    "SigPnd",
    "ShdPnd",
    "THP_enabled",
    "voluntary_ctxt",
    "nonvoluntary_ctxt",
];

/// Words of `fdinfo` that tell of time or of the kernel's own numbers. A moment of the monotonic clock that a timer is set to
/// is the same as the time that is left.
const FDINFO_LEFT_OUT: [&str; 8] = [
    "settime flags:",
    "map_id:",
    "ino:",
    "it_value:",
    "ticks:",
    "eventfd-id:",
    "lock:",
    "mnt_id:",
];

/// Files of a process that are compared as they are.
const WHOLE: [&str; 7] = [
    "cmdline",
    "environ",
    "comm",
    "limits",
    "personality",
    "oom_score_adj",
    "coredump_filter",
];

/// Fields of `stat` behind the name: group, session, terminal, its foreground group, signal of the end, priority and policy.
const STAT: [(&str, usize); 8] = [
    ("pgrp", 2),
    ("session", 3),
    ("tty_nr", 4),
    ("tpgid", 5),
    ("priority", 15),
    ("nice", 16),
    ("exit_signal", 35),
    ("policy", 38),
];

/// A tree as it is seen: what, and how it is.
#[derive(Debug, Default)]
pub struct Seen {
    facts: BTreeMap<String, String>,
    /// Numbers of the kernel's own, in the order in which they came.
    numbers: BTreeMap<String, usize>,
}

impl Seen {
    /// Looks at a process and those below it.
    pub fn of(root: u32, descendants: &[u32]) -> Seen {
        let mut seen = Seen::default();
        let mut all = vec![root];
        all.extend(descendants);
        all.sort_unstable();
        for pid in all {
            seen.look(pid, root);
        }
        seen
    }

    /// Returns what differs, a line for each.
    pub fn differences(&self, other: &Seen) -> String {
        let mut lines = String::new();
        let keys: std::collections::BTreeSet<_> =
            self.facts.keys().chain(other.facts.keys()).collect();
        for key in keys {
            let (one, two) = (self.facts.get(key), other.facts.get(key));
            if one != two {
                let _ = writeln!(lines, "{key}: {one:?} has become {two:?}");
            }
        }
        lines
    }

    fn note(&mut self, key: String, value: impl Into<String>) {
        self.facts.insert(key, value.into());
    }

    fn look(&mut self, pid: u32, root: u32) {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let stat = read_to_string(folder.join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        for (name, index) in STAT {
            let field = fields.get(index).copied().unwrap_or_default();
            self.note(format!("{pid} {name}"), field);
        }
        if fields.first() == Some(&"Z") {
            // What it had is nobody's to see any more.
            return self.note(format!("{pid} state"), "Z");
        }
        for name in WHOLE {
            let value = read(folder.join(name)).unwrap_or_default();
            self.note(format!("{pid} {name}"), String::from_utf8_lossy(&value));
        }
        for name in ["exe", "cwd", "root"] {
            let link = read_link(folder.join(name)).unwrap_or_default();
            self.note(format!("{pid} {name}"), link.to_string_lossy());
        }
        for tid in numbers_in(&folder.join("task")) {
            let task = folder.join("task").join(tid.to_string());
            let comm = read(task.join("comm")).unwrap_or_default();
            self.note(
                format!("{pid} thread {tid}"),
                String::from_utf8_lossy(&comm),
            );
            let status = read_to_string(task.join("status")).unwrap_or_default();
            for (name, value) in status.lines().filter_map(|line| line.split_once(':')) {
                let is_left_out = STATUS_LEFT_OUT.iter().any(|start| name.starts_with(start));
                let is_outside = name == "PPid" && pid == root;
                if !is_left_out && !is_outside {
                    self.note(
                        format!("{pid} thread {tid} {name}"),
                        without_sigchld(name, value),
                    );
                }
            }
        }
        self.look_at_maps(pid, &folder);
        self.look_at_descriptors(pid, &folder);
    }

    fn look_at_maps(&mut self, pid: u32, folder: &Path) {
        let maps = read_to_string(folder.join("maps")).unwrap_or_default();
        for line in maps.lines() {
            let fields: Vec<&str> = line.splitn(6, ' ').collect();
            let [range, access, offset, device, inode, path] = fields[..] else {
                continue;
            };
            // Shared memory without a name is made as a memfd of the name that it would have.
            let path = path.trim_start().trim_start_matches("/memfd:");
            let is_file =
                path.starts_with('/') && !path.ends_with("(deleted)") && !path.starts_with("/SYSV");
            let place = if is_file {
                format!("{device} {inode}")
            } else {
                String::new()
            };
            self.note(
                format!("{pid} area {range}"),
                format!("{access} {offset} {place} {path}"),
            );
        }
    }

    fn look_at_descriptors(&mut self, pid: u32, folder: &Path) {
        for fd in numbers_in(&folder.join("fd")) {
            let link = read_link(folder.join("fd").join(fd.to_string())).unwrap_or_default();
            let link = self.without_numbers(
                &link
                    .to_string_lossy()
                    .replace("/memfd:/dev/zero", "/dev/zero"),
            );
            self.note(format!("{pid} fd {fd}"), link);
            let info = read_to_string(folder.join("fdinfo").join(fd.to_string()));
            for (index, line) in info.unwrap_or_default().lines().enumerate() {
                let is_left_out = FDINFO_LEFT_OUT.iter().any(|start| line.starts_with(start));
                // A watched file may be one that was deleted, and made again.
                let line = line.split(" ino:").next().unwrap_or_default();
                // Those that an epoll watches stand in the order of addresses in the kernel.
                let place = match line.starts_with("tfd:") {
                    true => line.to_string(),
                    false => index.to_string(),
                };
                if !is_left_out {
                    self.note(format!("{pid} fd {fd} info {place}"), line);
                }
            }
        }
    }

    /// Puts in the place of `KIND:[INODE]` which of them it is, and takes off the name of what has none any more and came by
    /// another: a file in whose place is another now, a terminal.
    fn without_numbers(&mut self, link: &str) -> String {
        if let Some(path) = link.strip_suffix(" (deleted)") {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let is_replaced = path.starts_with("/dev/pts/") || Path::new(folder).is_dir();
            if is_replaced {
                return format!("{folder} (deleted)");
            }
        }
        match link.split_once(":[") {
            Some((kind, _)) if !link.starts_with('/') => {
                let next = self.numbers.len();
                let number = self.numbers.entry(link.to_string()).or_insert(next);
                format!("{kind} {number}")
            }
            _ => link.to_string(),
        }
    }
}

/// Blocks SIGCHLD in a mask: a handler of it may have begun, as children were stopped by a dump or restore before their parent.
fn without_sigchld(name: &str, value: &str) -> String {
    const SIGCHLD: u64 = 1 << 16;
    match u64::from_str_radix(value.trim(), 16) {
        Ok(mask) if name == "SigBlk" => format!("{:x}", mask | SIGCHLD),
        _ => value.to_string(),
    }
}

fn numbers_in(folder: &Path) -> Vec<u32> {
    let entries = read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut all: Vec<u32> = names.collect();
    all.sort_unstable();
    all
}
