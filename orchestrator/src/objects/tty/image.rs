//! Between the facts and their records: descriptors in `files.img`, terminals in `tty-info.img`. The node's path is a
//! record of a regular file that the descriptor's record names.

use crate::image::error::{Checked, wrong};
use crate::image::limits::pid;
use crate::snapshot::file::Termios;
use crate::snapshot::{OpenFile, RegularFile, Terminal, TerminalInfo};
use proto::pb;

/// `NCCS`: the kernel's control characters.
const CHARS: usize = 19;

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
        regf_id: Some(regf_id),
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
        // Nothing locks its termios bits; without the record the peer takes the terminal for one hung up.
        termios_locked: info.termios.as_ref().map(|_| termios_to_record(&unlocked)),
        winsize: info.winsize.map(winsize_to_record),
        pty: info.index.map(|index| pb::TtyPtyEntry { index }),
        dev: Some(info.dev),
        uid: Some(info.uid),
        gid: Some(info.gid),
    }
}

/// Returns the terminal in `record`.
pub(crate) fn info_from_record(record: &pb::TtyInfoEntry) -> Checked<TerminalInfo> {
    Ok(TerminalInfo {
        id: record.id,
        kind: record.r#type as u32,
        index: record.pty.as_ref().map(|pty| pty.index),
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
    })
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
