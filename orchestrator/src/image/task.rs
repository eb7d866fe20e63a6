//! Between a task and its records: what its leader's `core-PID.img` adds, `ids-PID.img`, `fs-PID.img`.

use proto::pb;

use super::error::{Checked, wrong};
use crate::objects::{attributes, limits, signals, timers};
use crate::snapshot::{FileId, Fs, Task, TaskIds, TaskState};

/// Returns the record that the leader's core holds of `task`.
pub(super) fn to_record(task: &Task) -> pb::TaskCoreEntry {
    let mut record = pb::TaskCoreEntry::default();
    attributes::image::to_record(task, &mut record);
    if task.state == TaskState::Zombie {
        return record;
    }
    record.blk_sigset = task.threads.first().map_or(0, |leader| leader.blocked);
    record.timers = Some(timers::image::to_record(
        &task.interval_timers,
        &task.posix_timers,
    ));
    record.rlimits = Some(pb::TaskRlimitsEntry {
        rlimits: limits::image::to_records(&task.rlimits),
    });
    record.signals_s = Some(signals::image::queue_to_record(&task.pending));
    record.sigactions = signals::image::actions_to_records(&task.sigactions);
    record
}

/// Fills `task` from the record in its leader's core.
pub(super) fn from_record(record: &pb::TaskCoreEntry, task: &mut Task) -> Checked<()> {
    attributes::image::from_record(record, task)?;
    if task.state == TaskState::Zombie {
        return Ok(());
    }
    if let Some(set) = &record.timers {
        task.interval_timers = timers::image::interval_timers([&set.real, &set.virt, &set.prof])?;
        task.posix_timers = timers::image::posix_timers(&set.posix)?;
    }
    if let Some(set) = &record.rlimits {
        task.rlimits = limits::image::from_records(&set.rlimits)?;
    }
    if let Some(queue) = &record.signals_s {
        task.pending = signals::image::queue_from_records(&queue.signals)?;
    }
    task.sigactions = signals::image::actions_from_records(&record.sigactions)?;
    Ok(())
}

/// Returns the record of `ids`.
pub(super) fn ids_to_record(ids: &TaskIds) -> pb::TaskKobjIdsEntry {
    let recorded = |id: u32| (id != 0).then_some(id);
    pb::TaskKobjIdsEntry {
        vm_id: ids.vm,
        files_id: ids.files,
        fs_id: ids.fs,
        sighand_id: ids.sighand,
        pid_ns_id: recorded(ids.pid_ns),
        net_ns_id: recorded(ids.net_ns),
        ipc_ns_id: recorded(ids.ipc_ns),
        uts_ns_id: recorded(ids.uts_ns),
        mnt_ns_id: recorded(ids.mnt_ns),
        user_ns_id: recorded(ids.user_ns),
        cgroup_ns_id: recorded(ids.cgroup_ns),
        time_ns_id: recorded(ids.time_ns),
    }
}

/// Returns the ids in `record`: any number is one.
pub(super) fn ids_from_record(record: &pb::TaskKobjIdsEntry) -> TaskIds {
    TaskIds {
        vm: record.vm_id,
        files: record.files_id,
        fs: record.fs_id,
        sighand: record.sighand_id,
        pid_ns: record.pid_ns_id.unwrap_or(0),
        net_ns: record.net_ns_id.unwrap_or(0),
        ipc_ns: record.ipc_ns_id.unwrap_or(0),
        uts_ns: record.uts_ns_id.unwrap_or(0),
        mnt_ns: record.mnt_ns_id.unwrap_or(0),
        user_ns: record.user_ns_id.unwrap_or(0),
        cgroup_ns: record.cgroup_ns_id.unwrap_or(0),
        time_ns: record.time_ns_id.unwrap_or(0),
    }
}

/// Returns the record of `fs`.
pub(super) fn fs_to_record(fs: &Fs) -> pb::FsEntry {
    pb::FsEntry {
        cwd_id: fs.cwd.0,
        root_id: fs.root.0,
        umask: Some(fs.umask),
    }
}

/// Returns the fact in `record`.
pub(super) fn fs_from_record(record: &pb::FsEntry) -> Checked<Fs> {
    fs_of([record.cwd_id, record.root_id], record.umask.unwrap_or(0))
}

/// Returns the fact in the record of a thread's own.
pub(super) fn own_fs_from_record(record: &pb::ExtFs) -> Checked<Fs> {
    fs_of([record.cwd, record.root], record.umask)
}

fn fs_of([cwd, root]: [u32; 2], umask: u32) -> Checked<Fs> {
    if umask > 0o777 {
        return wrong!("umask {umask:#o} has bits that no mask has");
    }
    Ok(Fs {
        cwd: FileId(cwd),
        root: FileId(root),
        umask,
    })
}
