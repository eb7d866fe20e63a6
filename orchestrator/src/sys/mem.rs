//! Memory that processes share: mapping it, and reading and writing it with checked bounds.
//!
//! Others may write to such memory at any moment, so what is polled goes by atomics, and values are copied out before they
//! are looked at. Slices ([`SharedMapping::bytes`]) are for the times when the other side stands still.

use super::shared::Shared;
use super::{Error, Result, check};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// Has the allocator give large pieces back to the kernel when they are freed: by default it soon keeps all that are smaller
/// than the largest that was (mallopt(3), M_MMAP_THRESHOLD), records that were decoded beside what was made of them.
pub fn give_back_freed() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE: i32 = 1 << 20;
        // SAFETY: it takes two numbers and touches nothing but the allocator's settings, under its lock.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
    }
}

/// Where a mapping is to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where the kernel likes.
    Anywhere,
    /// Exactly here, in a hole: `EEXIST` where something is mapped (`MAP_FIXED_NOREPLACE`).
    At(u64),
}

/// A `MAP_SHARED` mapping for reading and writing, unmapped when it and all [`Region`]s taken from it are dropped.
#[derive(Debug)]
pub struct SharedMapping {
    region: Arc<Region>,
}

/// The mapped range itself, kept mapped by whoever holds it.
#[derive(Debug)]
pub struct Region {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the range is plain memory, valid from any thread until the last holder drops it.
unsafe impl Send for Region {}
// SAFETY: `Region` itself gives no access; `SharedMapping` borrows as usual.
unsafe impl Sync for Region {}

impl Region {
    fn map(len: usize, fd: i32, offset: i64, place: Place, flags: i32) -> Result<Self> {
        let call = "mmap";
        let (addr, fixed) = match place {
            Place::Anywhere => (0, 0),
            Place::At(addr) => (addr as usize, libc::MAP_FIXED_NOREPLACE),
        };
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = flags | fixed | libc::MAP_SHARED;
        let addr = std::ptr::without_provenance_mut(addr);
        // SAFETY: without MAP_FIXED nothing that exists is replaced.
        let start = unsafe { libc::mmap(addr, len, prot, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(Error::new(call, Errno::last()));
        }
        let region = NonNull::new(start.cast()).map(|start| Self { start, len });
        let region = region.ok_or(Error::new(call, Errno::EFAULT))?;
        match place {
            // Kernels before 4.17 take the address for a hint.
            Place::At(wanted) if region.addr() != wanted => Err(Error::new(call, Errno::EEXIST)),
            _ => Ok(region),
        }
    }

    /// Returns the first address.
    pub fn addr(&self) -> u64 {
        self.start.addr().get() as u64
    }

    /// Returns a pointer to `len` bytes at `offset`, a multiple of `align`.
    ///
    /// # Panics
    /// Outside of the mapping, or unaligned: offsets are ours, not the target's.
    pub(super) fn at(&self, offset: usize, len: usize, align: usize) -> NonNull<u8> {
        let end = offset.checked_add(len).expect("offset overflows");
        assert!(
            end <= self.len,
            "{offset:#x}+{len:#x} is outside of a mapping of {:#x} bytes",
            self.len
        );
        assert!(
            (self.addr() as usize + offset).is_multiple_of(align),
            "{offset:#x} is not aligned to {align}"
        );
        // SAFETY: `offset` lies within the mapping, as checked above.
        unsafe { self.start.add(offset) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map` and nobody else holds it, or this would not be dropped.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

impl SharedMapping {
    /// Maps `len` bytes of zeros that child processes inherit.
    pub fn anonymous(len: usize, place: Place) -> Result<Self> {
        let region = Region::map(len, -1, 0, place, libc::MAP_ANONYMOUS)?;
        Ok(Self {
            region: Arc::new(region),
        })
    }

    /// Maps `len` bytes of `file` from `offset` on.
    pub fn of_file(file: impl AsFd, offset: u64, len: usize, place: Place) -> Result<Self> {
        let offset = i64::try_from(offset).map_err(|_| Error::new("mmap", Errno::EOVERFLOW))?;
        let region = Region::map(len, file.as_fd().as_raw_fd(), offset, place, 0)?;
        Ok(Self {
            region: Arc::new(region),
        })
    }

    /// Maps the same memory once more, elsewhere (mremap(2): an old size of zero, for a shared mapping).
    pub fn again(&self) -> Result<Self> {
        let len = self.len();
        let start = self.region.start.as_ptr().cast();
        // SAFETY: nothing of the old mapping is unmapped, and the new one lies where nothing was.
        let again = unsafe { libc::mremap(start, 0, len, libc::MREMAP_MAYMOVE) };
        if again == libc::MAP_FAILED {
            return Err(Error::new("mremap", Errno::last()));
        }
        let start = NonNull::new(again.cast()).ok_or(Error::new("mremap", Errno::EFAULT))?;
        Ok(Self {
            region: Arc::new(Region { start, len }),
        })
    }

    /// Returns the first address.
    pub fn addr(&self) -> u64 {
        self.region.addr()
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.region.len
    }

    /// Returns whether there is nothing in it (never: the kernel maps no empty range).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the range, to keep it mapped.
    pub fn region(&self) -> Arc<Region> {
        Arc::clone(&self.region)
    }

    /// Returns all bytes. Only while no other process writes.
    pub fn bytes(&self) -> &[u8] {
        let start = self.region.at(0, self.len(), 1);
        // SAFETY: 1. All bytes are mapped.  2. In this process nobody writes while `self` is borrowed; other processes are
        // outside of what references promise, and the caller keeps them still.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.len()) }
    }

    /// Returns all bytes for writing. Only while no other process reads or writes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let start = self.region.at(0, self.len(), 1);
        // SAFETY: as in `bytes`, with `self` borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.len()) }
    }

    /// Returns the word at `offset`.
    ///
    /// # Panics
    /// Outside of the mapping or unaligned, as all accessors.
    pub fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        let word = self.region.at(offset, 4, 4);
        // SAFETY: 1. It is mapped for as long as `self` and aligned, as `at` checked.  2. Atomics may be written by anybody.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
    }

    /// Returns a copy of the value at `offset`.
    pub fn read_at<T: zerocopy::FromBytes>(&self, offset: usize) -> T {
        let value = self.region.at(offset, size_of::<T>(), 1);
        // SAFETY: 1. `at` checked the bounds.  2. Every byte pattern is a `T`, by `FromBytes`.
        unsafe { value.cast::<T>().read_unaligned() }
    }

    /// Writes `bytes` at `offset`.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        let start = self.region.at(offset, bytes.len(), 1);
        // SAFETY: `at` checked the bounds; `bytes` cannot overlap, as `self` is borrowed exclusively.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.as_ptr(), bytes.len()) };
    }

    /// Writes a value at `offset`.
    pub fn write_value<T: zerocopy::IntoBytes + zerocopy::Immutable>(
        &mut self,
        offset: usize,
        value: &T,
    ) {
        self.write_at(offset, value.as_bytes());
    }

    /// Returns the structure shared with a blob that lies at `offset`; what changes in it are its atomics.
    pub fn view<T: Shared>(&self, offset: usize) -> &T {
        let start = self.region.at(offset, size_of::<T>(), align_of::<T>());
        // SAFETY: 1. Mapped and aligned, as `at` checked.  2. Every byte pattern is a `T`, and what others change while it is
        // borrowed is atomic, by `Shared`.
        unsafe { start.cast::<T>().as_ref() }
    }

    /// Puts a structure shared with a blob at `offset`.
    pub fn put<T: Shared>(&mut self, offset: usize, value: T) {
        let start = self.region.at(offset, size_of::<T>(), align_of::<T>());
        // SAFETY: `at` checked bounds and alignment; a `Shared` needs no drop, so that nothing is lost below it.
        unsafe { start.cast::<T>().write(value) };
    }

    /// Puts several structures one after the other from `offset` on.
    pub fn put_all<T: Shared + Copy>(&mut self, offset: usize, values: &[T]) {
        let start = self
            .region
            .at(offset, size_of_val(values), align_of::<T>())
            .cast::<T>();
        // SAFETY: `at` checked bounds and alignment; `values` cannot overlap, as `self` is borrowed exclusively.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), start.as_ptr(), values.len()) };
    }
}

/// Makes a file of memory, closed on exec.
pub fn memfd_create(name: &CStr, flags: u32) -> Result<OwnedFd> {
    let flags = flags | libc::MFD_CLOEXEC;
    // SAFETY: `name` ends with a zero, being a `CStr`.
    let fd = check("memfd_create", unsafe {
        libc::memfd_create(name.as_ptr(), flags).into()
    })?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn what_is_written_is_read() {
        let mut mapping = SharedMapping::anonymous(4096, Place::Anywhere).expect("map");
        mapping.write_at(8, b"abcd");
        assert_eq!(mapping.read_at::<[u8; 4]>(8), *b"abcd");
        assert_eq!(&mapping.bytes()[8..12], b"abcd");
        mapping.atomic_u32(4).store(7, Ordering::Relaxed);
        assert_eq!(mapping.read_at::<u32>(4), 7);
        mapping.bytes_mut()[4095] = 1;
        assert_eq!(mapping.read_at::<u8>(4095), 1);
    }

    #[test]
    #[should_panic(expected = "outside of a mapping")]
    fn bounds_are_checked() {
        let mapping = SharedMapping::anonymous(4096, Place::Anywhere).expect("map");
        mapping.read_at::<u64>(4089);
    }

    #[test]
    fn two_mappings_of_one_file_are_the_same_memory() {
        let file = memfd_create(c"test", 0).expect("memfd");
        crate::sys::file::ftruncate(&file, 8192).expect("truncate");
        let mut first = SharedMapping::of_file(&file, 0, 8192, Place::Anywhere).expect("map");
        let second = SharedMapping::of_file(&file, 4096, 4096, Place::Anywhere).expect("map");
        first.write_value(4096, &0x1234_5678u32);
        assert_eq!(second.read_at::<u32>(0), 0x1234_5678);
    }

    #[test]
    fn a_mapping_made_again_is_the_same_memory() {
        let mut first = SharedMapping::anonymous(8192, Place::Anywhere).expect("map");
        let second = first.again().expect("map again");
        first.write_value(4096, &0x1234_5678u32);
        assert_ne!(first.addr(), second.addr());
        drop(first);
        assert_eq!(second.read_at::<u32>(4096), 0x1234_5678);
    }

    #[test]
    fn nothing_is_replaced() {
        let mapping = SharedMapping::anonymous(4096, Place::Anywhere).expect("map");
        let taken = SharedMapping::anonymous(4096, Place::At(mapping.addr()));
        assert_eq!(taken.expect_err("taken").errno, Errno::EEXIST);
        let addr = mapping.addr();
        drop(mapping);
        // The hole may be taken by another test's thread by now, so only the address of a success is checked.
        if let Ok(mapping) = SharedMapping::anonymous(4096, Place::At(addr)) {
            assert_eq!(mapping.addr(), addr);
        }
    }
}
