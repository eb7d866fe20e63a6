//! `/proc/PID/fdinfo/FD`: what the kernel says of an open file description (`fs/proc/fd.c` and each kind's `show_fdinfo`).

use super::locks::{Lock, parse_lock};
use super::text::{Line, lines};
use super::{Result, Subject};
use crate::sys::RemoteFd;

const FILE: &str = "fdinfo";

/// What all descriptions have, and what this kind says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdInfo {
    /// Position.
    pub pos: i64,
    /// `O_*`, with `O_CLOEXEC` of the descriptor.
    pub flags: u32,
    /// Mount, by its number in mountinfo.
    pub mnt_id: i32,
    /// Inode (5.14 and up).
    pub ino: Option<u64>,
    /// Descriptors that wait in a Unix socket (`scm_fds`, 5.5).
    pub in_flight: u32,
    /// What this kind says.
    pub kind: Kind,
    /// Locks held through it.
    pub locks: Vec<Lock>,
    /// Lines that no parser knows, whole: they tell of a kind, or of a state, that nobody looked at.
    pub other: Vec<Vec<u8>>,
}

/// What a kind of file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Nothing. An epoll or inotify instance that watches nothing is silent too.
    Plain,
    /// An eventfd.
    EventFd(EventFd),
    /// A signalfd: the set of its signals, bit n-1 = signal n.
    SignalFd(u64),
    /// A timerfd.
    TimerFd(TimerFd),
    /// An epoll instance, by what it watches.
    Epoll(Vec<EpollTarget>),
    /// An inotify instance, by what it watches.
    Inotify(Vec<InotifyWatch>),
    /// A fanotify instance.
    Fanotify(Fanotify),
    /// A process: its number in each pid namespace from the reader's inwards; -1 alone if it is gone.
    Pidfd(Vec<i32>),
    /// A BPF map; what else is told of it, `bpf` tells too.
    BpfMap {
        /// Bytes that it takes.
        memlock: u64,
        /// `BPF_MAP_FREEZE`.
        is_frozen: bool,
    },
}

/// An eventfd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventFd {
    /// Its counter.
    pub count: u64,
    /// Its number in the kernel (5.2 and up), the same for all descriptions of it.
    pub id: Option<i32>,
    /// `EFD_SEMAPHORE` (6.5 and up).
    pub semaphore: Option<bool>,
}

/// A timerfd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimerFd {
    /// Its clock.
    pub clock: i32,
    /// Expirations not yet read.
    pub ticks: u64,
    /// `TFD_TIMER_*`.
    pub settime_flags: u32,
    /// Time left, in nanoseconds; 0 = not armed.
    pub value_ns: u64,
    /// Period, in nanoseconds.
    pub interval_ns: u64,
}

/// What an epoll instance watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpollTarget {
    /// Descriptor as it was added; it may be closed, or another file's by now.
    pub tfd: i32,
    /// `EPOLL*`.
    pub events: u32,
    /// What `epoll_wait` hands back.
    pub data: u64,
    /// The file's position.
    pub pos: i64,
    /// The file's inode.
    pub ino: u64,
    /// Its device, as the kernel packs it (minor in the low 20 bits).
    pub sdev: u32,
}

/// What an inotify instance watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InotifyWatch {
    /// Watch descriptor.
    pub wd: i32,
    /// Inode.
    pub ino: u64,
    /// Its device, as the kernel packs it.
    pub sdev: u32,
    /// `IN_*`.
    pub mask: u32,
    /// File handle, if the file system has them: type and bytes.
    pub handle: Option<(u32, Vec<u8>)>,
}

/// A fanotify instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fanotify {
    /// Flags of `fanotify_init`.
    pub flags: u32,
    /// Flags that the descriptors in its events are opened with.
    pub event_flags: u32,
    /// What it watches.
    pub marks: Vec<FanotifyMark>,
}

/// What a fanotify instance watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanotifyMark {
    /// What it is on.
    pub on: Marked,
    /// `FAN_MARK_*`.
    pub mflags: u32,
    /// Events.
    pub mask: u32,
    /// Events that are ignored.
    pub ignored_mask: u32,
}

/// What a mark is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marked {
    /// An inode, its device, and its handle.
    Inode(u64, u32, Option<(u32, Vec<u8>)>),
    /// A mount, by its number in mountinfo.
    Mount(u32),
    /// A file system, by its device.
    FileSystem(u32),
}

/// Reads the fdinfo of a descriptor.
pub fn read(of: impl Into<Subject>, fd: RemoteFd) -> Result<FdInfo> {
    let mut bytes = Vec::new();
    read_with(of, fd, &mut bytes)
}

/// Reads the fdinfo of a descriptor by way of `buffer`, to be used again for the next one.
pub fn read_with(of: impl Into<Subject>, fd: RemoteFd, buffer: &mut Vec<u8>) -> Result<FdInfo> {
    of.into().read_into(&format!("fdinfo/{fd}"), buffer)?;
    parse(buffer)
}

/// Parses the bytes of an fdinfo.
pub fn parse(bytes: &[u8]) -> Result<FdInfo> {
    let mut info = FdInfo {
        pos: 0,
        flags: 0,
        mnt_id: 0,
        ino: None,
        in_flight: 0,
        kind: Kind::Plain,
        locks: Vec::new(),
        other: Vec::new(),
    };
    let mut has_flags = false;
    for whole in lines(FILE, bytes) {
        let mut line = whole;
        let key = line.until(b':', "a key and a colon")?;
        match key {
            b"pos" => info.pos = line.number("a position")?,
            b"flags" => {
                info.flags = line.octal("flags")?;
                has_flags = true;
            }
            b"mnt_id" => info.mnt_id = line.number("a mount")?,
            b"ino" => info.ino = Some(line.number("an inode")?),
            b"scm_fds" => {
                line.skip_blanks();
                info.in_flight = line.number("a number of descriptors")?;
            }
            b"lock" => info.locks.push(parse_lock(&mut line)?),
            _ if of_kind(&mut info.kind, key, &mut line)? => {}
            _ => info.other.push(whole.rest().to_vec()),
        }
    }
    if has_flags {
        Ok(info)
    } else {
        Err(Line::new(FILE, 1, bytes).error("flags"))
    }
}

/// Reads a line that belongs to a kind, and returns whether it does.
fn of_kind(kind: &mut Kind, key: &[u8], line: &mut Line<'_>) -> Result<bool> {
    match key {
        b"eventfd-count" => eventfd(kind).count = line.hex("a count")?,
        b"eventfd-id" => eventfd(kind).id = Some(line.number("an id")?),
        b"eventfd-semaphore" => eventfd(kind).semaphore = Some(line.number::<u8>("0 or 1")? != 0),
        b"sigmask" => *kind = Kind::SignalFd(line.hex("a signal set")?),
        b"clockid" => timerfd(kind).clock = line.number("a clock")?,
        b"ticks" => timerfd(kind).ticks = line.number("a number of ticks")?,
        b"settime flags" => timerfd(kind).settime_flags = line.octal("flags")?,
        b"it_value" => timerfd(kind).value_ns = time(line)?,
        b"it_interval" => timerfd(kind).interval_ns = time(line)?,
        b"tfd" => {
            let target = epoll_target(line)?;
            match kind {
                Kind::Epoll(targets) => targets.push(target),
                _ => *kind = Kind::Epoll(vec![target]),
            }
        }
        b"inotify wd" => {
            let watch = inotify_watch(line)?;
            match kind {
                Kind::Inotify(watches) => watches.push(watch),
                _ => *kind = Kind::Inotify(vec![watch]),
            }
        }
        b"fanotify flags" => {
            fanotify(kind).flags = line.hex32("flags")?;
            self::key(line, b"event-flags:")?;
            fanotify(kind).event_flags = line.hex32("flags")?;
        }
        b"fanotify ino" => {
            let ino = line.hex("an inode")?;
            self::key(line, b"sdev:")?;
            let sdev = line.hex32("a device")?;
            let mark = fanotify_mark(line, Marked::Inode(ino, sdev, None))?;
            fanotify(kind).marks.push(mark);
        }
        b"fanotify mnt_id" => {
            let mount = line.hex32("a mount")?;
            let mark = fanotify_mark(line, Marked::Mount(mount))?;
            fanotify(kind).marks.push(mark);
        }
        b"fanotify sdev" => {
            let sdev = line.hex32("a device")?;
            let mark = fanotify_mark(line, Marked::FileSystem(sdev))?;
            fanotify(kind).marks.push(mark);
        }
        b"memlock" => *bpf_map(kind).0 = line.number("a number of bytes")?,
        b"frozen" => *bpf_map(kind).1 = line.number::<u8>("0 or 1")? != 0,
        b"map_type" | b"key_size" | b"value_size" | b"max_entries" | b"map_flags"
        | b"map_extra" | b"map_id" => {
            bpf_map(kind);
        }
        b"Pid" if *kind == Kind::Plain => *kind = Kind::Pidfd(line.numbers("pids")?),
        b"NSpid" => *kind = Kind::Pidfd(line.numbers("pids")?),
        // Of the master of a pseudo-terminal, which is asked itself.
        b"tty-index" => {}
        // Of /dev/net/tun, which is asked itself.
        b"iff" => {}
        _ => return Ok(false),
    }
    Ok(true)
}

fn eventfd(kind: &mut Kind) -> &mut EventFd {
    if !matches!(kind, Kind::EventFd(_)) {
        *kind = Kind::EventFd(EventFd::default());
    }
    match kind {
        Kind::EventFd(eventfd) => eventfd,
        _ => unreachable!("it was made one above"),
    }
}

fn fanotify(kind: &mut Kind) -> &mut Fanotify {
    if !matches!(kind, Kind::Fanotify(_)) {
        *kind = Kind::Fanotify(Fanotify::default());
    }
    match kind {
        Kind::Fanotify(fanotify) => fanotify,
        _ => unreachable!("it was made one above"),
    }
}

fn bpf_map(kind: &mut Kind) -> (&mut u64, &mut bool) {
    if !matches!(kind, Kind::BpfMap { .. }) {
        *kind = Kind::BpfMap {
            memlock: 0,
            is_frozen: false,
        };
    }
    match kind {
        Kind::BpfMap { memlock, is_frozen } => (memlock, is_frozen),
        _ => unreachable!("it was made one above"),
    }
}

fn timerfd(kind: &mut Kind) -> &mut TimerFd {
    if !matches!(kind, Kind::TimerFd(_)) {
        *kind = Kind::TimerFd(TimerFd::default());
    }
    match kind {
        Kind::TimerFd(timerfd) => timerfd,
        _ => unreachable!("it was made one above"),
    }
}

/// Parses `(seconds, nanoseconds)`.
fn time(line: &mut Line<'_>) -> Result<u64> {
    let expected = "(seconds, nanoseconds)";
    line.skip_blanks();
    line.expect(b"(", expected)?;
    let secs: u64 = line.number(expected)?;
    line.expect(b",", expected)?;
    let nanos = line.number(expected)?;
    line.expect(b")", expected)?;
    secs.checked_mul(1_000_000_000)
        .and_then(|time| time.checked_add(nanos))
        .ok_or_else(|| line.error(expected))
}

/// Parses what follows `tfd:`.
fn epoll_target(line: &mut Line<'_>) -> Result<EpollTarget> {
    let tfd = line.number("a descriptor")?;
    key(line, b"events:")?;
    let events = line.hex32("events")?;
    key(line, b"data:")?;
    let data = line.hex("data")?;
    key(line, b"pos:")?;
    let pos = line.number("a position")?;
    key(line, b"ino:")?;
    let ino = line.hex("an inode")?;
    key(line, b"sdev:")?;
    let sdev = line.hex32("a device")?;
    line.end("the end of the line")?;
    Ok(EpollTarget {
        tfd,
        events,
        data,
        pos,
        ino,
        sdev,
    })
}

/// Parses what follows `inotify wd:`.
fn inotify_watch(line: &mut Line<'_>) -> Result<InotifyWatch> {
    let wd = line.hex32("a watch descriptor")? as i32;
    key(line, b"ino:")?;
    let ino = line.hex("an inode")?;
    key(line, b"sdev:")?;
    let sdev = line.hex32("a device")?;
    key(line, b"mask:")?;
    let mask = line.hex32("a mask")?;
    key(line, b"ignored_mask:")?;
    line.hex32("a mask")?;
    let handle = handle(line)?;
    Ok(InotifyWatch {
        wd,
        ino,
        sdev,
        mask,
        handle,
    })
}

/// Parses what follows the object of a mark.
fn fanotify_mark(line: &mut Line<'_>, on: Marked) -> Result<FanotifyMark> {
    key(line, b"mflags:")?;
    let mflags = line.hex32("flags")?;
    key(line, b"mask:")?;
    let mask = line.hex32("a mask")?;
    key(line, b"ignored_mask:")?;
    let ignored_mask = line.hex32("a mask")?;
    let on = match on {
        Marked::Inode(ino, sdev, _) => Marked::Inode(ino, sdev, handle(line)?),
        on => on,
    };
    Ok(FanotifyMark {
        on,
        mflags,
        mask,
        ignored_mask,
    })
}

/// Parses a file handle, if there is one: type and bytes.
fn handle(line: &mut Line<'_>) -> Result<Option<(u32, Vec<u8>)>> {
    line.skip_blanks();
    if !line.skip(b"fhandle-bytes:") {
        return Ok(None);
    }
    let len = line.hex32("a length")?;
    key(line, b"fhandle-type:")?;
    let kind = line.hex32("a type")?;
    key(line, b"f_handle:")?;
    Ok(Some((kind, hex_bytes(line, len as usize)?)))
}

fn key(line: &mut Line<'_>, key: &'static [u8]) -> Result<()> {
    line.skip_blanks();
    line.expect(key, str::from_utf8(key).unwrap_or("a key"))
}

/// Parses `len` bytes of two digits each.
fn hex_bytes(line: &mut Line<'_>, len: usize) -> Result<Vec<u8>> {
    let digits = line.word();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    bytes
        .filter(|bytes| bytes.len() == len)
        .ok_or_else(|| line.error("a file handle of the length said"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Pid;
    use std::os::fd::AsRawFd;

    const HEAD: &str = "pos:\t5\nflags:\t02004002\nmnt_id:\t15\nino:\t1053\n";

    fn kind(text: &str) -> Kind {
        parse(format!("{HEAD}{text}").as_bytes())
            .expect("parses")
            .kind
    }

    #[test]
    fn common_lines_are_read() {
        let info = parse(HEAD.as_bytes()).expect("parses");
        assert_eq!((info.pos, info.flags), (5, 0o2_004_002));
        assert_eq!((info.mnt_id, info.ino), (15, Some(1053)));
        assert_eq!(info.kind, Kind::Plain);
        assert!(parse(b"pos:\t0\n").is_err());
        let info = parse(b"pos:\t0\nflags:\t00\nmnt_id:\t1\nscm_fds: 3\nnew: 4\n").expect("parses");
        assert_eq!((info.in_flight, info.ino), (3, None));
        assert_eq!(info.other, [b"new: 4".to_vec()]);
    }

    #[test]
    fn counters_signals_and_timers_are_read() {
        let event = kind("eventfd-count:               1f\neventfd-id: 12\neventfd-semaphore: 1\n");
        let wanted = EventFd {
            count: 0x1f,
            id: Some(12),
            semaphore: Some(true),
        };
        assert_eq!(event, Kind::EventFd(wanted));
        assert_eq!(kind("sigmask:\t0000000000000200\n"), Kind::SignalFd(0x200));
        let timer = kind(
            "clockid: 7\nticks: 3\nsettime flags: 03\nit_value: (1, 500000000)\nit_interval: (0, 7)\n",
        );
        let wanted = TimerFd {
            clock: 7,
            ticks: 3,
            settime_flags: 3,
            value_ns: 1_500_000_000,
            interval_ns: 7,
        };
        assert_eq!(timer, Kind::TimerFd(wanted));
    }

    #[test]
    fn what_is_watched_is_read() {
        let epoll = kind(
            "tfd:        5 events:       1d data: ffffffffffffffff  pos:-1 ino:a sdev:c\n\
             tfd:        6 events: 80000001 data:                0  pos:0 ino:b sdev:fe00000\n",
        );
        let Kind::Epoll(targets) = epoll else {
            panic!("{epoll:?}");
        };
        assert_eq!((targets[0].tfd, targets[0].events), (5, 0x1d));
        assert_eq!((targets[0].data, targets[0].pos), (u64::MAX, -1));
        assert_eq!((targets[1].ino, targets[1].sdev), (11, 0xfe0_0000));
        let inotify = kind(
            "inotify wd:1 ino:1a sdev:fe00000 mask:fce ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:1a0000000f00abcd\n\
             inotify wd:2 ino:2 sdev:1 mask:2 ignored_mask:0 \n",
        );
        let Kind::Inotify(watches) = inotify else {
            panic!("{inotify:?}");
        };
        let handle = vec![0x1a, 0, 0, 0, 0xf, 0, 0xab, 0xcd];
        assert_eq!(watches[0].handle, Some((1, handle)));
        assert_eq!((watches[1].wd, watches[1].handle.is_none()), (2, true));
        let fanotify = kind(
            "fanotify flags:23 event-flags:88002\nfanotify sdev:fe00000 mflags:0 mask:18 ignored_mask:0\n\
             fanotify mnt_id:1b mflags:0 mask:20 ignored_mask:0\n\
             fanotify ino:3c4a7 sdev:fe00000 mflags:40 mask:48000002 ignored_mask:1 fhandle-bytes:2 fhandle-type:1 f_handle:a7c4\n",
        );
        let Kind::Fanotify(fanotify) = fanotify else {
            panic!("{fanotify:?}");
        };
        assert_eq!((fanotify.flags, fanotify.event_flags), (0x23, 0x88002));
        assert_eq!(fanotify.marks[0].on, Marked::FileSystem(0xfe0_0000));
        assert_eq!(fanotify.marks[1].on, Marked::Mount(0x1b));
        let last = &fanotify.marks[2];
        assert_eq!(
            last.on,
            Marked::Inode(0x3c4a7, 0xfe0_0000, Some((1, vec![0xa7, 0xc4])))
        );
        assert_eq!(
            (last.mflags, last.mask, last.ignored_mask),
            (0x40, 0x4800_0002, 1)
        );
        assert_eq!(kind("Pid:\t9\nNSpid:\t9\t2\n"), Kind::Pidfd(vec![9, 2]));
    }

    #[test]
    fn locks_are_read() {
        let text = format!("{HEAD}lock:\t1: FLOCK  ADVISORY  WRITE 99 fe:00:1053 0 EOF\n");
        let info = parse(text.as_bytes()).expect("parses");
        assert_eq!((info.locks.len(), info.locks[0].pid), (1, 99));
    }

    #[test]
    fn our_own_can_be_read() {
        let file = std::fs::File::open("/dev/null").expect("open");
        let info = read(Pid::this(), RemoteFd(file.as_raw_fd())).expect("fdinfo");
        assert_ne!(info.flags & libc::O_CLOEXEC as u32, 0);
        assert!(info.ino.is_some() && info.other.is_empty());
    }
}
