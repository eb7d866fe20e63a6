//! Terminals outside of the tree.

use super::{FileTable, regular_of};
use crate::procfs;
use crate::snapshot::file::Termios;
use crate::snapshot::*;
use crate::sys::{Pid, file, tty};
use std::os::fd::OwnedFd;

impl FileTable {
    pub(super) fn terminal(
        &mut self,
        pid: Pid,
        own: &OwnedFd,
        link: &[u8],
        stat: &file::FileStat,
    ) -> FileKind {
        let rdev = stat.packed_rdev() as u32;
        let info_id = match self.terminals.iter().find(|terminal| terminal.rdev == rdev) {
            Some(terminal) => terminal.id,
            None => {
                let id = self.terminals.len() as u32 + 1;
                let info = terminal_info(pid, own, stat);
                self.terminals.push(TerminalInfo { id, rdev, ..info });
                id
            }
        };
        FileKind::Terminal(Terminal {
            info_id,
            node: regular_of(link, stat, 0),
        })
    }
}

/// Returns what a terminal says of itself, and whether it is the one of the process's session.
fn terminal_info(pid: Pid, own: &OwnedFd, stat: &file::FileStat) -> TerminalInfo {
    let task = procfs::stat::read(pid).ok();
    let task = task.filter(|task| task.tty_nr as u32 == stat.packed_rdev() as u32);
    let settings = tty::settings(own).ok();
    // Types of the images: a pseudo-terminal, /dev/console, a virtual console, /dev/tty, a serial line.
    let (kind, index) = match stat.rdev {
        (136..=143, minor) => (1, Some(minor)),
        (5, 1) => (2, None),
        (4, 0..=63) => (3, None),
        (5, 0) => (4, None),
        _ => (6, None),
    };
    TerminalInfo {
        kind,
        index,
        sid: task.as_ref().map_or(0, |task| task.session),
        pgrp: task.as_ref().map_or(0, |task| task.tpgid.max(0)),
        exclusive: tty::is_exclusive(own).unwrap_or(false),
        termios: settings.map(|settings| Termios {
            flags: settings.flags,
            line: settings.line,
            speed: settings.speed,
            chars: settings.chars.to_vec(),
        }),
        winsize: tty::window(own).ok(),
        uid: stat.uid,
        gid: stat.gid,
        ..TerminalInfo::default()
    }
}
