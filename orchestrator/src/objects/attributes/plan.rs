//! From the fact to operations. Pure.

use crate::plan::{Builder, Host, Object, Report};
use crate::snapshot::{Task, Thread};

/// `PR_MCE_KILL_SET` and `PR_MCE_KILL_DEFAULT` (`include/uapi/linux/prctl.h`).
const MCE_KILL_SET: u64 = 1;
const MCE_KILL_DEFAULT: u32 = 2;
/// `PR_SET_IO_FLUSHER` (Linux 5.6).
const PR_SET_IO_FLUSHER: u64 = 57;
/// `ARCH_SET_CPUID` (Linux 4.12): ENODEV where the processor cannot.
const ARCH_SET_CPUID: u64 = 0x1012;
/// `PR_TSC_ENABLE`.
const TSC_ENABLE: u32 = 1;
/// Speculation that can be controlled per task: store bypass, indirect branch, L1D flush; their states.
const SPEC_PRCTL: u32 = 1;
const SPEC_ENABLE: u32 = 1 << 1;
const SPEC_STATES: u32 = 0x1e;

/// Adds what the process has beside memory, descriptors and signals.
pub fn plan_process(
    b: &mut Builder,
    (task, in_callers_session): (&Task, bool),
    host: &Host,
    report: &mut Report,
) {
    b.object(Object::Task("personality"));
    b.call(libc::SYS_personality, &[u64::from(task.personality)]);
    if task.child_subreaper {
        b.object(Object::Task("child subreaper"));
        let set = libc::PR_SET_CHILD_SUBREAPER as u64;
        b.call_returns(libc::SYS_prctl, &[set, 1], 0);
    }
    for bit in (0..32).filter(|bit| task.membarrier >> bit & 1 != 0) {
        b.object(Object::Task("membarrier registration"));
        b.call_returns(libc::SYS_membarrier, &[1 << bit, 0, 0], 0);
    }
    plan_proc_files(b, task, host, report);
    plan_autogroup(b, (task, in_callers_session), host, report);
}

/// Adds what is set by writing to the process's own files in `/proc`.
fn plan_proc_files(b: &mut Builder, task: &Task, host: &Host, report: &mut Report) {
    if let Some(filter) = task.coredump_filter {
        b.object(Object::Task("coredump_filter"));
        let text = format!("{filter:#x}");
        b.write_file(b"/proc/self/coredump_filter", text.as_bytes());
    }
    if let Some(adj) = task.oom_score_adj.filter(|&adj| adj != host.oom_score_adj) {
        if adj < host.oom_score_adj && !host.has_sys_resource() {
            report.lose(format!(
                "oom_score_adj {adj}: lowering it needs CAP_SYS_RESOURCE"
            ));
        } else {
            b.object(Object::Task("oom_score_adj"));
            b.write_file(b"/proc/self/oom_score_adj", adj.to_string().as_bytes());
        }
    }
    if let Some(uid) = task.loginuid.filter(|&uid| Some(uid) != host.loginuid) {
        b.object(Object::Task("loginuid"));
        b.write_file(b"/proc/self/loginuid", uid.to_string().as_bytes());
    }
}

/// Adds the nice value of the autogroup, which all of a session have in common.
fn plan_autogroup(
    b: &mut Builder,
    (task, in_callers_session): (&Task, bool),
    host: &Host,
    report: &mut Report,
) {
    let Some(nice) = task.autogroup_nice.filter(|&nice| nice != 0) else {
        return;
    };
    if host.has_autogroup && !in_callers_session {
        b.object(Object::Task("autogroup nice"));
        b.write_file(b"/proc/self/autogroup", nice.to_string().as_bytes());
    } else {
        let reason = match host.has_autogroup {
            true => "the session's autogroup is not the task's own",
            false => "this kernel has them switched off (kernel.sched_autogroup_enabled)",
        };
        report.lose(format!("autogroup nice {nice}: {reason}"));
    }
}

/// Adds what a thread has of this.
pub fn plan_thread(b: &mut Builder, thread: &Thread, host: &Host, report: &mut Report) {
    if let Some(policy) = thread.mce_kill.filter(|&policy| policy != MCE_KILL_DEFAULT) {
        let set = libc::PR_MCE_KILL as u64;
        let args = [set, MCE_KILL_SET, u64::from(policy)];
        prctl(b, thread, "machine-check policy", &args);
    }
    if thread.io_flusher == Some(true) {
        if host.has_sys_resource() {
            prctl(b, thread, "I/O flusher", &[PR_SET_IO_FLUSHER, 1]);
        } else {
            report.lose(format!(
                "thread {}: I/O flusher state: setting it needs CAP_SYS_RESOURCE",
                thread.tid
            ));
        }
    }
    for (which, state) in (0_u64..).zip(thread.speculation) {
        let Some(state) = state else { continue };
        let can_be_set = state & SPEC_PRCTL != 0;
        if can_be_set && state & SPEC_STATES != SPEC_ENABLE && state & SPEC_STATES != 0 {
            b.object(Object::Thread(thread.tid, "speculation control"));
            let set = libc::PR_SET_SPECULATION_CTRL as u64;
            let args = [set, which, u64::from(state & SPEC_STATES)];
            // A processor or kernel that has nothing to control here needs no protection either, or gives none to anybody.
            b.call_or(libc::SYS_prctl, &args, libc::ENXIO);
        }
    }
}

/// Adds what is in force from then on, or would be reset by the change of credentials before. The parent-death signal,
/// which is reset too, is set by the commit: no parent that ends before may send it.
pub fn plan_thread_last(b: &mut Builder, thread: &Thread) {
    if let Some(mode) = thread
        .tsc_mode
        .filter(|&mode| mode != TSC_ENABLE && mode != 0)
    {
        let set = libc::PR_SET_TSC as u64;
        prctl(b, thread, "time-stamp counter", &[set, u64::from(mode)]);
    }
    if thread.cpuid_faults {
        b.object(Object::Thread(thread.tid, "faulting of CPUID"));
        b.call_returns(libc::SYS_arch_prctl, &[ARCH_SET_CPUID, 0], 0);
    }
}

fn prctl(b: &mut Builder, thread: &Thread, what: &'static str, args: &[u64]) {
    b.object(Object::Thread(thread.tid, what));
    b.call_returns(libc::SYS_prctl, args, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_may_not_set_is_named() {
        let thread = Thread {
            io_flusher: Some(true),
            ..Thread::default()
        };
        let task = Task {
            oom_score_adj: Some(-5),
            autogroup_nice: Some(3),
            pid: 4,
            sid: 3,
            ..Task::default()
        };
        let (mut b, mut report) = (Builder::for_test(), Report::default());
        plan_process(&mut b, (&task, true), &Host::default(), &mut report);
        plan_thread(&mut b, &thread, &Host::default(), &mut report);
        assert_eq!(report.not_kept.len(), 3, "{:?}", report.not_kept);
        assert_eq!(b.calls().len(), 1, "personality");
        let mut host = Host::default();
        host.creds.cap_effective = 1 << 24;
        plan_process(&mut b, (&task, true), &host, &mut report);
        plan_thread(&mut b, &thread, &host, &mut report);
        assert_eq!(report.not_kept.len(), 4);
        assert!(b.calls().iter().any(|call| call.1[0] == PR_SET_IO_FLUSHER));
    }
}
