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
    let key: i32 = column(line)?;
    let id = column(line)?;
    line.skip_blanks();
    let mode = line.octal("permissions")?;
    let (size, creator) = (column(line)?, column(line)?);
    let _last: i64 = column(line)?;
    let attached = column(line)?;
    let owners = [column(line)?, column(line)?, column(line)?, column(line)?];
    let _times: [i64; 2] = [column(line)?, column(line)?];
    Ok(Shm {
        key: key as u32,
        id,
        mode,
        size,
        creator,
        attached,
        owners,
        changed: column(line)?,
    })
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
    fn our_own_can_be_read() {
        read_shm().expect("the table");
    }
}
