//! Between the facts and their records. The peer keeps policy, nice value and priority; the rest are extensions.

use crate::image::error::{Checked, wrong};
use crate::snapshot::{MemPolicy, Sched, Thread};
use proto::pb;

/// Most bytes of a CPU or node mask: 65536 CPUs.
const MAX_MASK: usize = 8192;
/// Highest number of a scheduling policy (`SCHED_EXT`).
const MAX_POLICY: u32 = 7;
/// `SCHED_CAPACITY_SCALE`, the largest utilisation clamp.
const MAX_UCLAMP: u32 = 1024;
/// `SCHED_RESET_ON_FORK`, which older writers leave in the policy.
const SCHED_RESET_ON_FORK: u32 = 0x4000_0000;

/// Fills the scheduling part of a thread's record and of its extension.
pub(crate) fn to_record(thread: &Thread, core: &mut pb::ThreadCoreEntry, ext: &mut pb::ExtThread) {
    let sched = &thread.sched;
    core.sched_policy = Some(sched.policy);
    core.sched_nice = Some(sched.nice);
    core.sched_prio = (sched.priority != 0).then_some(sched.priority);
    ext.affinity = (!thread.affinity.is_empty()).then(|| thread.affinity.clone());
    ext.ioprio = thread.ioprio;
    ext.timerslack_ns = thread.timerslack_ns;
    ext.sched_flags = (sched.flags != 0).then_some(sched.flags);
    let [runtime_ns, deadline_ns, period_ns] = sched.deadline;
    ext.deadline = (sched.deadline != [0; 3]).then_some(pb::ExtDeadline {
        runtime_ns,
        deadline_ns,
        period_ns,
    });
    ext.uclamp = sched.uclamp.map(|[min, max]| pb::ExtUclamp { min, max });
    ext.mempolicy = thread.mempolicy.as_ref().map(policy_to_record);
}

/// Fills the scheduling part of a thread.
pub(crate) fn from_record(
    core: &pb::ThreadCoreEntry,
    ext: &pb::ExtThread,
    thread: &mut Thread,
) -> Checked<()> {
    thread.sched = sched(core, ext)?;
    thread.affinity = mask("the CPU mask", ext.affinity.as_deref().unwrap_or_default())?;
    thread.ioprio = ext.ioprio;
    thread.timerslack_ns = ext.timerslack_ns;
    thread.mempolicy = ext.mempolicy.as_ref().map(policy_from_record).transpose()?;
    Ok(())
}

/// Returns the record of a memory policy.
pub(crate) fn policy_to_record(policy: &MemPolicy) -> pb::ExtMempolicy {
    pb::ExtMempolicy {
        mode: policy.mode,
        nodes: policy.nodes.clone(),
    }
}

/// Returns the memory policy in `record`.
pub(crate) fn policy_from_record(record: &pb::ExtMempolicy) -> Checked<MemPolicy> {
    Ok(MemPolicy {
        mode: record.mode,
        nodes: mask("the node mask", &record.nodes)?,
    })
}

fn sched(core: &pb::ThreadCoreEntry, ext: &pb::ExtThread) -> Checked<Sched> {
    let policy = core.sched_policy.unwrap_or(0) & !SCHED_RESET_ON_FORK;
    let nice = core.sched_nice.unwrap_or(0);
    let priority = core.sched_prio.unwrap_or(0);
    if policy > MAX_POLICY {
        return wrong!("scheduling policy {policy} is not known");
    }
    if !(-20..=19).contains(&nice) {
        return wrong!("nice value {nice} is not between -20 and 19");
    }
    if priority > 99 {
        return wrong!("real-time priority {priority} is above 99");
    }
    let uclamp = ext.uclamp.as_ref().map(|clamp| [clamp.min, clamp.max]);
    if uclamp.is_some_and(|clamp| clamp.iter().any(|&value| value > MAX_UCLAMP)) {
        return wrong!("a utilisation clamp is above {MAX_UCLAMP}");
    }
    let deadline = ext.deadline.as_ref();
    Ok(Sched {
        policy,
        nice,
        priority,
        flags: ext.sched_flags.unwrap_or(0),
        deadline: deadline.map_or([0; 3], |times| {
            [times.runtime_ns, times.deadline_ns, times.period_ns]
        }),
        uclamp,
    })
}

fn mask(what: &str, bytes: &[u8]) -> Checked<Vec<u8>> {
    if bytes.len() > MAX_MASK {
        return wrong!("{what} has {} bytes", bytes.len());
    }
    Ok(bytes.to_vec())
}
