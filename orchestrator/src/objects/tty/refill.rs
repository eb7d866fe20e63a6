//! How a pseudo-terminal gets back what waited in it: the steps, done by whoever looked into it (reading takes it out) and
//! by a restore. Pure.
//!
//! The kernel's rules (`n_tty.c`, `pty.c`): bytes written to the master go through the line discipline of the slave, which
//! echoes, makes signals and marks where lines end; it does so later, in a thread of its own, by the settings of that
//! moment. The naive way, to write what was read with the settings in place, echoes it a second time, interrupts the
//! foreground group at each ^C that was quoted, and races with the next change of settings. Here settings are made for it:
//! nothing echoes, each byte that means something is quoted, lines end where they ended. The last byte is a stop character: in
//! packet mode it is told to the master (`TIOCPKT_STOP`), and by that all before it is known to have arrived. The mark of
//! a line stays as long as `ICANON` does not change. `tests/victims/ptys.c` proves it.

use crate::snapshot::{Flow, LineEnd, Termios, Waiting};

/// Flags of `termios` (`asm-generic/termbits.h`).
const IXON: u32 = 0x400;
const ICANON: u32 = 0x2;
const IEXTEN: u32 = 0x8000;
const EXTPROC: u32 = 0x10000;
const ECHO: u32 = 0x8 | 0x10 | 0x20 | 0x40 | 0x200 | 0x800;
const ISIG: u32 = 0x1;
/// Places of control characters.
const VEOF: usize = 4;
const VTIME: usize = 5;
const VMIN: usize = 6;
const VSTOP: usize = 9;
const VEOL: usize = 11;
const VLNEXT: usize = 15;
const VEOL2: usize = 16;
/// Number of control characters.
const CHARS: usize = 19;
/// Argument of TCXONC that stops output.
pub const TCOOFF: u64 = 0;
/// Argument of TCXONC that starts it again.
pub const TCOON: u64 = 1;
/// Status of packet mode (`asm-generic/ioctls.h`).
const TIOCPKT_STOP: u8 = 4;
const TIOCPKT_START: u8 = 8;
const TIOCPKT_NOSTOP: u8 = 16;
const TIOCPKT_DOSTOP: u8 = 32;
/// Most bytes that are sure to have room in the line discipline (`N_TTY_BUF_SIZE`): more wait before it.
const ROOM: usize = 4000;

/// A side of a pseudo-terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The master.
    Master,
    /// The slave.
    Slave,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Set the slave's settings.
    Settings(Termios),
    /// Write to a side.
    Write(Side, Vec<u8>),
    /// TCXONC on a side.
    Flow(Side, u64),
    /// Turn packet mode on or off.
    Packet(bool),
    /// Wait until the master, on which nothing waits, is told something. Not for POLLPRI alone: the kernel wakes up for POLLIN.
    Await,
}

/// What a pseudo-terminal is to be.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// What the slave reads.
    pub input: &'a [Waiting],
    /// What the master reads.
    pub output: &'a [Waiting],
    /// Whether master and slave send.
    pub flow: [Flow; 2],
    /// Settings.
    pub termios: &'a Termios,
    /// Packet mode.
    pub packet_mode: bool,
    /// News for the master.
    pub packet_status: u8,
}

/// Returns whether input is read by lines.
pub fn is_by_line(termios: &Termios) -> bool {
    termios.flags[3] & (ICANON | EXTPROC) == ICANON
}

/// Returns settings under which input that still comes neither echoes nor makes signals.
pub fn quiet(termios: &Termios) -> Termios {
    let mut quiet = termios.clone();
    quiet.flags[3] &= !(ECHO | ISIG);
    quiet
}

/// Returns settings under which all that has come is read, whether it ends a line or not.
pub fn unlined(termios: &Termios) -> Termios {
    let mut raw = quiet(termios);
    raw.flags[3] &= !ICANON;
    raw.chars.resize(CHARS, 0);
    raw.chars[VMIN] = 1;
    raw.chars[VTIME] = 0;
    raw
}

/// Returns what a read by lines gave as a line.
pub fn line(bytes: Vec<u8>, termios: &Termios) -> Waiting {
    let ends = [b'\n', char_of(termios, VEOL), char_of(termios, VEOL2)];
    let end = match bytes.last() {
        Some(last) if *last != 0 && ends.contains(last) => LineEnd::Byte,
        _ => LineEnd::Eof,
    };
    Waiting { bytes, end }
}

/// Returns the steps that make an empty pseudo-terminal, or one that was read empty, what it was.
pub fn steps(pair: &Pair<'_>) -> Vec<Step> {
    let is_empty = pair.input.is_empty() && pair.output.is_empty();
    if is_empty && pair.flow == [Flow::Running; 2] && pair.packet_status == 0 {
        let packet = pair.packet_mode.then_some(Step::Packet(true));
        let settings = [Step::Settings(pair.termios.clone())];
        return settings.into_iter().chain(packet).collect();
    }
    let mut steps = vec![Step::Packet(false)];
    // Started by both its users, whoever stopped it.
    for side in [Side::Slave, Side::Master] {
        restart(side, &mut steps);
    }
    let late = match is_by_line(pair.termios) {
        true => fill_lines(pair, &mut steps),
        false => fill_bytes(pair, &mut steps),
    };
    let output: Vec<u8> = bytes_of(pair.output);
    if !output.is_empty() {
        steps.push(Step::Settings(working(pair.termios, STOP)));
        steps.push(Step::Write(Side::Slave, output));
    }
    finish(pair, late, &mut steps);
    steps
}

/// Adds the settings that stay, what does not fit the line discipline, and the flow.
fn finish(pair: &Pair<'_>, late: Vec<u8>, steps: &mut Vec<Step>) {
    let termios = pair.termios;
    if pair.packet_status & (TIOCPKT_DOSTOP | TIOCPKT_NOSTOP) != 0 {
        let mut other = termios.clone();
        other.flags[0] ^= IXON;
        steps.extend([Step::Settings(other), Step::Packet(true)]);
    }
    steps.push(Step::Settings(termios.clone()));
    if !late.is_empty() {
        steps.push(Step::Write(Side::Master, late));
    }
    let is_told = |bit: u8| pair.packet_mode && pair.packet_status & bit != 0;
    if is_told(TIOCPKT_START) {
        steps.push(Step::Packet(true));
        restart(Side::Slave, steps);
    }
    let stop = char_of(termios, VSTOP);
    match pair.flow[1] {
        Flow::Stopped if termios.flags[0] & IXON != 0 && stop != 0 => {
            // Nothing is set after it, so it need not be waited for; in packet mode it is told (once more).
            steps.push(Step::Packet(pair.packet_mode));
            steps.push(Step::Write(Side::Master, vec![stop]));
        }
        Flow::Running => {}
        Flow::Stopped | Flow::Held => {
            steps.push(Step::Packet(is_told(TIOCPKT_STOP)));
            steps.push(Step::Flow(Side::Slave, TCOOFF));
        }
    }
    if pair.flow[0] != Flow::Running {
        steps.push(Step::Flow(Side::Master, TCOOFF));
    }
    steps.push(Step::Packet(pair.packet_mode));
}

fn restart(side: Side, steps: &mut Vec<Step>) {
    steps.extend([Step::Flow(side, TCOOFF), Step::Flow(side, TCOON)]);
}

/// Adds lines, all by the same settings, and returns the bytes that do not fit.
fn fill_lines(pair: &Pair<'_>, steps: &mut Vec<Step>) -> Vec<u8> {
    if pair.input.is_empty() {
        return Vec::new();
    }
    let ends = [char_of(pair.termios, VEOL), char_of(pair.termios, VEOL2)];
    let mut free = [0x16, 0x04, 0x13, 0x11, 0x0f]
        .into_iter()
        .filter(|char| !ends.contains(char));
    let [quote, eof, stop] = [(); 3].map(|()| free.next().unwrap_or(0));
    let is_special =
        |byte: &u8| [quote, eof, stop, b'\n'].contains(byte) || (*byte != 0 && ends.contains(byte));
    let mut settings = working(pair.termios, stop);
    settings.flags[3] |= IEXTEN;
    settings.chars[VLNEXT] = quote;
    settings.chars[VEOF] = eof;
    [settings.chars[VEOL], settings.chars[VEOL2]] = ends;
    let mut bytes = Vec::new();
    let mut late = Vec::new();
    let mut room = ROOM;
    let last = pair.input.len() - 1;
    for (number, line) in pair.input.iter().enumerate() {
        room = room.saturating_sub(line.bytes.len() + 1);
        if room == 0 && number > 0 {
            late.extend_from_slice(&line.bytes);
            continue;
        }
        let ends_itself = line.end == LineEnd::Byte && line.bytes.last().is_some_and(is_special);
        let (quoted, end) = match line.bytes.split_last() {
            Some((end, before)) if ends_itself => (before, Some(*end)),
            _ => (&line.bytes[..], None),
        };
        for byte in quoted {
            bytes.extend(is_special(byte).then_some(quote));
            bytes.push(*byte);
        }
        let is_open = line.end == LineEnd::Open && number == last;
        bytes.extend(end.or((!is_open).then_some(eof)));
    }
    bytes.push(stop);
    send(settings, bytes, steps);
    late
}

/// Adds bytes, in pieces of which each lacks one value that can be the stop character; returns those that do not fit.
fn fill_bytes(pair: &Pair<'_>, steps: &mut Vec<Step>) -> Vec<u8> {
    let all = bytes_of(pair.input);
    let (early, late) = all.split_at(all.len().min(ROOM));
    let mut rest = early;
    while !rest.is_empty() {
        let mut seen = [false; 256];
        let mut kinds = 0;
        let len = rest.iter().position(|&byte| {
            kinds += usize::from(!std::mem::replace(&mut seen[usize::from(byte)], true));
            // 0 stands for none, so it is no stop character.
            kinds >= 254
        });
        let (piece, others) = rest.split_at(len.unwrap_or(rest.len()).max(1));
        let stop = (1..=255).find(|byte| !piece.contains(byte)).unwrap_or(STOP);
        let bytes = [piece, &[stop]].concat();
        send(working(pair.termios, stop), bytes, steps);
        rest = others;
    }
    late.to_vec()
}

/// Adds the writing of bytes of which the last is the stop character, the wait for it, and the start.
fn send(settings: Termios, bytes: Vec<u8>, steps: &mut Vec<Step>) {
    steps.extend([
        Step::Settings(settings),
        Step::Packet(true),
        Step::Write(Side::Master, bytes),
        Step::Await,
        Step::Packet(false),
    ]);
    restart(Side::Slave, steps);
}

/// ^S.
const STOP: u8 = 0x13;

/// Returns settings under which bytes pass as they are.
fn working(end: &Termios, stop: u8) -> Termios {
    let mut chars = vec![0; CHARS];
    chars[VMIN] = 1;
    chars[VSTOP] = stop;
    // The marks of lines go when ICANON changes; no other setting of input is to matter.
    let by_line = if is_by_line(end) { ICANON } else { 0 };
    Termios {
        flags: [IXON, 0, end.flags[2], by_line],
        line: end.line,
        speed: end.speed,
        chars,
    }
}

fn char_of(termios: &Termios, place: usize) -> u8 {
    termios.chars.get(place).copied().unwrap_or(0)
}

fn bytes_of(waiting: &[Waiting]) -> Vec<u8> {
    waiting
        .iter()
        .flat_map(|line| &line.bytes)
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical() -> Termios {
        let mut chars = vec![0; CHARS];
        chars[VSTOP] = STOP;
        Termios {
            flags: [IXON, 1, 0xbf, ICANON],
            chars,
            ..Termios::default()
        }
    }

    fn written(input: &[Waiting], termios: &Termios) -> Vec<Vec<u8>> {
        let pair = Pair {
            input,
            output: &[],
            flow: [Flow::Running; 2],
            termios,
            packet_mode: false,
            packet_status: 0,
        };
        let writes = steps(&pair).into_iter().filter_map(|step| match step {
            Step::Write(Side::Master, bytes) => Some(bytes),
            _ => None,
        });
        writes.collect()
    }

    fn waiting(bytes: &[u8], end: LineEnd) -> Waiting {
        Waiting {
            bytes: bytes.to_vec(),
            end,
        }
    }

    #[test]
    fn what_means_something_is_quoted_and_lines_end_where_they_ended() {
        let lines = [
            waiting(b"a\x13b\n", LineEnd::Byte),
            waiting(b"", LineEnd::Eof),
            waiting(b"c\n", LineEnd::Open),
        ];
        assert_eq!(
            written(&lines, &canonical()),
            [b"a\x16\x13b\n\x04c\x16\n\x13".to_vec()]
        );
    }

    #[test]
    fn bytes_of_every_value_are_sent_in_pieces() {
        let mut raw = canonical();
        raw.flags[3] = 0;
        let all: Vec<u8> = (0..=255).chain(0..=255).collect();
        let pieces = written(&[waiting(&all, LineEnd::Open)], &raw);
        assert!(pieces.len() > 1);
        let mut joined = Vec::new();
        for piece in &pieces {
            let (stop, bytes) = piece.split_last().expect("a stop character");
            assert!(!bytes.contains(stop) && *stop != 0);
            joined.extend_from_slice(bytes);
        }
        assert_eq!(joined, all);
    }

    #[test]
    fn an_empty_terminal_gets_its_settings_alone() {
        assert!(written(&[], &canonical()).is_empty());
    }
}
