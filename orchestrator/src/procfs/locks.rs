//! `/proc/locks`: file locks and leases of the reader's pid namespace (`lock_get_status` in `fs/locks.c`).

use super::text::{Line, lines};
use super::{Result, read_into};
use std::path::Path;

const FILE: &str = "locks";

/// What kind of lock it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// `fcntl(F_SETLK)`: of a process.
    Posix,
    /// `fcntl(F_OFD_SETLK)`: of an open file description.
    Ofd,
    /// `flock`.
    Flock,
    /// `fcntl(F_SETLEASE)`, being broken or not.
    Lease {
        /// Whether another process waits for its end.
        breaking: bool,
    },
    /// One that this program does not know.
    Other,
}

/// What a lock allows its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// To read.
    Read,
    /// To write.
    Write,
    /// Nothing more: a lease that was given up.
    Unlock,
}

/// A lock or a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// Number in the list.
    pub id: u64,
    /// Whether it is waited for, not held.
    pub blocked: bool,
    /// Its kind.
    pub kind: LockKind,
    /// What it allows.
    pub mode: LockMode,
    /// Who took it; -1 for [`LockKind::Ofd`].
    pub pid: i32,
    /// Device of the file system: major and minor number.
    pub dev: (u32, u32),
    /// Inode.
    pub ino: u64,
    /// First byte.
    pub start: u64,
    /// Last byte; `None` = to the end of the file, wherever that will be.
    pub end: Option<u64>,
}

/// Reads `/proc/locks`.
pub fn read() -> Result<Vec<Lock>> {
    let mut bytes = Vec::new();
    read_into(Path::new("/proc/locks"), &mut bytes)?;
    parse(&bytes)
}

/// Parses the bytes of `/proc/locks`.
pub fn parse(bytes: &[u8]) -> Result<Vec<Lock>> {
    lines(FILE, bytes)
        .map(|mut line| parse_lock(&mut line))
        .collect()
}

/// Parses one lock, as it stands in an fdinfo too.
pub(super) fn parse_lock(line: &mut Line<'_>) -> Result<Lock> {
    let id = line.number("a number")?;
    line.expect(b":", "a colon")?;
    line.skip_blanks();
    let blocked = line.skip(b"->");
    let kind = line.word();
    let state = line.word();
    let kind = match kind {
        b"POSIX" => LockKind::Posix,
        b"OFDLCK" => LockKind::Ofd,
        b"FLOCK" => LockKind::Flock,
        b"LEASE" => LockKind::Lease {
            breaking: state == b"BREAKING",
        },
        _ => LockKind::Other,
    };
    let mode = match line.word() {
        b"READ" => LockMode::Read,
        b"WRITE" => LockMode::Write,
        b"UNLCK" => LockMode::Unlock,
        _ => return Err(line.error("READ, WRITE or UNLCK")),
    };
    let pid = line.number("a pid")?;
    let (dev, ino) = file(line)?;
    let start = line.number("the first byte")?;
    line.skip_blanks();
    let end = match line.skip(b"EOF") {
        true => None,
        false => Some(line.number("the last byte or EOF")?),
    };
    Ok(Lock {
        id,
        blocked,
        kind,
        mode,
        pid,
        dev,
        ino,
        start,
        end,
    })
}

/// Parses `major:minor:inode`, or `<none>:0` for a lock without a file.
fn file(line: &mut Line<'_>) -> Result<((u32, u32), u64)> {
    line.skip_blanks();
    if line.skip(b"<none>:0") {
        return Ok(((0, 0), 0));
    }
    let major = line.hex32("a device")?;
    line.expect(b":", "a colon")?;
    let minor = line.hex32("a device")?;
    line.expect(b":", "a colon")?;
    Ok(((major, minor), line.number("an inode")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn every_kind_is_read() {
        let locks = parse(
            b"1: POSIX  ADVISORY  WRITE 727 fe:10:1234 5 9\n\
              1: -> POSIX  ADVISORY  READ 728 fe:10:1234 0 EOF\n\
              2: OFDLCK ADVISORY  READ -1 00:2d:7 0 EOF\n\
              3: FLOCK  ADVISORY  WRITE 9 fe:00:8 0 EOF\n\
              4: LEASE  ACTIVE    READ  9 fe:00:8 0 EOF\n\
              5: LEASE  BREAKING  UNLCK 9 fe:00:8 0 EOF\n",
        );
        let locks = locks.expect("parses");
        assert_eq!(
            (locks[0].kind, locks[0].mode),
            (LockKind::Posix, LockMode::Write)
        );
        assert_eq!((locks[0].start, locks[0].end), (5, Some(9)));
        assert_eq!((locks[0].dev, locks[0].ino), ((0xfe, 0x10), 1234));
        assert!(locks[1].blocked && !locks[0].blocked);
        assert_eq!((locks[2].kind, locks[2].pid), (LockKind::Ofd, -1));
        assert_eq!((locks[3].kind, locks[3].end), (LockKind::Flock, None));
        assert_eq!(locks[4].kind, LockKind::Lease { breaking: false });
        assert_eq!(locks[5].kind, LockKind::Lease { breaking: true });
        assert_eq!(locks[5].mode, LockMode::Unlock);
        assert!(parse(b"1: POSIX  ADVISORY  MAYBE 727 fe:10:1234 5 9\n").is_err());
    }

    #[test]
    fn a_lock_of_ours_is_listed() {
        let file = tempfile::tempfile().expect("file");
        file.lock().expect("lock");
        let ino = file.metadata().expect("stat").ino();
        let found = read()
            .expect("locks")
            .into_iter()
            .find(|lock| lock.ino == ino);
        let found = found.expect("listed");
        assert_eq!(
            (found.kind, found.pid),
            (LockKind::Flock, std::process::id() as i32)
        );
    }
}
