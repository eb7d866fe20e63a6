//! Between the facts and their records. What the peer does not keep stands in the extension of the task's record.

use crate::image::error::{Checked, wrong};
use crate::image::limits::{comm, signal};
use crate::snapshot::{Task, TaskState, Thread};
use proto::pb;

/// Values of `task_core_entry.task_state`.
const ALIVE: u32 = 1;
const DEAD: u32 = 2;
const STOPPED: u32 = 3;
/// How the kernel says that `loginuid` is unset.
const LOGINUID_UNSET: u32 = u32::MAX;
/// Highest bit of `MEMBARRIER_CMD_REGISTER_*` and of commands still to come.
const MEMBARRIER: u32 = 0xffff;

/// Fills a task's record with its attributes.
pub(crate) fn to_record(task: &Task, record: &mut pb::TaskCoreEntry) {
    record.task_state = match task.state {
        TaskState::Alive => ALIVE,
        TaskState::Zombie => DEAD,
        TaskState::Stopped => STOPPED,
    };
    record.exit_code = task.exit_code;
    record.personality = task.personality;
    record.flags = task.flags;
    record.comm = task.comm.clone();
    if task.state == TaskState::Zombie {
        record.ext = task.exit_signal.map(|_| pb::ExtTask {
            exit_signal: task.exit_signal,
            ..Default::default()
        });
        return;
    }
    record.loginuid = task.loginuid;
    record.oom_score_adj = task.oom_score_adj;
    record.child_subreaper = Some(task.child_subreaper);
    record.stop_signo = task.stop_signal;
    record.membarrier_registration_mask = (task.membarrier != 0).then_some(task.membarrier);
    let ext = pb::ExtTask {
        coredump_filter: task.coredump_filter,
        autogroup_nice: task.autogroup_nice,
        mdwe: task.mdwe,
        memory_merge: task.memory_merge,
        exit_signal: task.exit_signal,
        terminal: task.terminal,
    };
    record.ext = (ext != pb::ExtTask::default()).then_some(ext);
}

/// Fills a task with the attributes in its record.
pub(crate) fn from_record(record: &pb::TaskCoreEntry, task: &mut Task) -> Checked<()> {
    task.state = match record.task_state {
        ALIVE => TaskState::Alive,
        DEAD => TaskState::Zombie,
        STOPPED => TaskState::Stopped,
        other => return wrong!("state {other} of a task is not known"),
    };
    task.exit_code = record.exit_code;
    task.personality = record.personality;
    task.flags = record.flags;
    task.comm = comm(&record.comm)?;
    let exit_signal = record.ext.as_ref().and_then(|ext| ext.exit_signal);
    task.exit_signal = exit_signal.map(signal).transpose()?;
    task.loginuid = record.loginuid.filter(|&uid| uid != LOGINUID_UNSET);
    task.oom_score_adj = record.oom_score_adj;
    if task
        .oom_score_adj
        .is_some_and(|score| !(-1000..=1000).contains(&score))
    {
        return wrong!(
            "oom_score_adj {:?} is not between -1000 and 1000",
            task.oom_score_adj
        );
    }
    task.child_subreaper = record.child_subreaper.unwrap_or(false);
    task.stop_signal = record.stop_signo.map(signal).transpose()?;
    task.membarrier = record.membarrier_registration_mask.unwrap_or(0);
    if task.membarrier & !MEMBARRIER != 0 {
        return wrong!(
            "membarrier registrations {:#x} are not known",
            task.membarrier
        );
    }
    let Some(ext) = &record.ext else {
        return Ok(());
    };
    task.coredump_filter = ext.coredump_filter;
    task.autogroup_nice = ext.autogroup_nice;
    task.mdwe = ext.mdwe;
    task.memory_merge = ext.memory_merge;
    task.terminal = ext.terminal;
    if task
        .autogroup_nice
        .is_some_and(|nice| !(-20..=19).contains(&nice))
    {
        return wrong!(
            "autogroup nice value {:?} is not between -20 and 19",
            task.autogroup_nice
        );
    }
    Ok(())
}

/// Fills the extension of a thread's record with its attributes.
pub(crate) fn thread_to_record(thread: &Thread, ext: &mut pb::ExtThread) {
    ext.mce_kill = thread.mce_kill;
    ext.tsc_mode = thread.tsc_mode;
    ext.io_flusher = thread.io_flusher;
    ext.cpuid_faults = thread.cpuid_faults.then_some(true);
}

/// Fills a thread with the attributes in the extension of its record.
pub(crate) fn thread_from_record(ext: &pb::ExtThread, thread: &mut Thread) -> Checked<()> {
    thread.mce_kill = ext.mce_kill;
    thread.tsc_mode = ext.tsc_mode;
    thread.io_flusher = ext.io_flusher;
    thread.cpuid_faults = ext.cpuid_faults.unwrap_or(false);
    let is_known = |value: Option<u32>| value.is_none_or(|value| value <= 2);
    if !is_known(thread.mce_kill) || !is_known(thread.tsc_mode) {
        return wrong!(
            "machine-check policy {:?} or TSC mode {:?} is not known",
            thread.mce_kill,
            thread.tsc_mode
        );
    }
    Ok(())
}
