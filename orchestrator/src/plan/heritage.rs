//! What a child is born with: areas in common with its parent are kept, all else of the parent's memory goes.

use super::inherit::{Common, common, misplaced, missing};
use super::memory::{PROT_WRITE, area, is_filled};
use super::program::Object;
use super::task::Making;
use crate::snapshot::{Task, Vma};

/// Adds the end of what the task was born with and has no use for.
pub fn plan_leave(m: &mut Making<'_>) {
    let birth = m.births.get(&m.own.member).cloned().unwrap_or_default();
    if birth.mapped.is_empty() {
        return;
    }
    let parents = parent_areas(m);
    let common = common(&parents, &m.own.mm.vmas);
    m.b.object(Object::Task("memory of the parent"));
    for vma in parents
        .iter()
        .filter(|vma| birth.mapped.contains_key(&vma.start))
    {
        let kept = common.iter();
        let mut at = vma.start;
        for range in kept.filter(|range| vma.start <= range.start && range.start < vma.end) {
            plan_unmap(m, at, range.start);
            at = range.end;
        }
        plan_unmap(m, at, vma.end);
    }
}

fn plan_unmap(m: &mut Making<'_>, start: u64, end: u64) {
    if start < end {
        m.b.call_returns(libc::SYS_munmap, &[start, end - start], 0);
    }
}

/// Returns the areas of the task whose memory this one was born with.
fn parent_areas(m: &Making<'_>) -> Vec<Vma> {
    let mm = source(m).and_then(|task| task.mm.as_ref());
    mm.map(|mm| mm.vmas.clone()).unwrap_or_default()
}

fn source<'a>(m: &Making<'a>) -> Option<&'a Task> {
    let place = m.family.memory_of(m.own.member)?;
    m.snapshot.tasks.get(place)
}

/// Keeps what the task was born with, grown to its size, and returns it.
pub fn plan_inherited(m: &mut Making<'_>) -> Vec<Common> {
    let birth = m.births.get(&m.own.member).cloned().unwrap_or_default();
    let parents = parent_areas(m);
    let mut kept = common(&parents, &m.own.mm.vmas);
    kept.retain(|range| birth.mapped.contains_key(&parents[range.parent].start));
    if let Some(addr) = misplaced(&m.own.mm.pages, &kept) {
        let reason = "it is said to be as in the parent task, which has no such memory";
        m.report.refuse(format!("page {addr:x}"), reason, "");
    }
    for range in &kept {
        let vma = &m.own.mm.vmas[range.child];
        let prot = birth.mapped[&parents[range.parent].start];
        m.b.object(area(vma));
        if range.end < vma.end {
            let args = [range.start, range.end - range.start, vma.len(), 0];
            m.b.call_returns(libc::SYS_mremap, &args, range.start as i64);
        }
        let mut now = prot;
        if is_filled(m, vma, None) && prot & PROT_WRITE == 0 {
            now |= PROT_WRITE;
            let args = [vma.start, vma.len(), u64::from(now)];
            m.b.call_returns(libc::SYS_mprotect, &args, 0);
        }
        m.own.mapped.insert(vma.start, now);
    }
    kept
}

/// Throws away pages that the parent has and the task has not.
pub fn plan_differences(m: &mut Making<'_>, kept: &[Common]) {
    let Some(parent) = source(m).and_then(|task| task.mm.as_ref()) else {
        return;
    };
    for range in kept {
        for [start, end] in missing(&parent.pages, &m.own.mm.pages, range.start, range.end) {
            m.b.object(area(&m.own.mm.vmas[range.child]));
            let args = [start, end - start, libc::MADV_DONTNEED as u64];
            m.b.call_returns(libc::SYS_madvise, &args, 0);
        }
    }
}
