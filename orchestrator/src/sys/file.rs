//! Files: their bytes at given offsets, their space, and what `statx` says of them.

use super::{Error, Named, Result, check};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice};
use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

fn offset_of(call: &'static str, offset: u64) -> Result<i64> {
    i64::try_from(offset).map_err(|_| Error::new(call, Errno::EOVERFLOW))
}

/// Reads into the buffers from `offset` on and returns how many bytes.
pub fn preadv(fd: impl AsFd, buffers: &mut [IoSliceMut<'_>], offset: u64) -> Result<usize> {
    let offset = offset_of("preadv", offset)?;
    nix::sys::uio::preadv(fd, buffers, offset).named("preadv")
}

/// Reads into `buffer` from `offset` on and returns how many bytes.
pub fn pread(fd: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let offset = offset_of("pread", offset)?;
    nix::sys::uio::pread(fd, buffer, offset).named("pread")
}

/// Writes the buffers from `offset` on and returns how many bytes.
pub fn pwritev(fd: impl AsFd, buffers: &[IoSlice<'_>], offset: u64) -> Result<usize> {
    let offset = offset_of("pwritev", offset)?;
    nix::sys::uio::pwritev(fd, buffers, offset).named("pwritev")
}

/// Writes `buffer` from `offset` on and returns how many bytes.
pub fn pwrite(fd: impl AsFd, buffer: &[u8], offset: u64) -> Result<usize> {
    let offset = offset_of("pwrite", offset)?;
    nix::sys::uio::pwrite(fd, buffer, offset).named("pwrite")
}

/// Copies at most `len` bytes between files inside the kernel; positions move unless offsets are given.
pub fn copy_file_range(
    (from, from_offset): (impl AsFd, Option<&mut i64>),
    (to, to_offset): (impl AsFd, Option<&mut i64>),
    len: usize,
) -> Result<usize> {
    nix::fcntl::copy_file_range(from, from_offset, to, to_offset, len).named("copy_file_range")
}

/// Sends at most `len` bytes of a file on; its position moves unless an offset is given.
pub fn sendfile(
    to: impl AsFd,
    from: impl AsFd,
    offset: Option<&mut i64>,
    len: usize,
) -> Result<usize> {
    let (to, from) = (to.as_fd().as_raw_fd(), from.as_fd().as_raw_fd());
    let offset = offset.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    // SAFETY: `offset` is null or a reference to one `off_t`.
    let sent = unsafe { libc::sendfile(to, from, offset, len) };
    check("sendfile", sent as libc::c_long)
}

/// Makes a hole: the range reads as zeros and takes no space; the size stays.
pub fn punch_hole(fd: impl AsFd, offset: u64, len: u64) -> Result<()> {
    let call = "fallocate(FALLOC_FL_PUNCH_HOLE)";
    let (offset, len) = (offset_of(call, offset)?, offset_of(call, len)?);
    let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    nix::fcntl::fallocate(fd, mode, offset, len).named(call)
}

/// Sets the size.
pub fn ftruncate(fd: impl AsFd, len: u64) -> Result<()> {
    let len = offset_of("ftruncate", len)?;
    nix::unistd::ftruncate(fd, len).named("ftruncate")
}

/// Tells the kernel that the range (to the end, if `len` is 0) will be read from start to end.
pub fn advise_sequential(fd: impl AsFd, offset: u64, len: u64) -> Result<()> {
    advise(fd, offset, len, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL)
}

/// Tells the kernel that the range will be needed soon.
pub fn advise_will_need(fd: impl AsFd, offset: u64, len: u64) -> Result<()> {
    advise(fd, offset, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED)
}

/// Tells the kernel that the range will not be needed again.
pub fn advise_dont_need(fd: impl AsFd, offset: u64, len: u64) -> Result<()> {
    advise(fd, offset, len, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
}

fn advise(fd: impl AsFd, offset: u64, len: u64, advice: PosixFadviseAdvice) -> Result<()> {
    let call = "posix_fadvise";
    let (offset, len) = (offset_of(call, offset)?, offset_of(call, len)?);
    nix::fcntl::posix_fadvise(fd, offset, len, advice).named(call)
}

/// From where an offset counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// The start.
    Set,
    /// The current position.
    Current,
    /// The end.
    End,
    /// The next bytes that are stored.
    Data,
    /// The next hole.
    Hole,
}

/// Moves the position of an open file description and returns it.
pub fn lseek(fd: impl AsFd, offset: i64, whence: Whence) -> Result<u64> {
    let whence = match whence {
        Whence::Set => libc::SEEK_SET,
        Whence::Current => libc::SEEK_CUR,
        Whence::End => libc::SEEK_END,
        Whence::Data => libc::SEEK_DATA,
        Whence::Hole => libc::SEEK_HOLE,
    };
    // SAFETY: `lseek` takes numbers.
    let position = unsafe { libc::lseek(fd.as_fd().as_raw_fd(), offset, whence) };
    check("lseek", position).map(|position| position as u64)
}

/// What `statx` says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Device of the file system: major and minor number.
    pub dev: (u32, u32),
    /// Inode.
    pub ino: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Number of names; 0 = deleted.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// For devices: major and minor number.
    pub rdev: (u32, u32),
    /// Last access: seconds and nanoseconds.
    pub atime: (i64, u32),
    /// Last change of the content: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of the inode: seconds and nanoseconds.
    pub ctime: (i64, u32),
    /// Mount, by its number in mountinfo; `None` before 5.8.
    pub mnt_id: Option<u64>,
    /// `STATX_ATTR_*` that are set.
    pub attributes: u64,
}

impl FileStat {
    /// Returns the device as the kernel and `stat` pack it for user space.
    pub fn packed_dev(&self) -> u64 {
        libc::makedev(self.dev.0, self.dev.1)
    }

    /// Returns the device number of a device file, packed as by `stat`.
    pub fn packed_rdev(&self) -> u64 {
        libc::makedev(self.rdev.0, self.rdev.1)
    }

    /// Returns the type alone: `S_IFREG`, `S_IFDIR`, ...
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    fn from_statx(stat: &libc::statx) -> Self {
        let mnt_id = stat.stx_mask & libc::STATX_MNT_ID != 0;
        Self {
            dev: (stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
            mode: stat.stx_mode.into(),
            nlink: stat.stx_nlink,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            rdev: (stat.stx_rdev_major, stat.stx_rdev_minor),
            atime: (stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec),
            mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            mnt_id: mnt_id.then_some(stat.stx_mnt_id),
            attributes: stat.stx_attributes,
        }
    }
}

/// Asks for a descriptor's file.
pub fn statx(fd: impl AsFd) -> Result<FileStat> {
    statx_with(fd, c"", libc::AT_EMPTY_PATH)
}

/// Asks for the file at `path`, which counts from the folder `dir`; a symbolic link at its end is not followed.
pub fn statx_at(dir: impl AsFd, path: &CStr) -> Result<FileStat> {
    statx_with(dir, path, libc::AT_SYMLINK_NOFOLLOW)
}

/// Asks for the file at `path`, symbolic links followed.
pub fn statx_path(path: &CStr) -> Result<FileStat> {
    statx_raw(libc::AT_FDCWD, path, 0)
}

/// Asks for the file at `path`; a symbolic link at its end is not followed.
pub fn statx_link(path: &CStr) -> Result<FileStat> {
    statx_raw(libc::AT_FDCWD, path, libc::AT_SYMLINK_NOFOLLOW)
}

fn statx_with(fd: impl AsFd, path: &CStr, flags: i32) -> Result<FileStat> {
    statx_raw(fd.as_fd().as_raw_fd(), path, flags)
}

fn statx_raw(fd: i32, path: &CStr, flags: i32) -> Result<FileStat> {
    let mask = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID;
    let flags = flags | libc::AT_NO_AUTOMOUNT;
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `path` ends with a zero; the kernel writes one `struct statx`, the size of `stat`.
    let result = unsafe { libc::statx(fd, path.as_ptr(), flags, mask, stat.as_mut_ptr()) };
    check("statx", result.into())?;
    // SAFETY: it was zeroed, and its fields are integers.
    let stat = unsafe { stat.assume_init() };
    Ok(FileStat::from_statx(&stat))
}

/// What `fstatfs` says of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsStat {
    /// Magic number (`linux/magic.h`).
    pub magic: i64,
    /// Bytes of a block; of a file system of huge pages, of a page.
    pub block_size: u64,
    /// Bytes that an ordinary user may still write.
    pub available: u64,
}

/// Asks for the file system of a descriptor's file.
pub fn fstatfs(fd: impl AsFd) -> Result<FsStat> {
    let stat = nix::sys::statfs::fstatfs(fd).named("fstatfs")?;
    Ok(FsStat {
        magic: stat.filesystem_type().0,
        block_size: stat.block_size().unsigned_abs(),
        available: stat
            .blocks_available()
            .saturating_mul(stat.block_size().unsigned_abs()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn bytes_go_out_and_come_back() {
        let file = tempfile::tempfile().expect("file");
        let parts = [IoSlice::new(b"ab"), IoSlice::new(b"cd")];
        assert_eq!(pwritev(&file, &parts, 8192), Ok(4));
        let (mut a, mut b) = ([0; 1], [0; 3]);
        let mut buffers = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(preadv(&file, &mut buffers, 8192), Ok(4));
        assert_eq!((a, b), (*b"a", *b"bcd"));
        punch_hole(&file, 8192, 4).expect("punch");
        let mut back = [1; 4];
        assert_eq!(pread(&file, &mut back, 8192), Ok(4));
        assert_eq!(back, [0; 4]);
        assert_eq!(lseek(&file, 0, Whence::End), Ok(8196));
    }

    #[test]
    fn statx_agrees_with_the_standard_library() {
        let file = tempfile::tempfile().expect("file");
        ftruncate(&file, 5).expect("truncate");
        let (ours, theirs) = (statx(&file).expect("statx"), file.metadata().expect("stat"));
        assert_eq!(ours.packed_dev(), theirs.dev());
        assert_eq!(
            (ours.ino, ours.mode, ours.size),
            (theirs.ino(), theirs.mode(), 5)
        );
        assert_eq!((ours.nlink, ours.kind()), (0, libc::S_IFREG));
        assert!(ours.mnt_id.is_some());
        let null = statx_path(c"/dev/null").expect("statx");
        assert_eq!((null.rdev, null.kind()), ((1, 3), libc::S_IFCHR));
    }

    #[test]
    fn proc_has_its_magic() {
        let proc = std::fs::File::open("/proc/self/status").expect("open");
        assert_eq!(fstatfs(&proc).expect("statfs").magic, 0x9fa0);
    }
}
