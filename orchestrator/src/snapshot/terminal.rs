//! Terminals: each side of a pseudo-terminal is one, as in the images.

use super::file::RegularFile;

/// A terminal's open file description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Which terminal of [`super::Snapshot::terminals`].
    pub info_id: u32,
    /// The node, by path.
    pub node: RegularFile,
}

/// A terminal: the master of a pseudo-terminal, its slave, another one, or `/dev/tty` of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TerminalInfo {
    /// Its id.
    pub id: u32,
    /// Type as the image numbers it (1 = PTY; see the schema).
    pub kind: u32,
    /// Index of the pty.
    pub index: Option<u32>,
    /// Session that it controls; 0 = none.
    pub sid: i32,
    /// Foreground group.
    pub pgrp: i32,
    /// Device number of the node that was opened.
    pub rdev: u32,
    /// Device number of the terminal that `/dev/tty` led to; 0 = not recorded, or the same.
    pub device: u32,
    /// Device of the file system the node is on.
    pub dev: u32,
    /// Locked (`TIOCSPTLCK`).
    pub locked: bool,
    /// Exclusive (`TIOCEXCL`).
    pub exclusive: bool,
    /// Packet mode (`TIOCPKT`).
    pub packet_mode: bool,
    /// Settings; none of a slave whose master was closed.
    pub termios: Option<Termios>,
    /// Bits of the settings that may not be changed (`TIOCSLCKTRMIOS`).
    pub termios_locked: Option<Termios>,
    /// Window size: rows, columns, and pixels of both.
    pub winsize: Option<[u16; 4]>,
    /// Owner of the node.
    pub uid: u32,
    /// Group of the node.
    pub gid: u32,
    /// What waits to be read on this side.
    pub waiting: Vec<Waiting>,
    /// Whether it sends.
    pub flow: Flow,
    /// News for the reader of a master in packet mode (`TIOCPKT_*`).
    pub packet_status: u8,
    /// Of a master: nobody has opened its slave yet.
    pub is_unopened: bool,
    /// Process and number of a descriptor that is given for it (`--inherit-fd`); in no image.
    pub given: Option<(i32, i32)>,
}

/// `struct termios2` without the padding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Termios {
    /// Input, output, control, local flags.
    pub flags: [u32; 4],
    /// Line discipline.
    pub line: u8,
    /// Input and output speed.
    pub speed: [u32; 2],
    /// Control characters.
    pub chars: Vec<u8>,
}

/// Bytes that one `read` gives, where a terminal is read by lines; else all there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What ends them.
    pub end: LineEnd,
}

/// What ends a line of input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LineEnd {
    /// Nothing yet.
    #[default]
    Open,
    /// Its last byte.
    Byte,
    /// The character for the end of file, which nobody reads.
    Eof,
}

/// Whether a side of a terminal sends what is written to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    #[default]
    Running,
    /// It was stopped by its stop character.
    Stopped,
    /// It was stopped by `TCXONC`.
    Held,
}

/// Packed device number of `/dev/ptmx`, which opens masters.
pub const PTMX: u32 = 5 << 8 | 2;
/// Type of pseudo-terminals in the images.
pub const KIND_PTY: u32 = 1;
/// Type of `/dev/console` in the images.
pub const KIND_CONSOLE: u32 = 2;
/// Type of virtual consoles in the images.
pub const KIND_VIRTUAL: u32 = 3;
/// Type of `/dev/tty` in the images.
pub const KIND_CURRENT: u32 = 4;
/// Type of a terminal in the images that is somebody else's at the restore (`--external tty[...]`).
pub const KIND_EXTERNAL: u32 = 5;
/// Type of serial lines in the images.
pub const KIND_SERIAL: u32 = 6;

impl TerminalInfo {
    /// Returns whether it is the master of a pseudo-terminal.
    pub fn is_master(&self) -> bool {
        self.kind == KIND_PTY && self.rdev == PTMX
    }

    /// Returns whether it is a slave whose master was closed.
    pub fn is_hung_up(&self) -> bool {
        self.kind == KIND_PTY && self.rdev != PTMX && self.termios.is_none()
    }

    /// Returns whether it is one of the machine's, that is opened by its name.
    pub fn is_of_machine(&self) -> bool {
        matches!(self.kind, KIND_CONSOLE | KIND_VIRTUAL | KIND_SERIAL)
    }

    /// Returns the device number of the slave: by that the kernel names the terminal of a session.
    pub fn terminal(&self) -> u32 {
        match self.index {
            Some(index) if self.kind == KIND_PTY => slave_device(index),
            _ if self.device != 0 => self.device,
            _ => self.rdev,
        }
    }
}

/// Major number of all slaves (`UNIX98_PTY_SLAVE_MAJOR`); the minor is the index (`devpts_pty_new`, `fs/devpts/inode.c`).
const SLAVES: u32 = 136;

/// Returns the packed device number of a slave: the minor's upper bits stand above the major.
pub fn slave_device(index: u32) -> u32 {
    (index & 0xff) | SLAVES << 8 | (index & 0xf_ff00) << 12
}

/// Returns the index of the slave that has this packed device number.
pub fn slave_index(device: u32) -> Option<u32> {
    let minor = (device & 0xff) | (device >> 12 & 0xf_ff00);
    (device >> 8 & 0xfff == SLAVES).then_some(minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_of_slaves_go_both_ways() {
        for index in [0, 7, 255, 256, 2047, 0xf_ffff] {
            assert_eq!(slave_index(slave_device(index)), Some(index));
        }
        assert_eq!(slave_device(3), 34819);
        assert_eq!(slave_index(PTMX), None);
    }
}
