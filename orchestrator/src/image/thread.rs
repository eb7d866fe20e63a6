//! Between a thread and its `core-TID.img`.

use proto::pb;

use super::error::{Checked, wrong};
use super::limits::{address, comm, signal};
use super::machine;
use super::xstate::Layout;
use crate::objects::{attributes, creds, sched, signals};
use crate::snapshot::{RobustList, Rseq, SeccompMode, SyscallDispatch, Thread};

/// The cgroup set that every thread is in: cgroups are the caller's.
pub(super) const CGROUP_SET: u32 = 1;
/// `sizeof(struct robust_list_head)`.
const ROBUST_HEAD: u32 = 24;

/// Returns the record of `thread`, without what only a leader's has.
pub(super) fn to_record(
    thread: &Thread,
    is_leader: bool,
    layout: &Layout,
) -> Checked<pb::CoreEntry> {
    let machine = machine::to_record(thread, layout)?;
    let mut core = pb::ThreadCoreEntry {
        futex_rla: thread.robust_list.map_or(0, |list| list.head),
        futex_rla_len: thread.robust_list.map_or(ROBUST_HEAD, |list| list.len),
        blk_sigset: (!is_leader).then_some(thread.blocked),
        sas: Some(signals::image::altstack_to_record(thread.altstack.as_ref())),
        pdeath_sig: (thread.pdeath_signal != 0).then_some(thread.pdeath_signal),
        signals_p: Some(signals::image::queue_to_record(&thread.pending)),
        creds: Some(creds::image::to_record(&thread.creds)),
        comm: Some(thread.comm.clone()),
        rseq_entry: thread.rseq.as_ref().map(rseq_to_record),
        cg_set: Some(CGROUP_SET),
        ..Default::default()
    };
    seccomp_to_record(thread.seccomp, &mut core);
    let mut ext = ext_to_record(thread);
    ext.xstate = machine.xstate;
    sched::image::to_record(thread, &mut core, &mut ext);
    attributes::image::thread_to_record(thread, &mut ext);
    core.ext = (ext != pb::ExtThread::default()).then_some(ext);
    Ok(pb::CoreEntry {
        mtype: machine.mtype as i32,
        thread_info: machine.info,
        thread_core: Some(core),
        ..Default::default()
    })
}

/// Returns the thread in `record`, and the components of extended state that this machine does not have.
pub(super) fn from_record(
    tid: i32,
    record: &pb::CoreEntry,
    layout: &Layout,
) -> Checked<(Thread, Vec<u32>)> {
    let machine = machine::from_record(record, layout)?;
    let Some(core) = &record.thread_core else {
        return wrong!("what it keeps of a thread is missing");
    };
    let leader = record.tc.as_ref();
    let mut thread = Thread {
        tid,
        arch: machine.arch,
        clear_child_tid: machine.clear_child_tid,
        blocked: core
            .blk_sigset
            .or(leader.map(|task| task.blk_sigset))
            .unwrap_or(0),
        robust_list: robust_list(core)?,
        ..Thread::default()
    };
    if let Some(name) = core.comm.as_ref().or(leader.map(|task| &task.comm)) {
        thread.comm = comm(name)?;
    }
    if let Some(queue) = &core.signals_p {
        thread.pending = signals::image::queue_from_records(&queue.signals)?;
    }
    if let Some(stack) = &core.sas {
        thread.altstack = signals::image::altstack_from_record(stack)?;
    }
    let Some(record) = &core.creds else {
        // Zeros would be those of root.
        return wrong!("its credentials are missing");
    };
    thread.creds = creds::image::from_record(record).map_err(|wrong| wrong.of("credentials"))?;
    thread.rseq = core
        .rseq_entry
        .as_ref()
        .map(rseq_from_record)
        .transpose()?
        .flatten();
    thread.pdeath_signal = signal(core.pdeath_sig.unwrap_or(0))?;
    thread.seccomp = seccomp_from_record(core, leader)?;
    let ext = core.ext.clone().unwrap_or_default();
    sched::image::from_record(core, &ext, &mut thread)?;
    attributes::image::thread_from_record(&ext, &mut thread)?;
    ext_from_record(&ext, &mut thread)?;
    Ok((thread, machine.missing))
}

fn robust_list(core: &pb::ThreadCoreEntry) -> Checked<Option<RobustList>> {
    if core.futex_rla == 0 || core.futex_rla_len == 0 {
        return Ok(None);
    }
    if core.futex_rla_len != ROBUST_HEAD {
        return wrong!("a robust list's head of {} bytes", core.futex_rla_len);
    }
    let head = address(core.futex_rla).map_err(|wrong| wrong.of("robust list"))?;
    Ok(Some(RobustList {
        head,
        len: core.futex_rla_len,
    }))
}

fn rseq_to_record(rseq: &Rseq) -> pb::RseqEntry {
    pb::RseqEntry {
        rseq_abi_pointer: rseq.addr,
        rseq_abi_size: rseq.size,
        signature: rseq.signature,
        rseq_cs_pointer: (rseq.critical_section != 0).then_some(rseq.critical_section),
    }
}

/// A record with address 0 says that none is registered.
fn rseq_from_record(record: &pb::RseqEntry) -> Checked<Option<Rseq>> {
    if record.rseq_abi_pointer == 0 {
        return Ok(None);
    }
    // kernel/rseq.c: the size is at least that of the first version, and a page at most makes sense.
    if !(32..=4096).contains(&record.rseq_abi_size) {
        return wrong!("an rseq area of {} bytes", record.rseq_abi_size);
    }
    Ok(Some(Rseq {
        addr: address(record.rseq_abi_pointer).map_err(|wrong| wrong.of("rseq"))?,
        size: record.rseq_abi_size,
        signature: record.signature,
        critical_section: record.rseq_cs_pointer.unwrap_or(0),
    }))
}

fn seccomp_to_record(mode: SeccompMode, core: &mut pb::ThreadCoreEntry) {
    let (mode, filter) = match mode {
        SeccompMode::Off => return,
        SeccompMode::Strict => (pb::SeccompMode::Strict, None),
        SeccompMode::Filter(filter) => (pb::SeccompMode::Filter, Some(filter)),
    };
    core.seccomp_mode = Some(mode as i32);
    core.seccomp_filter = filter;
}

/// Older writers keep the mode with the task.
fn seccomp_from_record(
    core: &pb::ThreadCoreEntry,
    leader: Option<&pb::TaskCoreEntry>,
) -> Checked<SeccompMode> {
    let old_mode = leader.and_then(|task| task.old_seccomp_mode);
    let old_filter = leader.and_then(|task| task.old_seccomp_filter);
    let mode = core.seccomp_mode.or(old_mode).unwrap_or(0);
    match pb::SeccompMode::try_from(mode) {
        Ok(pb::SeccompMode::Disabled) => Ok(SeccompMode::Off),
        Ok(pb::SeccompMode::Strict) => Ok(SeccompMode::Strict),
        Ok(pb::SeccompMode::Filter) => Ok(SeccompMode::Filter(
            core.seccomp_filter.or(old_filter).unwrap_or(0),
        )),
        Err(_) => wrong!("seccomp mode {mode} is not known"),
    }
}

fn ext_to_record(thread: &Thread) -> pb::ExtThread {
    let [store_bypass, indirect_branch, l1d_flush] = thread.speculation;
    let dispatch = |dispatch: &SyscallDispatch| pb::ExtSyscallDispatch {
        mode: dispatch.mode,
        offset: dispatch.offset,
        length: dispatch.length,
        selector: dispatch.selector,
    };
    pb::ExtThread {
        fs: thread.fs.map(|fs| pb::ExtFs {
            cwd: fs.cwd.0,
            root: fs.root.0,
            umask: fs.umask,
        }),
        syscall_dispatch: thread.syscall_dispatch.as_ref().map(dispatch),
        store_bypass,
        indirect_branch,
        l1d_flush,
        xcomp_permission: (thread.xcomp_permission != 0).then_some(thread.xcomp_permission),
        ..Default::default()
    }
}

fn ext_from_record(ext: &pb::ExtThread, thread: &mut Thread) -> Checked<()> {
    thread.speculation = [ext.store_bypass, ext.indirect_branch, ext.l1d_flush];
    thread.xcomp_permission = ext.xcomp_permission.unwrap_or(0);
    thread.fs = ext
        .fs
        .as_ref()
        .map(super::task::own_fs_from_record)
        .transpose()?;
    let Some(dispatch) = &ext.syscall_dispatch else {
        return Ok(());
    };
    if dispatch.mode > 2 {
        return wrong!(
            "mode {} of system call dispatch is not known",
            dispatch.mode
        );
    }
    thread.syscall_dispatch = Some(SyscallDispatch {
        mode: dispatch.mode,
        offset: dispatch.offset,
        length: dispatch.length,
        selector: address(dispatch.selector)?,
    });
    Ok(())
}
