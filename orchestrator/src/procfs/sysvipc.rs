//! `/proc/sysvipc`: objects of System V in the IPC namespace of who reads (`sysvipc_shm_proc_show`, `ipc/shm.c`).

use super::text::{Line, lines};
use super::{Result, read_into};

/// A segment of shared memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shm {
    /// Key; 0 = private.
    pub key: u32,
    /// Id.
    pub id: u32,
    /// Permissions, `SHM_DEST`, `SHM_LOCKED`.
    pub mode: u32,
    /// Size in bytes.
    pub size: u64,
    /// Process that made it.
    pub creator: i32,
    /// Attachments: areas of memory.
    pub attached: u64,
    /// Owner, group, and user and group of who made it.
    pub owners: [u32; 4],
    /// Last change of owner or mode, in seconds since 1970.
    pub changed: i64,
}

/// Reads the segments.
pub fn read_shm() -> Result<Vec<Shm>> {
    let mut bytes = Vec::new();
    read_into("/proc/sysvipc/shm".as_ref(), &mut bytes)?;
    parse_shm(&bytes)
}

/// Parses the bytes of `/proc/sysvipc/shm`.
pub fn parse_shm(bytes: &[u8]) -> Result<Vec<Shm>> {
    let all = lines("/proc/sysvipc/shm", bytes).skip(1);
    all.map(|mut line| shm(&mut line)).collect()
}

fn shm(line: &mut Line<'_>) -> Result<Shm> {
    let (key, id, mode) = begin(line)?;
    let (size, creator) = (column(line)?, column(line)?);
    let _last: i64 = column(line)?;
    let attached = column(line)?;
    let owners = owners(line)?;
    let _times: [i64; 2] = [column(line)?, column(line)?];
    Ok(Shm {
        key,
        id,
        mode,
        size,
        creator,
        attached,
        owners,
        changed: column(line)?,
    })
}

/// A set of semaphores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sem {
    /// Key; 0 = private.
    pub key: u32,
    /// Id.
    pub id: u32,
    /// Permissions.
    pub mode: u32,
    /// Number of semaphores.
    pub count: u32,
    /// Owner, group, and user and group of who made it.
    pub owners: [u32; 4],
}

/// Reads the sets of semaphores.
pub fn read_sem() -> Result<Vec<Sem>> {
    let mut bytes = Vec::new();
    read_into("/proc/sysvipc/sem".as_ref(), &mut bytes)?;
    parse_sem(&bytes)
}

/// Parses the bytes of `/proc/sysvipc/sem`.
pub fn parse_sem(bytes: &[u8]) -> Result<Vec<Sem>> {
    let all = lines("/proc/sysvipc/sem", bytes).skip(1);
    all.map(|mut line| {
        let (key, id, mode) = begin(&mut line)?;
        Ok(Sem {
            key,
            id,
            mode,
            count: column(&mut line)?,
            owners: owners(&mut line)?,
        })
    })
    .collect()
}

/// A queue of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Msg {
    /// Key; 0 = private.
    pub key: u32,
    /// Id.
    pub id: u32,
    /// Permissions.
    pub mode: u32,
    /// Bytes of all messages.
    pub bytes: u64,
    /// Number of messages.
    pub count: u32,
    /// Owner, group, and user and group of who made it.
    pub owners: [u32; 4],
}

/// Reads the queues of messages.
pub fn read_msg() -> Result<Vec<Msg>> {
    let mut bytes = Vec::new();
    read_into("/proc/sysvipc/msg".as_ref(), &mut bytes)?;
    parse_msg(&bytes)
}

/// Parses the bytes of `/proc/sysvipc/msg`.
pub fn parse_msg(bytes: &[u8]) -> Result<Vec<Msg>> {
    let all = lines("/proc/sysvipc/msg", bytes).skip(1);
    all.map(|mut line| {
        let (key, id, mode) = begin(&mut line)?;
        let bytes = column(&mut line)?;
        let count = column(&mut line)?;
        let _last: [i64; 2] = [column(&mut line)?, column(&mut line)?];
        Ok(Msg {
            key,
            id,
            mode,
            bytes,
            count,
            owners: owners(&mut line)?,
        })
    })
    .collect()
}

/// Reads the numbers of a file of `/proc/sys`: of the reader's IPC namespace, where `name` is of one.
pub fn read_settings(name: &str) -> Result<Vec<u64>> {
    let mut bytes = Vec::new();
    read_into(format!("/proc/sys/{name}").as_ref(), &mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let numbers = text
        .split_whitespace()
        .map(|word| word.parse().unwrap_or(0));
    Ok(numbers.collect())
}

fn begin(line: &mut Line<'_>) -> Result<(u32, u32, u32)> {
    let key: i32 = column(line)?;
    let id = column(line)?;
    line.skip_blanks();
    Ok((key as u32, id, line.octal("permissions")?))
}

fn owners(line: &mut Line<'_>) -> Result<[u32; 4]> {
    Ok([column(line)?, column(line)?, column(line)?, column(line)?])
}

fn column<T: TryFrom<i128>>(line: &mut Line<'_>) -> Result<T> {
    line.skip_blanks();
    line.number("a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_read() {
        let text = b"       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n      4660          5  3640                 12388   100   101      2     1     2     3     4 1796101491          0 1796101490                  8192                     0\n       -17      32770   600                  4096   100   101      0     0     0     0     0          0          0 1796101492                     0                     0\n";
        let all = parse_shm(text).expect("parses");
        let wanted = Shm {
            key: 4660,
            id: 5,
            mode: 0o3640,
            size: 12388,
            creator: 100,
            attached: 2,
            owners: [1, 2, 3, 4],
            changed: 1_796_101_490,
        };
        assert_eq!(all[0], wanted);
        assert_eq!((all[1].key, all[1].id), (-17_i32 as u32, 32770));
    }

    #[test]
    fn semaphores_and_queues_are_read() {
        let text = b"       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n  -1 32769 644 3 1 2 3 4 0 1796101490\n";
        let wanted = Sem {
            key: u32::MAX,
            id: 32769,
            mode: 0o644,
            count: 3,
            owners: [1, 2, 3, 4],
        };
        assert_eq!(parse_sem(text).expect("parses"), [wanted]);
        let text = b"       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n  7 5 600 12 2 100 0 1 2 3 4 0 0 0\n";
        let wanted = Msg {
            key: 7,
            id: 5,
            mode: 0o600,
            bytes: 12,
            count: 2,
            owners: [1, 2, 3, 4],
        };
        assert_eq!(parse_msg(text).expect("parses"), [wanted]);
    }

    #[test]
    fn our_own_can_be_read() {
        read_shm().expect("the table");
    }
}
