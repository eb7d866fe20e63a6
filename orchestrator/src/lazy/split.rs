//! Which pages come later. Pure; restore and daemon ask the same question of the same images.
//!
//! Later come those of areas that may be lazy ([`Vma::may_be_lazy`]), wherever their bytes lie, but for a few pages of each
//! thread: the kernel writes there for the restore (restartable sequences), or when the thread ends, where it waits for nobody.
//! Who shares its memory or its descriptors with another process gets all of it at once.

use crate::image;
use crate::snapshot::{Arch, PAGE_SIZE, PageLocation, PageRun, Snapshot, Task, TaskState, Vma};
use std::collections::BTreeSet;

/// Takes the pages that come later out of those that are filled before the tree runs.
///
/// # Errors
/// A page is said to be as in the parent task, which has none.
pub fn split(snapshot: &mut Snapshot) -> image::Result<()> {
    image::resolve_inherited(snapshot)?;
    let tasks: Vec<&Task> = snapshot.tasks.iter().collect();
    let all: Vec<Vec<[u64; 2]>> = tasks.iter().map(|task| ranges(task, &tasks)).collect();
    for (task, ranges) in snapshot.tasks.iter_mut().zip(all) {
        if let Some(mm) = &mut task.mm {
            (mm.lazy, mm.pages) = divide(&mm.pages, &ranges);
        }
    }
    Ok(())
}

/// Returns the ranges of a task, ascending, whose pages come later; `all` are the tasks of its tree.
pub fn ranges(task: &Task, all: &[&Task]) -> Vec<[u64; 2]> {
    match &task.mm {
        Some(mm) if !all.iter().any(|other| share(task, other)) => {
            without(&mm.vmas, &needed_at_once(task))
        }
        _ => Vec::new(),
    }
}

fn share(one: &Task, other: &Task) -> bool {
    let are_same = |one: u32, other: u32| one != 0 && one == other;
    one.pid != other.pid
        && one.state != TaskState::Zombie
        && other.state != TaskState::Zombie
        && (are_same(one.ids.vm, other.ids.vm) || are_same(one.ids.files, other.ids.files))
}

/// Returns the pages that have to be there before a task runs.
fn needed_at_once(task: &Task) -> BTreeSet<u64> {
    let mut pages = BTreeSet::new();
    let mut add = |start: u64, len: u64| {
        let first = start - start % PAGE_SIZE;
        let end = start.saturating_add(len.clamp(1, PAGE_SIZE));
        pages.extend((first..end).step_by(PAGE_SIZE as usize));
    };
    for thread in &task.threads {
        if let Arch::X86_64 { regs, .. } = &thread.arch {
            add(regs.fs_base, PAGE_SIZE / 4);
        }
        if let Some(rseq) = &thread.rseq {
            add(rseq.addr, rseq.size.into());
        }
        if let Some(list) = &thread.robust_list {
            add(list.head, list.len.into());
        }
        add(thread.clear_child_tid, size_of::<u32>() as u64);
    }
    pages
}

/// Returns the areas that may be lazy, ascending, without some pages.
fn without(vmas: &[Vma], at_once: &BTreeSet<u64>) -> Vec<[u64; 2]> {
    let mut all = Vec::new();
    for vma in vmas.iter().filter(|vma| vma.may_be_lazy()) {
        let mut at = vma.start;
        for &page in at_once.range(vma.start..vma.end) {
            if at < page {
                all.push([at, page]);
            }
            at = page + PAGE_SIZE;
        }
        if at < vma.end {
            all.push([at, vma.end]);
        }
    }
    all
}

/// Divides runs, which ascend, into those inside of `ranges`, which ascend too, and the others.
fn divide(runs: &[PageRun], ranges: &[[u64; 2]]) -> (Vec<PageRun>, Vec<PageRun>) {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for run in runs {
        let end = run.start + run.pages * PAGE_SIZE;
        let mut at = run.start;
        let first = ranges.partition_point(|range| range[1] <= run.start);
        for range in ranges[first..].iter().take_while(|range| range[0] < end) {
            outside.extend(part(run, at, range[0]));
            inside.extend(part(run, at.max(range[0]), range[1].min(end)));
            at = range[1].min(end);
        }
        outside.extend(part(run, at, end));
    }
    (inside, outside)
}

fn part(run: &PageRun, start: u64, end: u64) -> Option<PageRun> {
    let at = match run.at {
        PageLocation::Here { pages_id, offset } => PageLocation::Here {
            pages_id,
            offset: offset + start.saturating_sub(run.start),
        },
        elsewhere => elsewhere,
    };
    (start < end).then(|| PageRun {
        start,
        pages: (end - start) / PAGE_SIZE,
        at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Mm, Rseq, Thread, VmaKind};

    fn vma(start: u64, end: u64, kind: VmaKind) -> Vma {
        Vma::new(
            [start, end],
            3,
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u32,
            kind,
        )
    }

    fn here(start: u64, pages: u64, offset: u64) -> PageRun {
        let at = PageLocation::Here {
            pages_id: 1,
            offset,
        };
        PageRun { start, pages, at }
    }

    fn task(pid: i32) -> Task {
        let thread = Thread {
            rseq: Some(Rseq {
                addr: 0x12fe0,
                size: 32,
                ..Rseq::default()
            }),
            ..Thread::default()
        };
        let file = VmaKind::FilePrivate(crate::snapshot::FileId(1));
        let mm = Mm {
            vmas: vec![
                vma(0x1000, 0x3000, file),
                vma(0x10000, 0x20000, VmaKind::Anonymous),
            ],
            pages: vec![here(0x1000, 2, 0), here(0x10000, 16, 0x2000)],
            ..Mm::default()
        };
        Task {
            pid,
            threads: vec![thread],
            mm: Some(mm),
            ..Task::default()
        }
    }

    #[test]
    fn what_the_kernel_writes_comes_at_once() {
        let mut snapshot = Snapshot {
            tasks: vec![task(1)],
            ..Snapshot::default()
        };
        split(&mut snapshot).expect("split");
        let mm = snapshot.tasks[0].mm.as_ref().expect("memory");
        assert_eq!(
            mm.lazy,
            [here(0x10000, 2, 0x2000), here(0x13000, 13, 0x5000)]
        );
        assert_eq!(mm.pages, [here(0x1000, 2, 0), here(0x12000, 1, 0x4000)]);
    }

    #[test]
    fn those_who_share_get_all_at_once() {
        for shared in [true, false] {
            let mut tasks = [task(1), task(2)];
            if shared {
                tasks.iter_mut().for_each(|task| task.ids.files = 7);
            }
            let mut snapshot = Snapshot {
                tasks: tasks.into(),
                ..Snapshot::default()
            };
            split(&mut snapshot).expect("split");
            assert_eq!(snapshot.is_lazy(), !shared);
        }
    }
}
