//! BPF maps: what they are, and what is in them.

use super::{Error, Result, check};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Commands of `bpf` (`enum bpf_cmd`, `include/uapi/linux/bpf.h`).
const LOOKUP: i64 = 1;
const NEXT_KEY: i64 = 4;
const NEXT_PROGRAM: i64 = 11;
const PROGRAM_BY_ID: i64 = 13;
const INFO: i64 = 15;
const QUERY: i64 = 16;

/// What the kernel says of a map: `struct bpf_map_info`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MapInfo {
    /// `BPF_MAP_TYPE_*`.
    pub kind: u32,
    /// Its id.
    pub id: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Most entries.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// Its name, ended by zero.
    pub name: [u8; 16],
    /// Network device that it is on.
    pub ifindex: u32,
    /// Types that describe it; 0 = none.
    pub btf: u32,
    /// More of its kind.
    pub extra: u64,
}

/// Makes `bpf` with attributes of words.
fn bpf(call: &'static str, command: i64, attr: &mut [u64]) -> Result<usize> {
    let len = size_of_val(attr);
    // SAFETY: the kernel reads and writes no more than `len` bytes of the attributes; addresses among them are the callers' own
    // buffers, as long as the kernel's sizes say.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), len) };
    check(call, result)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default())
}

/// Asks what a map or program is; `info` is filled as far as the kernel knows.
fn info(fd: impl AsFd, info: &mut [u8]) -> Result<()> {
    let fd = fd.as_fd().as_raw_fd() as u64;
    let at = info.as_mut_ptr() as u64;
    let mut attr = [fd | (info.len() as u64) << 32, at];
    bpf("bpf(BPF_OBJ_GET_INFO_BY_FD)", INFO, &mut attr).map(drop)
}

/// Returns what a map is.
pub fn map_info(map: impl AsFd) -> Result<MapInfo> {
    let mut bytes = [0u8; 88];
    info(map, &mut bytes)?;
    let mut name = [0; 16];
    name.copy_from_slice(&bytes[24..40]);
    Ok(MapInfo {
        kind: word(&bytes, 0),
        id: word(&bytes, 4),
        key_size: word(&bytes, 8),
        value_size: word(&bytes, 12),
        max_entries: word(&bytes, 16),
        flags: word(&bytes, 20),
        name,
        ifindex: word(&bytes, 40),
        btf: word(&bytes, 64) | word(&bytes, 44),
        extra: u64::from(word(&bytes, 80)) | u64::from(word(&bytes, 84)) << 32,
    })
}

/// Returns the key after `key`, or the first one; `None` after the last.
pub fn next_key(map: impl AsFd, key: Option<&[u8]>, size: usize) -> Result<Option<Vec<u8>>> {
    let mut next = vec![0; size];
    let fd = map.as_fd().as_raw_fd() as u64;
    let now = key.map_or(0, |key| key.as_ptr() as u64);
    let mut attr = [fd, now, next.as_mut_ptr() as u64, 0];
    match bpf("bpf(BPF_MAP_GET_NEXT_KEY)", NEXT_KEY, &mut attr) {
        Ok(_) => Ok(Some(next)),
        Err(error) if error.errno == Errno::ENOENT => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the value of a key, of `size` bytes.
pub fn lookup(map: impl AsFd, key: &[u8], size: usize) -> Result<Vec<u8>> {
    let mut value = vec![0; size];
    let fd = map.as_fd().as_raw_fd() as u64;
    let mut attr = [fd, key.as_ptr() as u64, value.as_mut_ptr() as u64, 0];
    bpf("bpf(BPF_MAP_LOOKUP_ELEM)", LOOKUP, &mut attr)?;
    Ok(value)
}

/// Returns the id of a program that uses a map, if there is one.
pub fn program_with(map: u32) -> Result<Option<u32>> {
    let mut id = 0;
    while let Some(next) = next_program(id)? {
        id = next;
        let mut attr = [u64::from(id), 0];
        // One that has gone meanwhile uses nothing.
        let Ok(fd) = bpf("bpf(BPF_PROG_GET_FD_BY_ID)", PROGRAM_BY_ID, &mut attr) else {
            continue;
        };
        // SAFETY: the kernel just made this descriptor for us; nobody else knows of it.
        let program = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        if maps_of(&program)?.contains(&map) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Returns how many programs a namespace has at a place (`BPF_PROG_QUERY`).
pub fn programs_at(namespace: impl AsFd, place: u32) -> Result<u32> {
    let fd = namespace.as_fd().as_raw_fd() as u64;
    let mut attr = [fd | u64::from(place) << 32, 0, 0, 0];
    bpf("bpf(BPF_PROG_QUERY)", QUERY, &mut attr)?;
    Ok(attr[3] as u32)
}

fn next_program(id: u32) -> Result<Option<u32>> {
    let mut attr = [u64::from(id), 0];
    match bpf("bpf(BPF_PROG_GET_NEXT_ID)", NEXT_PROGRAM, &mut attr) {
        Ok(_) => Ok(Some((attr[0] >> 32) as u32)),
        Err(Error {
            errno: Errno::ENOENT,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn maps_of(program: &OwnedFd) -> Result<Vec<u32>> {
    /// Most maps of a program (`MAX_USED_MAPS`, `kernel/bpf/verifier.c`).
    const MAX: usize = 64;
    let mut maps = vec![0u32; MAX];
    let mut bytes = [0u8; 64];
    bytes[52..56].copy_from_slice(&(MAX as u32).to_le_bytes());
    bytes[56..64].copy_from_slice(&(maps.as_mut_ptr() as u64).to_le_bytes());
    info(program, &mut bytes)?;
    maps.truncate(word(&bytes, 52) as usize);
    Ok(maps)
}
