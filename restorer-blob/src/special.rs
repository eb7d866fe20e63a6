//! Operations that are no system calls ([`arch::abi::program::special`]).
#![expect(unsafe_code, reason = "operations work on addresses in data")]

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::SeqCst;

use arch::abi::program::{ARGS, is_error, special};
use arch::abi::restore::{Ctx, Head, state};
use arch::native::{gate, tiles};
use linux_raw_sys::errno::{EINTR, ENODATA, ENOSYS};
use linux_raw_sys::general::{__NR_preadv, FUTEX_WAIT, FUTEX_WAKE};

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
            barrier(word, args[1] as u32, head)
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
        special::EXIT => crate::exit(args[0] as u32),
        _ => -i64::from(ENOSYS),
    }
}

/// Waits until `count` contexts have come.
fn barrier(word: &AtomicU32, count: u32, head: &Head) -> i64 {
    let mut here = word.fetch_add(1, SeqCst) + 1;
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
    head.parked.fetch_add(1, SeqCst);
    crate::tell(head);
    crate::wait_for_end(head)
}

/// `struct iovec`.
#[repr(C)]
struct Vector {
    base: u64,
    len: u64,
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
