//! Memory that comes while its task runs: areas are registered with a userfaultfd, which the orchestrator takes at the commit.
//!
//! It is made once all that the restore itself writes is in place, and before the task gives up the privileges that it needs. Areas are
//! registered whole: to register parts would split them, and a split area cannot be moved.

use super::joint::{SPACE, TABLE};
use super::program::Object;
use super::task::Making;
use crate::snapshot::{Mm, PAGE_SIZE, PageRun, Vma};

/// `UFFD_API`, and `UFFD_FEATURE_EVENT_FORK`, `_REMAP`, `_REMOVE`, `_UNMAP` (`linux/userfaultfd.h`).
const API: [u64; 3] = [0xaa, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6, 0];
/// `UFFDIO_REGISTER_MODE_MISSING`.
const MODE_MISSING: u64 = 1;
/// `_IOWR(0xaa, 0x3f, struct uffdio_api)`.
const UFFDIO_API: u64 = 0xc018_aa3f;
/// `_IOWR(0xaa, 0, struct uffdio_register)`.
const UFFDIO_REGISTER: u64 = 0xc020_aa00;

/// A task whose memory comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LazySpace {
    /// The process.
    pub pid: i32,
    /// Its userfaultfd, which is taken and closed at the commit.
    pub fd: i32,
}

/// Returns the areas that have pages which come later.
fn areas(mm: &Mm) -> impl Iterator<Item = &Vma> {
    mm.vmas.iter().filter(|vma| is_touched(&mm.lazy, vma))
}

fn is_touched(runs: &[PageRun], vma: &Vma) -> bool {
    let next = runs.partition_point(|run| run.start + run.pages * PAGE_SIZE <= vma.start);
    runs.get(next).is_some_and(|run| run.start < vma.end)
}

/// Adds the registration of the task's lazy memory.
pub fn plan_registration(m: &mut Making<'_>) {
    if m.own.mm.lazy.is_empty() {
        return;
    }
    let shares = [SPACE, TABLE].map(|kind| m.joint.follows(m.own.member, kind));
    debug_assert_eq!(shares, [false; 2], "who shares is given all at once");
    m.b.object(Object::Task("userfaultfd of its lazy memory"));
    let flags = (libc::O_CLOEXEC | libc::O_NONBLOCK) as u64;
    let fd = m.b.open(libc::SYS_userfaultfd, &[flags]);
    let api = m.b.put_words(&API);
    m.b.call_returns(libc::SYS_ioctl, &[fd as u64, UFFDIO_API, api], 0);
    let mm = m.own.mm;
    for vma in areas(mm) {
        m.b.object(super::memory::area(vma));
        let register = m.b.put_words(&[vma.start, vma.len(), MODE_MISSING, 0]);
        m.b.call_returns(libc::SYS_ioctl, &[fd as u64, UFFDIO_REGISTER, register], 0);
    }
    super::process::plan_huge_pages(m);
    let pid = m.own.task.pid;
    m.lazy.push(LazySpace { pid, fd });
}
