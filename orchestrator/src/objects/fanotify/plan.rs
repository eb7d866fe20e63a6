//! From the fact to operations. Pure.

use crate::plan::Builder;
use crate::snapshot::{Fanotify, FanotifyMark, Marked};

/// `FAN_MARK_*` (`linux/fanotify.h`).
const ADD: u32 = 1;
const MOUNT: u32 = 0x10;
const IGNORED_MASK: u32 = 0x20;
const IGNORED_SURV_MODIFY: u32 = 0x40;
const FILESYSTEM: u32 = 0x100;
const EVICTABLE: u32 = 0x200;
const IGNORE: u32 = 0x400;
/// `FAN_CLOEXEC`, which is the descriptor's.
const CLOEXEC: u32 = 1;

/// Adds the creation, without marks.
pub fn plan_create(b: &mut Builder, fanotify: &Fanotify) -> i32 {
    let flags = fanotify.init_flags & !CLOEXEC;
    let args = [u64::from(flags), u64::from(fanotify.event_flags)];
    b.open(libc::SYS_fanotify_init, &args)
}

/// Adds a mark: the events that are told, and those that are ignored.
pub fn plan_mark(b: &mut Builder, fanotify: i32, mark: &FanotifyMark) {
    let (kind, path) = match &mark.on {
        Marked::Inode(watched) => (0, &watched.node.path),
        Marked::Mount(_, path) => (MOUNT, path),
        Marked::FileSystem(_, path) => (FILESYSTEM, path),
    };
    let path = b.put_cstr(path);
    let mut add = |flags: u32, mask: u32| {
        let here = libc::AT_FDCWD as u64;
        let flags = u64::from(ADD | kind | flags);
        let args = [fanotify as u64, flags, mask.into(), here, path];
        b.call_returns(libc::SYS_fanotify_mark, &args, 0);
    };
    if mark.mask != 0 {
        add(mark.flags & EVICTABLE, mark.mask);
    }
    if mark.ignored != 0 {
        let how = match mark.flags & IGNORE {
            0 => IGNORED_MASK,
            ignore => ignore,
        };
        let survives = mark.flags & (IGNORED_SURV_MODIFY | EVICTABLE);
        add(how | survives, mark.ignored);
    }
}
