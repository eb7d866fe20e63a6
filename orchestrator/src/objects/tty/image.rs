//! Between the facts and their records: descriptors in `files.img`, terminals in `tty-info.img`, what waits in them in
//! `tty-data.img`. The node's path is a record of a regular file that the descriptor's record names.

use crate::image::error::{Checked, wrong};
use crate::image::limits::pid;
use crate::snapshot::terminal::KIND_PTY;
use crate::snapshot::{
    Flow, LineEnd, OpenFile, RegularFile, Terminal, TerminalInfo, Termios, Waiting,
};
use proto::pb;

/// `NCCS`: the kernel's control characters.
const CHARS: usize = 19;
/// Number of ptys: the kernel makes no more (`NR_UNIX98_PTY_MAX`, `include/linux/tty.h`).
const MAX_INDEX: u32 = 1 << 20;
/// Most bytes that wait on one side: what the buffer of the line discipline and that before it hold (`tty_buffer.c`).
pub(crate) const MAX_WAITING: usize = 128 << 10;

/// Returns the record of `fact`, which is open as `file`; `regf_id` is the record of its node.
pub(crate) fn to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &Terminal,
    regf_id: u32,
) -> pb::TtyFileEntry {
    pb::TtyFileEntry {
        id: file.id.0,
        tty_info_id: fact.info_id,
        flags: file.flags,
        fown,
        // One that is given at the restore has no node.
        regf_id: (!fact.node.path.is_empty()).then_some(regf_id),
    }
}

/// Returns the fact in `record`, given its node.
pub(crate) fn from_record(record: &pb::TtyFileEntry, node: RegularFile) -> Terminal {
    Terminal {
        info_id: record.tty_info_id,
        node,
    }
}

/// Returns the record of a terminal.
pub(crate) fn info_to_record(info: &TerminalInfo) -> pb::TtyInfoEntry {
    let unlocked = Termios {
        chars: vec![0; CHARS],
        ..Termios::default()
    };
    pb::TtyInfoEntry {
        id: info.id,
        r#type: info.kind as i32,
        locked: info.locked,
        exclusive: info.exclusive,
        packet_mode: info.packet_mode,
        sid: info.sid as u32,
        pgrp: info.pgrp as u32,
        rdev: info.rdev,
        termios: info.termios.as_ref().map(termios_to_record),
        // Without the record the peer takes the terminal for one hung up.
        termios_locked: info
            .termios
            .as_ref()
            .map(|_| termios_to_record(info.termios_locked.as_ref().unwrap_or(&unlocked))),
        winsize: info.winsize.map(winsize_to_record),
        pty: info.index.map(|index| pb::TtyPtyEntry { index }),
        dev: Some(info.dev),
        uid: Some(info.uid),
        gid: Some(info.gid),
        ext: ext_to_record(info),
    }
}

fn ext_to_record(info: &TerminalInfo) -> Option<pb::ExtTerminal> {
    let is_plain = |waiting: &Waiting| waiting.end == LineEnd::Open;
    let lines = info.waiting.iter().map(|waiting| pb::ExtLine {
        length: waiting.bytes.len() as u32,
        end: match waiting.end {
            LineEnd::Open => 0,
            LineEnd::Byte => 1,
            LineEnd::Eof => 2,
        },
    });
    let ext = pb::ExtTerminal {
        lines: match info.waiting.iter().all(is_plain) {
            true => Vec::new(),
            false => lines.collect(),
        },
        flow: match info.flow {
            Flow::Running => None,
            Flow::Stopped => Some(1),
            Flow::Held => Some(2),
        },
        packet_status: (info.packet_status != 0).then(|| info.packet_status.into()),
        unopened: info.is_unopened.then_some(true),
        device: (info.device != 0).then_some(info.device),
    };
    (ext != pb::ExtTerminal::default()).then_some(ext)
}

/// Returns the record of what waits on a side of a terminal; `None` where nothing does.
pub(crate) fn data_to_record(info: &TerminalInfo) -> Option<pb::TtyDataEntry> {
    let lines = info.waiting.iter().map(|waiting| &waiting.bytes[..]);
    (!info.waiting.is_empty()).then(|| pb::TtyDataEntry {
        tty_id: info.id,
        data: lines.collect::<Vec<_>>().concat(),
    })
}

/// Fills a terminal with what waits on it. The lengths of lines are in its own record.
pub(crate) fn data_from_record(record: pb::TtyDataEntry, info: &mut TerminalInfo) -> Checked<()> {
    if record.data.len() > MAX_WAITING {
        return wrong!("{} bytes are more than a terminal holds", record.data.len());
    }
    if info.waiting.is_empty() {
        info.waiting.push(Waiting {
            bytes: record.data,
            end: LineEnd::Open,
        });
        return Ok(());
    }
    let mut rest = &record.data[..];
    for waiting in &mut info.waiting {
        let Some((bytes, others)) = rest.split_at_checked(waiting.bytes.len()) else {
            return wrong!("{} bytes are fewer than its lines have", record.data.len());
        };
        waiting.bytes.copy_from_slice(bytes);
        rest = others;
    }
    match rest.len() {
        0 => Ok(()),
        more => wrong!("{more} bytes are of no line"),
    }
}

/// Returns the terminal in `record`.
pub(crate) fn info_from_record(record: &pb::TtyInfoEntry) -> Checked<TerminalInfo> {
    let index = record.pty.as_ref().map(|pty| pty.index);
    if record.r#type as u32 == KIND_PTY && index.is_none_or(|index| index >= MAX_INDEX) {
        return wrong!("{index:?} is no index of a pseudo-terminal");
    }
    let ext = record.ext.clone().unwrap_or_default();
    Ok(TerminalInfo {
        id: record.id,
        kind: record.r#type as u32,
        index,
        sid: pid(record.sid)?,
        pgrp: pid(record.pgrp)?,
        rdev: record.rdev,
        dev: record.dev.unwrap_or(0),
        locked: record.locked,
        exclusive: record.exclusive,
        packet_mode: record.packet_mode,
        termios: record
            .termios
            .as_ref()
            .map(termios_from_record)
            .transpose()?,
        winsize: record
            .winsize
            .as_ref()
            .map(winsize_from_record)
            .transpose()?,
        uid: record.uid.unwrap_or(0),
        gid: record.gid.unwrap_or(0),
        device: ext.device.unwrap_or(0),
        termios_locked: record
            .termios_locked
            .as_ref()
            .map(termios_from_record)
            .transpose()?
            .filter(|locked| locked.flags != [0; 4] || locked.chars.iter().any(|&char| char != 0)),
        waiting: lines_from_record(&ext.lines)?,
        flow: match ext.flow {
            None => Flow::Running,
            Some(1) => Flow::Stopped,
            Some(2) => Flow::Held,
            Some(other) => return wrong!("state {other} of output is not known"),
        },
        packet_status: match u8::try_from(ext.packet_status.unwrap_or(0)) {
            Ok(status) => status,
            Err(_) => return wrong!("a packet status that is no byte"),
        },
        is_unopened: ext.unopened.unwrap_or(false),
        given: None,
    })
}

/// Returns lines of the right lengths; their bytes are in another file.
fn lines_from_record(lines: &[pb::ExtLine]) -> Checked<Vec<Waiting>> {
    let all: u64 = lines.iter().map(|line| u64::from(line.length)).sum();
    if all > MAX_WAITING as u64 {
        return wrong!("lines of {all} bytes are more than a terminal holds");
    }
    let line = |line: &pb::ExtLine| {
        let end = match line.end {
            0 => LineEnd::Open,
            1 => LineEnd::Byte,
            2 => LineEnd::Eof,
            other => return wrong!("end {other} of a line is not known"),
        };
        Ok(Waiting {
            bytes: vec![0; line.length as usize],
            end,
        })
    };
    lines.iter().map(line).collect()
}

/// The record has a word for each control character, but the peer copies the bytes, so that the first five words hold
/// all of them and the rest is whatever was there.
fn termios_to_record(termios: &Termios) -> pb::TermiosEntry {
    let mut bytes = [0u8; CHARS * 4];
    for (byte, &char) in bytes.iter_mut().zip(termios.chars.iter().take(CHARS)) {
        *byte = char;
    }
    let word = |word: &[u8]| {
        word.iter()
            .rev()
            .fold(0, |all, &byte| all << 8 | u32::from(byte))
    };
    let [c_iflag, c_oflag, c_cflag, c_lflag] = termios.flags;
    pb::TermiosEntry {
        c_iflag,
        c_oflag,
        c_cflag,
        c_lflag,
        c_line: u32::from(termios.line),
        c_ispeed: termios.speed[0],
        c_ospeed: termios.speed[1],
        c_cc: bytes.chunks(4).map(word).collect(),
    }
}

fn termios_from_record(record: &pb::TermiosEntry) -> Checked<Termios> {
    let Ok(line) = u8::try_from(record.c_line) else {
        return wrong!("line discipline {} is not known", record.c_line);
    };
    let bytes = record.c_cc.iter().flat_map(|word| word.to_le_bytes());
    Ok(Termios {
        flags: [
            record.c_iflag,
            record.c_oflag,
            record.c_cflag,
            record.c_lflag,
        ],
        line,
        speed: [record.c_ispeed, record.c_ospeed],
        chars: bytes.chain([0; CHARS]).take(CHARS).collect(),
    })
}

fn winsize_to_record(size: [u16; 4]) -> pb::WinsizeEntry {
    let [ws_row, ws_col, ws_xpixel, ws_ypixel] = size.map(u32::from);
    pb::WinsizeEntry {
        ws_row,
        ws_col,
        ws_xpixel,
        ws_ypixel,
    }
}

fn winsize_from_record(record: &pb::WinsizeEntry) -> Checked<[u16; 4]> {
    let mut size = [0; 4];
    let words = [
        record.ws_row,
        record.ws_col,
        record.ws_xpixel,
        record.ws_ypixel,
    ];
    for (side, word) in size.iter_mut().zip(words) {
        let Ok(value) = u16::try_from(word) else {
            return wrong!("a window of size {word}");
        };
        *side = value;
    }
    Ok(size)
}
