//! What a connection of TCP is in the middle of: read in the mode that the kernel has for it (`TCP_REPAIR`, Linux 3.5; tcp(7) of the
//! kernel's `Documentation/networking`). In that mode a socket sends no data, and is closed without a word to the other end.
//!
//! The mode forces `SO_REUSEADDR`, and its end takes that away: the program's own is put back both times, so that whoever ends the
//! mode finds it. It is left as soon as all is read: the network is kept away from the connection meanwhile, so that nothing changes.

use super::options::SOL_TCP;
use crate::snapshot::{TcpState, TcpStream};
use crate::sys::{self, fd, socket};
use std::os::fd::{AsFd, BorrowedFd};

/// The mode (`linux/tcp.h`).
pub const TCP_REPAIR: i32 = 19;
/// Which queue is meant by what follows.
pub const TCP_REPAIR_QUEUE: i32 = 20;
/// The number at an end of a queue.
pub const TCP_QUEUE_SEQ: i32 = 21;
/// What both ends have agreed on.
pub const TCP_REPAIR_OPTIONS: i32 = 22;
/// What the clock for timestamps shows.
pub const TCP_TIMESTAMP: i32 = 24;
/// The windows.
pub const TCP_REPAIR_WINDOW: i32 = 29;
/// Value of `TCP_REPAIR` that enters it.
pub const ON: i32 = 1;
/// Leaves it, and asks the other end whether it is there.
pub const OFF: i32 = 0;
/// Leaves it without a word.
pub const OFF_SILENTLY: i32 = -1;
/// Value of `TCP_REPAIR_QUEUE`: none.
pub const NO_QUEUE: i32 = 0;
/// What has come.
pub const RECEIVE_QUEUE: i32 = 1;
/// What was written.
pub const SEND_QUEUE: i32 = 2;
/// Bit of `tcpi_options`: timestamps.
pub const TIMESTAMPS: u8 = 1;
/// Selective acknowledgements.
pub const SACK: u8 = 2;
/// Scaled windows.
pub const SCALED: u8 = 4;
/// Where options and scales are in `struct tcp_info`.
const OPTIONS_AT: usize = 5;
const SCALES_AT: usize = 6;
/// Most bytes of a queue: buffers are counted with 31 bits.
const MAX_QUEUE: usize = 1 << 30;

/// A socket in the mode of repair, which it leaves when this goes.
#[derive(Debug)]
struct Repaired<'a> {
    own: BorrowedFd<'a>,
    peek_offset: i32,
}

impl<'a> Repaired<'a> {
    fn enter(own: BorrowedFd<'a>) -> sys::Result<Self> {
        let peek_offset = socket::option(own, libc::SO_PEEK_OFF).unwrap_or(-1);
        set_mode(own, ON)?;
        let repaired = Self { own, peek_offset };
        if peek_offset >= 0 {
            socket::set_option(own, libc::SO_PEEK_OFF, -1)?;
        }
        Ok(repaired)
    }
}

impl Drop for Repaired<'_> {
    fn drop(&mut self) {
        if let Err(error) = set_mode(self.own, OFF_SILENTLY) {
            tracing::error!("a connection stays as it is while it is read: {error}");
        }
        if self.peek_offset >= 0 {
            let _ = socket::set_option(self.own, libc::SO_PEEK_OFF, self.peek_offset);
        }
    }
}

/// Returns whether the mode is there, and for us.
pub fn is_known() -> bool {
    let socket = socket::make(libc::AF_INET, libc::SOCK_STREAM, 0);
    socket.is_ok_and(|socket| silence(&socket).is_ok())
}

/// Has a socket be closed without a word to its other end.
///
/// # Errors
/// The kernel does not let us.
pub fn silence(own: impl AsFd) -> sys::Result<()> {
    set_mode(own.as_fd(), ON)
}

/// Takes a connection out of the mode that somebody has left in it, and returns whether it was in it.
///
/// # Errors
/// The kernel does not let us.
pub fn mend(own: impl AsFd) -> sys::Result<bool> {
    let own = own.as_fd();
    let is_left = number(own, TCP_REPAIR)? == ON as u32;
    if is_left {
        set_mode(own, OFF_SILENTLY)?;
    }
    Ok(is_left)
}

/// Enters or leaves the mode, with the program's own `SO_REUSEADDR`.
fn set_mode(own: BorrowedFd<'_>, mode: i32) -> sys::Result<()> {
    let is_reused = socket::option(own, libc::SO_REUSEADDR)?;
    set(own, TCP_REPAIR, mode)?;
    socket::set_option(own, libc::SO_REUSEADDR, is_reused)
}

fn set(own: BorrowedFd<'_>, option: i32, value: i32) -> sys::Result<()> {
    socket::set_option_of(own, SOL_TCP, option, &value.to_ne_bytes())
}

fn number(own: BorrowedFd<'_>, option: i32) -> sys::Result<u32> {
    let mut bytes = [0; 4];
    socket::option_of(own, SOL_TCP, option, &mut bytes)?;
    Ok(u32::from_ne_bytes(bytes))
}

/// Reads what a connection is in the middle of.
///
/// # Errors
/// Why it cannot be read.
pub fn read(own: impl AsFd, state: TcpState) -> Result<TcpStream, String> {
    let own = own.as_fd();
    let failed = |error: sys::Error| format!("it cannot be read: {error}");
    let _repaired = Repaired::enter(own).map_err(failed)?;
    let mut info = [0; SCALES_AT + 1];
    socket::option_of(own, SOL_TCP, libc::TCP_INFO, &mut info).map_err(failed)?;
    let mut stream = TcpStream {
        options: info[OPTIONS_AT] & (TIMESTAMPS | SACK | SCALED),
        send_scale: info[SCALES_AT] & 0xf,
        receive_scale: info[SCALES_AT] >> 4,
        mss: number(own, libc::TCP_MAXSEG).map_err(failed)?,
        timestamp: number(own, TCP_TIMESTAMP).ok(),
        window: window(own),
        ..TcpStream::default()
    };
    if state == TcpState::SynSent {
        return Ok(stream);
    }
    set(own, TCP_REPAIR_QUEUE, RECEIVE_QUEUE).map_err(failed)?;
    stream.receive_next = number(own, TCP_QUEUE_SEQ).map_err(failed)?;
    let received = fd::readable_bytes(own).map_err(failed)?;
    stream.received = queue(own, received)?;
    set(own, TCP_REPAIR_QUEUE, SEND_QUEUE).map_err(failed)?;
    stream.send_next = number(own, TCP_QUEUE_SEQ).map_err(failed)?;
    let [sent, unsent] = [
        socket::unread_by_others(own).map_err(failed)?,
        socket::unsent(own).map_err(failed)?,
    ];
    // The end of what is sent counts until the other side has confirmed it, and is no byte.
    let end = |bytes: usize| usize::from(state.has_sent_end() && bytes > 0);
    stream.sent = queue(own, sent - end(sent))?;
    stream.unsent = (unsent - end(unsent)) as u32;
    Ok(stream)
}

fn window(own: BorrowedFd<'_>) -> Option<[u32; 5]> {
    let mut bytes = [0; 20];
    let len = socket::option_of(own, SOL_TCP, TCP_REPAIR_WINDOW, &mut bytes).ok()?;
    let mut words = bytes.chunks_exact(4);
    let mut word = || {
        let bytes = words.next().and_then(|word| word.try_into().ok());
        bytes.map_or(0, u32::from_ne_bytes)
    };
    (len == bytes.len()).then(|| [word(), word(), word(), word(), word()])
}

/// Looks at so many bytes of the queue that was chosen.
fn queue(own: BorrowedFd<'_>, len: usize) -> Result<Vec<u8>, String> {
    if len > MAX_QUEUE {
        return Err(format!("{len} bytes wait in it"));
    }
    let mut bytes = vec![0; len];
    if len == 0 {
        return Ok(bytes);
    }
    let seen = socket::look(own, &mut bytes);
    let seen = seen.map_err(|error| format!("what waits in it cannot be read: {error}"))?;
    match seen == len {
        true => Ok(bytes),
        false => Err(format!("it holds {len} bytes and shows {seen}")),
    }
}
