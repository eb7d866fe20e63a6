//! From the fact to operations. Pure.
//!
//! The inode is made with its content at a temporary number, and every description and mapping of it is opened from there by
//! `/proc/self/fd/N`, with flags of its own. What must be allowed while it is filled is forbidden by seals after.

use crate::objects::regular::plan::{open_flags, plan_offset};
use crate::plan::Builder;
use crate::snapshot::{MemfdFile, MemfdInode, PAGE_SIZE};

/// `MFD_ALLOW_SEALING`, `MFD_HUGETLB` (`include/uapi/linux/memfd.h`).
const MFD_ALLOW_SEALING: u64 = 2;
const MFD_HUGETLB: u64 = 4;
/// `F_SEAL_SEAL`, `F_SEAL_WRITE` (`include/uapi/linux/fcntl.h`).
const F_SEAL_SEAL: u32 = 1;
const F_SEAL_WRITE: u32 = 8;
/// `F_ADD_SEALS`.
const F_ADD_SEALS: u64 = 1033;
/// Where the size of huge pages stands in flags, as its logarithm, and the size where none does.
const HUGE_SHIFT: u32 = 26;
const HUGE_DEFAULT: u64 = 2 << 20;

/// Adds the inode with size, owner and mode, and returns the number of its first description.
pub fn plan_create(b: &mut Builder, inode: &MemfdInode) -> i32 {
    let name = b.put_cstr(&inode.name);
    let huge = match inode.hugetlb_flag {
        0 => 0,
        flag => u64::from(flag) | MFD_HUGETLB,
    };
    // A memfd that was made without MFD_ALLOW_SEALING has this seal and no other.
    let sealing = if inode.seals == F_SEAL_SEAL {
        0
    } else {
        MFD_ALLOW_SEALING
    };
    let fd = b.open(libc::SYS_memfd_create, &[name, huge | sealing]);
    if inode.size != 0 {
        b.call_returns(libc::SYS_ftruncate, &[fd as u64, inode.size], 0);
    }
    if (inode.uid, inode.gid) != (0, 0) {
        let args = [fd as u64, u64::from(inode.uid), u64::from(inode.gid)];
        b.call_returns(libc::SYS_fchown, &args, 0);
    }
    if let Some(mode) = inode.mode {
        let args = [fd as u64, u64::from(mode & 0o7777)];
        b.call_returns(libc::SYS_fchmod, &args, 0);
    }
    fd
}

/// Returns the bytes of address space to fill it in.
pub fn mapped_len(inode: &MemfdInode) -> u64 {
    inode.size.next_multiple_of(page(inode))
}

/// Returns the size of its pages.
pub fn page(inode: &MemfdInode) -> u64 {
    match (inode.hugetlb_flag, inode.hugetlb_flag >> HUGE_SHIFT) {
        (0, _) => PAGE_SIZE,
        (_, 0) => HUGE_DEFAULT,
        (_, log) => 1 << log,
    }
}

/// Adds a mapping of all of it at `at`.
pub fn plan_map(b: &mut Builder, inode: &MemfdInode, fd: i32, at: u64) {
    let prot = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let flags = (libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE) as u64;
    let args = [at, mapped_len(inode), prot, flags, fd as u64, 0];
    b.call_returns(libc::SYS_mmap, &args, at as i64);
}

/// Adds the end of that mapping.
pub fn plan_unmap(b: &mut Builder, inode: &MemfdInode, at: u64) {
    b.call_returns(libc::SYS_munmap, &[at, mapped_len(inode)], 0);
}

/// Adds the seals that no mapping of the task can contradict: F_SEAL_WRITE forbids shared writable mappings for ever, and
/// lets others be made.
pub fn plan_early_seals(b: &mut Builder, inode: &MemfdInode, fd: i32) {
    if inode.seals & F_SEAL_WRITE != 0 {
        plan_seals(b, inode, fd);
    }
}

/// Adds the seals once all is mapped: F_SEAL_FUTURE_WRITE lets the mappings that are there be.
pub fn plan_late_seals(b: &mut Builder, inode: &MemfdInode, fd: i32) {
    if inode.seals & F_SEAL_WRITE == 0 && inode.seals & !F_SEAL_SEAL != 0 {
        plan_seals(b, inode, fd);
    }
}

fn plan_seals(b: &mut Builder, inode: &MemfdInode, fd: i32) {
    let args = [fd as u64, F_ADD_SEALS, u64::from(inode.seals)];
    b.call_returns(libc::SYS_fcntl, &args, 0);
}

/// Adds a description of the inode that `master` refers to.
pub fn plan_open(b: &mut Builder, file: &MemfdFile, master: i32, flags: u32) -> i32 {
    let path = format!("/proc/self/fd/{master}");
    // O_NOFOLLOW would stop at the link in /proc.
    let flags = open_flags(flags) & !(libc::O_NOFOLLOW as u32);
    let fd = b.open_path(path.as_bytes(), flags);
    plan_offset(b, fd, file.pos);
    fd
}

/// Returns whether a description with these flags may be the one that came with the inode.
pub fn may_be_first(flags: u32) -> bool {
    flags & (libc::O_ACCMODE | libc::O_PATH) as u32 == libc::O_RDWR as u32
}

/// Adds the description that came with the inode: unlike one that is opened, it does not count as one that writes, and the
/// memfd can be executed while it is open (`alloc_file_pseudo`, `fs/file_table.c`).
pub fn plan_first(b: &mut Builder, file: &MemfdFile, master: i32, flags: u32) -> i32 {
    const F_SETFL: u64 = 4;
    const STATUS: i32 = libc::O_APPEND | libc::O_NONBLOCK | libc::O_NOATIME | libc::O_DIRECT;
    let fd = b.open(libc::SYS_dup, &[master as u64]);
    let status = flags & STATUS as u32;
    if status != 0 {
        b.call_returns(libc::SYS_fcntl, &[fd as u64, F_SETFL, u64::from(status)], 0);
    }
    plan_offset(b, fd, file.pos);
    fd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_seal_has_its_moment() {
        for (seals, early, late) in [(0, 0, 0), (1, 0, 0), (0x6, 0, 1), (0x10, 0, 1), (0xf, 1, 0)] {
            let inode = MemfdInode {
                seals,
                ..MemfdInode::default()
            };
            let mut b = Builder::for_test();
            plan_early_seals(&mut b, &inode, 5);
            assert_eq!(b.calls().len(), early, "{seals:#x} before mappings");
            plan_late_seals(&mut b, &inode, 5);
            assert_eq!(b.calls().len(), early + late, "{seals:#x} after mappings");
        }
    }

    #[test]
    fn one_that_cannot_be_sealed_is_made_so() {
        for (seals, flags) in [(0, 2), (1, 0), (3, 2)] {
            let inode = MemfdInode {
                seals,
                ..MemfdInode::default()
            };
            let mut b = Builder::for_test();
            plan_create(&mut b, &inode);
            assert_eq!(b.calls()[0].1[1], flags);
        }
    }
}
