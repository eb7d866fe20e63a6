//! Contexts of asynchronous I/O, in the order of their numbers: the kernel gives the lowest that is free.

use super::memory::{PROT_WRITE, area, plan_early_advice};
use super::program::Object;
use super::task::Making;
use crate::objects::aio::{self, RingState};
use crate::snapshot::{Vma, VmaKind};

/// Adds the contexts of the task, each with its ring; the content of the rings comes later, with that of other memory.
pub fn plan_rings(m: &mut Making<'_>) {
    let rings = rings(m);
    if rings.is_empty() {
        return;
    }
    let object = Object::Task("rings of asynchronous I/O");
    m.b.object(object.clone());
    let is_pinned = plan_pin(m);
    let null = m.b.open_path(b"/dev/null", libc::O_RDONLY as u32);
    let mut fillers = Vec::new();
    let mut next = 0;
    for (state, vma) in rings {
        m.b.object(object.clone());
        for _ in next..state.index {
            fillers.push(aio::plan::plan_filler(&mut m.b));
        }
        next = state.index + 1;
        m.b.object(area(vma));
        aio::plan::plan_setup(&mut m.b, vma.start, vma.len());
        aio::plan::plan_events(&mut m.b, (vma.start, vma.len()), state, null);
        let prot = libc::PROT_READ as u32 | PROT_WRITE;
        m.own.mapped.insert(vma.start, prot);
        plan_early_advice(m, vma);
    }
    m.b.object(object);
    for id in fillers {
        aio::plan::plan_filler_end(&mut m.b, id);
    }
    m.b.close(null);
    if is_pinned {
        plan_affinity(m, &m.host.affinity);
    }
}

/// Returns the rings with their states, by their numbers.
fn rings<'a>(m: &mut Making<'a>) -> Vec<(RingState, &'a Vma)> {
    let mut all = Vec::new();
    let vmas = m.own.mm.vmas.iter();
    for vma in vmas.filter(|vma| vma.kind == VmaKind::AioRing) {
        match m.host.rings.get(&(m.own.task.pid, vma.start)) {
            Some(state) => all.push((*state, vma)),
            None => {
                let reason = "its content is not in the images, or none that the kernel leaves";
                m.report.refuse(area(vma).to_string(), reason, "");
            }
        }
    }
    all.sort_by_key(|(state, _)| state.index);
    for pair in all.windows(2) {
        if pair[0].0.index == pair[1].0.index {
            let reason = format!("it has number {}, as another ring", pair[1].0.index);
            m.report.refuse(area(pair[1].1).to_string(), reason, "");
        }
    }
    all
}

/// Keeps the task on one processor: the kernel sets places of a ring aside for each that it runs on.
fn plan_pin(m: &mut Making<'_>) -> bool {
    let mut one = m.host.affinity.clone();
    let Some(first) = one.iter().position(|&byte| byte != 0) else {
        return false;
    };
    one[first] = 1 << one[first].trailing_zeros();
    one[first + 1..].fill(0);
    plan_affinity(m, &one);
    true
}

fn plan_affinity(m: &mut Making<'_>, mask: &[u8]) {
    let at = m.b.put_once(mask);
    let args = [0, mask.len() as u64, at];
    m.b.call_returns(libc::SYS_sched_setaffinity, &args, 0);
}
