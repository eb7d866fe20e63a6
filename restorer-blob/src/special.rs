//! Operations that are no system calls ([`arch::abi::program::special`]).
#![expect(unsafe_code, reason = "operations work on addresses in data")]

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::SeqCst;

use arch::abi::program::{ARGS, is_error, special};
use arch::abi::restore::{Ctx, Head, state};
use arch::native::{gate, tiles};
use linux_raw_sys::errno::{EEXIST, EINTR, ENODATA, ENOSYS};
use linux_raw_sys::general::{
    __NR_close, __NR_close_range, __NR_dup3, __NR_fcntl, __NR_ioctl, __NR_openat, __NR_preadv,
    AT_FDCWD, F_DUPFD, FUTEX_WAIT, FUTEX_WAKE, O_NOCTTY, O_RDWR,
};

/// Runs special operation `nr` and returns its result.
///
/// # Safety
/// The addresses and lengths in `args` are what the operation's description says.
pub unsafe fn run(nr: u16, args: &[u64; ARGS], ctx: &Ctx, head: &Head) -> i64 {
    match nr {
        special::NOP => 0,
        special::BARRIER => {
            // SAFETY: the caller promises the address of a word that all contexts share.
            let word = unsafe { AtomicU32::from_ptr(args[0] as *mut u32) };
            barrier(word, args[1] as u32, args[2] != 0, head)
        }
        special::PARK => park(ctx, head),
        special::COPY => {
            let (to, from) = (args[0] as *mut u8, args[1] as *const u8);
            // SAFETY: the caller promises both ranges, which lie apart.
            unsafe { core::ptr::copy_nonoverlapping(from, to, args[2] as usize) };
            0
        }
        // SAFETY: the caller promises the vectors.
        special::READ_FULL => unsafe { read_full(args[0], args[1], args[2], args[3]) },
        // SAFETY: the caller promises the number and the reads.
        special::READ_SHARED => unsafe { read_shared(args[0], args[1], args[2], head) },
        special::AMX => {
            // SAFETY: the program asked for the permission before, on a processor that has tiles.
            unsafe { tiles::make_usable() };
            0
        }
        special::STORE32 => {
            // SAFETY: the caller promises the address of a word.
            unsafe { (args[0] as *mut u32).write_volatile(args[1] as u32) };
            0
        }
        special::PTY => pty(args[0], args[1] as u32, args[2], args[3]),
        special::EXIT => crate::exit(args[0] as u32),
        _ => -i64::from(ENOSYS),
    }
}

/// Waits until `count` contexts have come.
fn barrier(word: &AtomicU32, count: u32, is_told: bool, head: &Head) -> i64 {
    let mut here = word.fetch_add(1, SeqCst) + 1;
    if is_told {
        crate::tell(head);
    }
    if here >= count {
        crate::futex(word.as_ptr(), FUTEX_WAKE, i32::MAX as u32);
    }
    while here < count {
        if head.abort.load(SeqCst) != 0 {
            crate::wait_for_end(head);
        }
        crate::futex(word.as_ptr(), FUTEX_WAIT, here);
        here = word.load(SeqCst);
    }
    0
}

fn park(ctx: &Ctx, head: &Head) -> ! {
    ctx.state.store(state::PARKED, SeqCst);
    if head.parked.fetch_add(1, SeqCst) + 1 == head.parking.load(SeqCst) {
        crate::tell(head);
    }
    crate::wait_for_end(head)
}

/// Number of `include/uapi/asm-generic/ioctls.h`.
const TIOCGPTN: u64 = 0x8004_5430;
/// Most pseudo-terminals that the kernel makes (`NR_UNIX98_PTY_MAX`).
const MAX_PTYS: u32 = 1 << 20;

/// Makes the pseudo-terminal with this index: the kernel gives the lowest that is free, so that those below are taken too.
fn pty(path: u64, index: u32, to: u64, scratch: u64) -> i64 {
    let mut result = -i64::from(EEXIST);
    for _ in 0..MAX_PTYS {
        let (fd, number) = match open_master(path) {
            Ok(master) => master,
            Err(error) => {
                result = error;
                break;
            }
        };
        let is_lower = number < index;
        if number == index {
            result = plain(__NR_dup3, [fd, to, 0]);
        }
        if is_lower {
            plain(__NR_fcntl, [fd, u64::from(F_DUPFD), scratch]);
        }
        plain(__NR_close, [fd, 0, 0]);
        if !is_lower {
            break;
        }
    }
    plain(__NR_close_range, [scratch, u64::from(u32::MAX), 0]);
    result
}

/// Opens a master, and returns it with its index.
fn open_master(path: u64) -> Result<(u64, u32), i64> {
    let at = AT_FDCWD as u64;
    let fd = plain(__NR_openat, [at, path, u64::from(O_RDWR | O_NOCTTY)]);
    if is_error(fd) {
        return Err(fd);
    }
    let mut number = 0u32;
    let asked = plain(__NR_ioctl, [fd as u64, TIOCGPTN, &raw mut number as u64]);
    match is_error(asked) {
        true => Err(asked),
        false => Ok((fd as u64, number)),
    }
}

/// Makes a system call of three arguments.
fn plain(nr: u32, args: [u64; 3]) -> i64 {
    // SAFETY: the calls made here are `openat` of a path in the program's data, `ioctl` that writes one word to a local, and
    // calls of numbers alone.
    unsafe { gate::syscall(u64::from(nr), args[0], args[1], args[2], 0, 0, 0) }
}

/// `struct iovec`.
#[repr(C)]
struct Vector {
    base: u64,
    len: u64,
}

/// Makes those of `count` reads that nobody else has taken.
///
/// # Safety
/// The number that all share is there, and the reads are as [`read_full`] demands.
unsafe fn read_shared(next: u64, reads: u64, count: u64, head: &Head) -> i64 {
    // SAFETY: the caller promises the address of a word.
    let next = unsafe { AtomicU32::from_ptr(next as *mut u32) };
    let mut total = 0;
    loop {
        let index = u64::from(next.fetch_add(1, SeqCst));
        if index >= count {
            return total;
        }
        if head.abort.load(SeqCst) != 0 {
            crate::wait_for_end(head);
        }
        let place = (reads as *const [u64; 4]).wrapping_add(index as usize);
        // SAFETY: `index` is below the number of reads.
        let [fd, vectors, count, offset] = unsafe { place.read() };
        // SAFETY: the caller promises what the read names.
        let got = unsafe { read_full(fd, vectors, count, offset) };
        if is_error(got) {
            return got;
        }
        total += got;
    }
}

/// Reads into `count` vectors at `vectors` from `fd` at `offset` until all is there.
///
/// # Safety
/// The vectors are there and may be changed, and what they point to may be overwritten.
unsafe fn read_full(fd: u64, vectors: u64, count: u64, mut offset: u64) -> i64 {
    let mut vector = vectors as *mut Vector;
    let mut left = count;
    let mut total = 0;
    loop {
        // SAFETY: `vector` and `left` are what remains of the caller's vectors.
        (vector, left) = unsafe { skip_empty(vector, left) };
        if left == 0 {
            return total;
        }
        let nr = u64::from(__NR_preadv);
        // SAFETY: the caller promises the vectors and what they point to.
        let got = unsafe { gate::syscall(nr, fd, vector as u64, left, offset, 0, 0) };
        match got {
            0 => return -i64::from(ENODATA),
            got if got == -i64::from(EINTR) => continue,
            got if is_error(got) => return got,
            _ => {}
        }
        // SAFETY: as above; the kernel has read no more than the vectors hold.
        unsafe { use_up(vector, got as u64) };
        offset += got as u64;
        total += got;
    }
}

/// Returns the vectors without the empty ones at their start.
///
/// # Safety
/// There are `left` vectors at `vector`.
unsafe fn skip_empty(mut vector: *mut Vector, mut left: u64) -> (*mut Vector, u64) {
    while left > 0 {
        // SAFETY: the caller promises a vector.
        if unsafe { (*vector).len } != 0 {
            break;
        }
        vector = vector.wrapping_add(1);
        left -= 1;
    }
    (vector, left)
}

/// Takes the first `bytes` off the vectors.
///
/// # Safety
/// The vectors from `vector` on hold that many.
unsafe fn use_up(mut vector: *mut Vector, mut bytes: u64) {
    while bytes > 0 {
        // SAFETY: the caller promises a vector, as not all bytes were found before it; nobody else uses it.
        let now = unsafe { &mut *vector };
        let part = bytes.min(now.len);
        now.base += part;
        now.len -= part;
        bytes -= part;
        vector = vector.wrapping_add(1);
    }
}
