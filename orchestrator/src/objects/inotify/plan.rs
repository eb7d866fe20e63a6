//! From the fact to operations. Pure.
//!
//! Events that waited cannot be put back, as nobody can make the kernel tell of what has been. What it tells to those whose
//! events were too many is `IN_Q_OVERFLOW`, upon which a program looks at its files anew: that one is made to wait instead.
//! The kernel queues it when there is one event more than the instance takes, so as many are made, by changing the
//! modes of two files of our own in turn (equal neighbours would be one event); then the watches of these go, while nothing
//! more is queued, and all events but the last are read.

use crate::plan::Builder;
use crate::snapshot::{Inotify, InotifyWatch, PAGE_SIZE};
use arch::abi::program::{Check, Op};

/// Bytes of an event without a name (`struct inotify_event`).
const EVENT: u64 = 16;
/// Most events that an instance may take here: the program has an operation for each.
pub const MOST_EVENTS: u32 = 1 << 18;
/// `INOTIFY_IOC_SETNEXTWD` (Linux 4.16, `linux/inotify.h`).
const SETNEXTWD: u64 = 0x4004_4900;
/// What `inotify_add_watch` takes of what fdinfo tells.
const MASK: u32 = libc::IN_ALL_EVENTS | libc::IN_EXCL_UNLINK | libc::IN_ONESHOT;

/// Returns whether a new instance is all there is to it.
pub fn is_plain(inotify: &Inotify) -> bool {
    inotify.watches.is_empty() && !inotify.overflow
}

/// Adds the creation, without watches.
pub fn plan_create(b: &mut Builder, flags: u32) -> i32 {
    let flags = flags & libc::O_NONBLOCK as u32;
    b.open(libc::SYS_inotify_init1, &[u64::from(flags)])
}

/// Adds a watch with the number that it had.
pub fn plan_watch(b: &mut Builder, inotify: i32, watch: &InotifyWatch) {
    let args = [inotify as u64, SETNEXTWD, watch.wd as u64];
    b.call_returns(libc::SYS_ioctl, &args, 0);
    let path = b.put_cstr(&watch.on.node.path);
    let args = [inotify as u64, path, u64::from(watch.mask & MASK)];
    b.call_returns(libc::SYS_inotify_add_watch, &args, watch.wd.into());
}

/// Returns the bytes of room that [`plan_overflow`] needs.
pub fn overflow_len(most: u32) -> u64 {
    (u64::from(most) * EVENT).next_multiple_of(PAGE_SIZE)
}

/// Adds the event that says that others were lost, to an instance without watches that takes `most`; `at` is room to read.
pub fn plan_overflow(b: &mut Builder, inotify: i32, most: u32, at: u64) {
    let name = b.put_cstr(b"overflow");
    let files = [1, 2].map(|wd| {
        let file = b.open(libc::SYS_memfd_create, &[name, 0]);
        let path = b.put_cstr(format!("/proc/self/fd/{file}").as_bytes());
        let args = [inotify as u64, path, u64::from(libc::IN_ATTRIB)];
        b.call_returns(libc::SYS_inotify_add_watch, &args, wd);
        file
    });
    for turn in 0..=most {
        let file = files[(turn % 2) as usize];
        b.call_returns(libc::SYS_fchmod, &[file as u64, 0o600], 0);
    }
    for wd in [1, 2] {
        b.call_returns(libc::SYS_inotify_rm_watch, &[inotify as u64, wd], 0);
    }
    let len = u64::from(most) * EVENT;
    let read = Op::call(libc::SYS_read as u32, [inotify as u64, at, len, 0, 0, 0]);
    b.push(read.check(Check::Equal, len as i64));
    for file in files {
        b.close(file);
    }
}
