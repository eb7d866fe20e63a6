//! From the fact to operations. Pure.

use crate::plan::{Builder, Host, Object, Report};
use crate::snapshot::{MemPolicy, Sched, Thread};

/// `struct sched_attr` without and with utilisation clamps (`SCHED_ATTR_SIZE_VER0`, `_VER1`).
const ATTR_LEN: u32 = 48;
const ATTR_LEN_CLAMPS: u32 = 56;
/// `SCHED_FLAG_UTIL_CLAMP_MIN | SCHED_FLAG_UTIL_CLAMP_MAX`.
const FLAG_CLAMPS: u64 = 0x60;
/// Flags that are a property of the thread, not an instruction to the call: RESET_ON_FORK, RECLAIM, DL_OVERRUN.
const FLAGS: u64 = 0x07;
/// `IOPRIO_WHO_PROCESS`; 0 as the second argument is the calling thread.
const IOPRIO_WHO_PROCESS: u64 = 1;

/// Adds affinity, policy, nice value, I/O priority, timer slack and memory policy of the calling thread.
pub fn plan_sched(b: &mut Builder, thread: &Thread, host: &Host, report: &mut Report) {
    plan_affinity(b, thread, host, report);
    plan_policy(b, thread.tid, &thread.sched);
    if let Some(ioprio) = thread.ioprio {
        b.object(Object::Thread(thread.tid, "I/O priority"));
        let args = [IOPRIO_WHO_PROCESS, 0, u64::from(ioprio)];
        b.call_returns(libc::SYS_ioprio_set, &args, 0);
    }
    // Real-time threads have a slack of 0, which cannot be asked for: 0 means the default (`prctl(2)`).
    if let Some(slack) = thread.timerslack_ns.filter(|&slack| slack != 0) {
        b.object(Object::Thread(thread.tid, "timer slack"));
        let set = libc::PR_SET_TIMERSLACK as u64;
        b.call_returns(libc::SYS_prctl, &[set, slack], 0);
    }
    if let Some(policy) = &thread.mempolicy {
        plan_mempolicy(b, thread.tid, policy);
    }
}

fn plan_affinity(b: &mut Builder, thread: &Thread, host: &Host, report: &mut Report) {
    if thread.affinity.is_empty() {
        return;
    }
    let has_any = thread
        .affinity
        .iter()
        .zip(&host.affinity)
        .any(|(want, have)| want & have != 0);
    if !has_any && !host.affinity.is_empty() {
        report.refuse(
            format!("thread {}", thread.tid),
            "none of the CPUs that it is bound to is there",
            "",
        );
    }
    b.object(Object::Thread(thread.tid, "CPU affinity"));
    let mask = b.put(&thread.affinity);
    let args = [0, thread.affinity.len() as u64, mask];
    b.call_returns(libc::SYS_sched_setaffinity, &args, 0);
}

fn plan_policy(b: &mut Builder, tid: i32, sched: &Sched) {
    b.object(Object::Thread(tid, "scheduling"));
    // The nice value of a thread that is not of the normal policies sleeps, but is there.
    let is_normal = matches!(sched.policy as i32, libc::SCHED_OTHER | libc::SCHED_BATCH);
    if !is_normal {
        let args = [libc::PRIO_PROCESS as u64, 0, sched.nice as u64];
        b.call_returns(libc::SYS_setpriority, &args, 0);
    }
    let attr = b.put(&attributes(sched));
    b.call_returns(libc::SYS_sched_setattr, &[0, attr, 0], 0);
}

fn attributes(sched: &Sched) -> Vec<u8> {
    let (len, clamp_flags) = match sched.uclamp {
        Some(_) => (ATTR_LEN_CLAMPS, FLAG_CLAMPS),
        None => (ATTR_LEN, 0),
    };
    let mut bytes = Vec::with_capacity(ATTR_LEN_CLAMPS as usize);
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&sched.policy.to_le_bytes());
    bytes.extend_from_slice(&(sched.flags & FLAGS | clamp_flags).to_le_bytes());
    bytes.extend_from_slice(&sched.nice.to_le_bytes());
    bytes.extend_from_slice(&sched.priority.to_le_bytes());
    for time in sched.deadline {
        bytes.extend_from_slice(&time.to_le_bytes());
    }
    for clamp in sched.uclamp.iter().flatten() {
        bytes.extend_from_slice(&clamp.to_le_bytes());
    }
    bytes
}

fn plan_mempolicy(b: &mut Builder, tid: i32, policy: &MemPolicy) {
    b.object(Object::Thread(tid, "memory policy"));
    let nodes = b.put(&policy.nodes);
    // The kernel takes one bit less than it is told (`get_nodes`, `mm/mempolicy.c`).
    let bits = policy.nodes.len() as u64 * 8 + 1;
    let args = [u64::from(policy.mode), nodes, bits];
    b.call_returns(libc::SYS_set_mempolicy, &args, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_the_length_they_name() {
        let mut sched = Sched {
            nice: -5,
            ..Sched::default()
        };
        assert_eq!(attributes(&sched).len(), 48);
        assert_eq!(attributes(&sched)[..4], 48_u32.to_le_bytes());
        assert_eq!(attributes(&sched)[16..20], (-5_i32).to_le_bytes());
        sched.uclamp = Some([1, 1024]);
        assert_eq!(attributes(&sched).len(), 56);
        assert_eq!(attributes(&sched)[8..16], 0x60_u64.to_le_bytes());
    }
}
