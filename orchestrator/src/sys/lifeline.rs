//! The lifeline: a word in shared memory that the kernel marks when the thread that holds it dies.
//!
//! A parasite must learn that the orchestrator is gone, however it went, without a descriptor in its target. The kernel has
//! just this for robust mutexes: when a thread ends, `exit_robust_list` (`kernel/futex/core.c`) walks the thread's list, and in
//! each word that holds the thread's number it sets `FUTEX_OWNER_DIED` and wakes one waiter. So the orchestrator puts a
//! node into its own list, as if it held a mutex there.
//!
//! ```text
//! offset  0          24                 32
//!         word       address of the     address of the next node
//!                    previous node's
//!                    link               <- what the list points to
//! ```
//!
//! The list belongs to the C library, which keeps it doubly linked: when it links a mutex in front of ours, it writes the
//! slot before our node, and when we leave we mend its neighbours as it would (`nptl/descr.h`, `ENQUEUE_MUTEX`). Its
//! `futex_offset` says how far the word lies from the node; on 64-bit glibc and musl it is -32.
//!
//! What is marked is the death of the *thread* that made the lifeline; a guard that another thread or a forked child
//! drops does nothing.

use super::mem::{Region, SharedMapping};
use super::{Error, Result, Tid, check};
use nix::errno::Errno;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, compiler_fence};

/// `FUTEX_WAITERS`: without it the kernel marks the word and wakes nobody.
const WAITERS: u32 = 0x8000_0000;
/// Distance from the word to the node, in bytes.
const NODE: usize = 32;
/// Distance from the word to the slot with the previous node, in bytes.
const PREVIOUS: usize = NODE - 8;
/// Bytes from the word to the end of the node.
const LEN: usize = NODE + 8;
/// What the C library must use as `futex_offset`.
const FUTEX_OFFSET: i64 = -(NODE as i64);
/// The lowest bit of a link says that the mutex inherits priority.
const PI: usize = 1;

/// `struct robust_list_head`.
#[repr(C)]
struct RobustListHead {
    list: usize,
    futex_offset: i64,
    list_op_pending: usize,
}

/// While it lives, a word of shared memory says that this thread lives.
#[derive(Debug)]
pub struct Lifeline {
    region: Arc<Region>,
    word: usize,
    holder: Tid,
    /// The list is the thread's: the guard must not leave it.
    on_this_thread: PhantomData<*const ()>,
}

impl Lifeline {
    /// Ties the word at `word` (a multiple of 8, with the 36 bytes after it ours) to the calling thread.
    ///
    /// # Panics
    /// Where the word or its node lies outside of the mapping.
    pub fn tie(mapping: &SharedMapping, word: usize) -> Result<Self> {
        let head = robust_list_head()?;
        let region = mapping.region();
        let base = region.at(word, LEN, 8).as_ptr();
        let holder = Tid::this();
        word_at(&region, word).store(holder.0 as u32 | WAITERS, Ordering::SeqCst);
        let node = base.wrapping_add(NODE).expose_provenance();
        let link = head as usize;
        let first = load(link);
        store(base.wrapping_add(PREVIOUS).expose_provenance(), link);
        store(node, first);
        if first & !PI != link {
            store((first & !PI) - 8, node);
        }
        // The kernel may walk the list after any instruction: the node is complete before it is reachable.
        compiler_fence(Ordering::SeqCst);
        store(link, node);
        Ok(Self {
            region,
            word,
            holder,
            on_this_thread: PhantomData,
        })
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        // In a forked child the list is another one, and the word still speaks for the parent.
        if Tid::this() != self.holder {
            return;
        }
        let Ok(head) = robust_list_head() else {
            return;
        };
        let base = self.region.at(self.word, LEN, 8).as_ptr();
        let next = load(base.wrapping_add(NODE).expose_provenance());
        let previous = load(base.wrapping_add(PREVIOUS).expose_provenance());
        store(previous & !PI, next);
        if next & !PI != head as usize {
            store((next & !PI) - 8, previous);
        }
        compiler_fence(Ordering::SeqCst);
        word_at(&self.region, self.word).store(0, Ordering::SeqCst);
    }
}

/// Returns the calling thread's list head, if it can hold our node.
fn robust_list_head() -> Result<*mut RobustListHead> {
    let call = "get_robust_list";
    let mut head = std::ptr::null_mut::<RobustListHead>();
    let mut len = 0usize;
    // SAFETY: the kernel writes one pointer and one length through the two pointers.
    let result =
        unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    check(call, result)?;
    if head.is_null() || len != size_of::<RobustListHead>() {
        return Err(Error::new(call, Errno::EINVAL));
    }
    let offset_link = head as usize + std::mem::offset_of!(RobustListHead, futex_offset);
    let futex_offset = load(offset_link) as i64;
    if futex_offset != FUTEX_OFFSET {
        return Err(Error::new(call, Errno::EINVAL));
    }
    Ok(head)
}

fn word_at(region: &Region, word: usize) -> &AtomicU32 {
    // SAFETY: 1. `at` checks bounds and alignment.  2. The region stays mapped as long as it is borrowed.
    unsafe { AtomicU32::from_ptr(region.at(word, 4, 4).as_ptr().cast()) }
}

/// Reads a link of the list.
fn load(link: usize) -> usize {
    let link = std::ptr::with_exposed_provenance::<usize>(link);
    // SAFETY: `link` is our node, or a word of the list that the C library registered and keeps for this thread, which only
    // this thread changes.
    unsafe { link.read_volatile() }
}

/// Writes a link of the list.
fn store(link: usize, value: usize) {
    let link = std::ptr::with_exposed_provenance_mut::<usize>(link);
    // SAFETY: as in `load`.
    unsafe { link.write_volatile(value) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::futex::futex_wait;
    use crate::sys::mem::Place;
    use crate::sys::wait::{WaitStatus, wait_tid};
    use std::time::Duration;

    const OWNER_DIED: u32 = 0x4000_0000;

    #[test]
    fn the_kernel_marks_the_word_when_the_holder_is_killed() {
        let mapping = SharedMapping::anonymous(4096, Place::Anywhere).expect("map");
        // SAFETY: the child only makes system calls and writes to memory mapped before the fork.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let _lifeline = Lifeline::tie(&mapping, 64);
            let _ = crate::sys::signal::kill_self();
            unreachable!("it survived SIGKILL");
        }
        let word = mapping.atomic_u32(64);
        let mut seen = word.load(Ordering::SeqCst);
        while seen & OWNER_DIED == 0 {
            let woken = futex_wait(word, seen, Some(Duration::from_secs(10)));
            assert_ne!(woken.err().map(|e| e.errno), Some(Errno::ETIMEDOUT));
            seen = word.load(Ordering::SeqCst);
        }
        assert_eq!(
            wait_tid(Tid(child)),
            Ok(WaitStatus::Signaled(libc::SIGKILL))
        );
    }

    #[test]
    fn a_thread_that_ends_marks_its_word_and_only_its_own() {
        let mapping = SharedMapping::anonymous(4096, Place::Anywhere).expect("map");
        let mine = Lifeline::tie(&mapping, 0).expect("tie");
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                std::mem::forget(Lifeline::tie(&mapping, 128).expect("tie"));
                drop(Lifeline::tie(&mapping, 256).expect("tie"));
            });
            // The scope's own end waits for the closure, a join for the kernel's thread.
            thread.join().expect("join");
        });
        let word = |offset| mapping.atomic_u32(offset).load(Ordering::SeqCst);
        assert_eq!(word(0), Tid::this().0 as u32 | WAITERS);
        assert_eq!(word(128), OWNER_DIED | WAITERS);
        assert_eq!(word(256), 0);
        drop(mine);
        assert_eq!(word(0), 0);
    }

    #[test]
    fn lifelines_leave_the_list_in_any_order() {
        let mapping = SharedMapping::anonymous(4096, Place::Anywhere).expect("map");
        let head = robust_list_head().expect("head");
        let before = load(head as usize);
        let [a, b, c] = [0, 64, 128].map(|at| Lifeline::tie(&mapping, at).expect("tie"));
        drop(b);
        let address = |offset: usize| mapping.addr() as usize + offset;
        assert_eq!(load(head as usize), address(128 + NODE));
        assert_eq!(load(address(128 + NODE)), address(NODE));
        assert_eq!(load(address(PREVIOUS)), address(128 + NODE));
        drop(a);
        drop(c);
        assert_eq!(load(head as usize), before);
    }
}
