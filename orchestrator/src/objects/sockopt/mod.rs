//! Options of `SOL_SOCKET`: those that sockets of any family have (`sk_getsockopt`, `sk_setsockopt`, `net/core/sock.c`). The
//! rooms of the families call this one.
//!
//! [`TABLE`] has every option that is a number and can be read and set. Those of another shape are the sizes of buffers and
//! time limits, the device that a socket is bound to (`SO_BINDTODEVICE`), and its filter. A filter that is a BPF program
//! (`SO_ATTACH_BPF`) cannot be read: a socket that has one is refused. What can be set and not be read, nobody keeps:
//! `SO_BUSY_POLL_BUDGET`, `SO_INQ`, `SO_CNX_ADVICE`, `SO_ATTACH_REUSEPORT_CBPF`.

pub mod collect;
pub mod image;
pub mod plan;

use crate::snapshot::SocketOptions;

/// An option that is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SockOpt {
    /// Its number.
    pub number: i32,
    /// How many bytes its value has; where there are two words, the first is the lower half of the number.
    pub bytes: usize,
    /// Its value in a new socket.
    pub default: u64,
}

const fn word(number: i32) -> SockOpt {
    with_default(number, 0)
}

const fn with_default(number: i32, default: u64) -> SockOpt {
    SockOpt {
        number,
        bytes: 4,
        default,
    }
}

const fn two_words(number: i32, default: u64) -> SockOpt {
    SockOpt {
        number,
        bytes: 8,
        default,
    }
}

/// `SO_TIMESTAMP_NEW`, `SO_TIMESTAMPNS_NEW`, `SO_TIMESTAMPING_NEW` (5.1).
const SO_TIMESTAMP_NEW: i32 = 63;
const SO_TIMESTAMPNS_NEW: i32 = 64;
pub(crate) const SO_TIMESTAMPING_NEW: i32 = 65;
/// `SO_BUF_LOCK` (5.14): bit 0 the size for sending, bit 1 for receiving was set by the program.
pub(crate) const SO_BUF_LOCK: i32 = 72;

/// All of them, in the order in which they are set. An option that a kernel or a family does not have is as in a new socket.
///
/// One flag says whether stamps are of the new form, for `SO_TIMESTAMP*` and `SO_TIMESTAMPING*` both; of the first four the
/// kernel tells one. What forbids changes of the filter comes last.
pub const TABLE: &[SockOpt] = &[
    word(libc::SO_DEBUG),
    word(libc::SO_REUSEADDR),
    word(libc::SO_DONTROUTE),
    word(libc::SO_BROADCAST),
    word(libc::SO_KEEPALIVE),
    word(libc::SO_OOBINLINE),
    word(libc::SO_NO_CHECK),
    word(libc::SO_PRIORITY),
    two_words(libc::SO_LINGER, 0),
    word(libc::SO_REUSEPORT),
    word(libc::SO_PASSCRED),
    with_default(libc::SO_RCVLOWAT, 1),
    word(libc::SO_PASSSEC),
    word(libc::SO_MARK),
    two_words(libc::SO_TIMESTAMPING, 0),
    two_words(SO_TIMESTAMPING_NEW, 0),
    word(libc::SO_TIMESTAMP),
    word(libc::SO_TIMESTAMPNS),
    word(SO_TIMESTAMP_NEW),
    word(SO_TIMESTAMPNS_NEW),
    word(libc::SO_RXQ_OVFL),
    word(libc::SO_WIFI_STATUS),
    with_default(libc::SO_PEEK_OFF, 0xffff_ffff),
    word(libc::SO_NOFCS),
    word(libc::SO_SELECT_ERR_QUEUE),
    word(libc::SO_BUSY_POLL),
    two_words(libc::SO_MAX_PACING_RATE, u64::MAX),
    with_default(libc::SO_INCOMING_CPU, 0xffff_ffff),
    // SO_ZEROCOPY, SO_TXTIME, SO_PREFER_BUSY_POLL, SO_RESERVE_MEM, SO_TXREHASH, SO_RCVMARK.
    word(60),
    two_words(61, 0),
    word(69),
    word(73),
    with_default(74, 1),
    word(75),
    // SO_PASSPIDFD (6.5), SO_RCVPRIORITY (6.14), SO_PASSRIGHTS (6.16).
    word(76),
    word(82),
    with_default(83, 1),
    word(libc::SO_LOCK_FILTER),
];

/// Options by which a message tells when it was sent.
const STAMPS: [i32; 4] = [
    libc::SO_TIMESTAMP,
    libc::SO_TIMESTAMPNS,
    SO_TIMESTAMP_NEW,
    SO_TIMESTAMPNS_NEW,
];

/// Returns the row of an option.
pub fn row(number: i32) -> Option<&'static SockOpt> {
    TABLE.iter().find(|row| row.number == number)
}

/// Returns whether messages of a socket tell when they were sent.
pub fn tells_times(options: &SocketOptions) -> bool {
    let mut values = options.values.iter();
    values.any(|(number, _)| STAMPS.contains(number))
}
