//! Between the facts and their records: dispositions, queues of pending signals, alternate stacks.

use crate::image::error::{Checked, wrong};
use crate::image::limits::address;
use crate::snapshot::thread::SigAltStack;
use crate::snapshot::{QueuedSignal, SigAction};
use proto::pb;

/// Number of signals.
const SIGNALS: usize = 64;
/// `SS_DISABLE`: how the record says that there is no alternate stack.
const SS_DISABLE: u32 = 2;
/// `SS_ONSTACK`: a state, not a setting.
const SS_ONSTACK: u32 = 1;
/// `SS_AUTODISARM`.
const SS_AUTODISARM: u32 = 1 << 31;
/// More queued signals than `RLIMIT_SIGPENDING` is ever seen to allow.
const MAX_QUEUED: usize = 1 << 20;

/// Returns whether the records leave this signal out: nobody can set what it does.
fn is_left_out(signal: usize) -> bool {
    signal == libc::SIGKILL as usize || signal == libc::SIGSTOP as usize
}

/// Returns the records of `actions`, those of signals 1..=64 in order without SIGKILL and SIGSTOP.
pub(crate) fn actions_to_records(actions: &[SigAction]) -> Vec<pb::SaEntry> {
    let kept = (1..)
        .zip(actions)
        .filter(|&(signal, _)| !is_left_out(signal));
    let record = |action: &SigAction| pb::SaEntry {
        sigaction: action.handler,
        flags: action.flags,
        restorer: action.restorer,
        mask: action.mask,
        compat_sigaction: Some(false),
        ..Default::default()
    };
    kept.map(|(_, action)| record(action)).collect()
}

/// Returns the dispositions of signals 1..=64 in `records`.
pub(crate) fn actions_from_records(records: &[pb::SaEntry]) -> Checked<Vec<SigAction>> {
    let kept: Vec<usize> = (1..=SIGNALS)
        .filter(|&signal| !is_left_out(signal))
        .collect();
    if records.len() != kept.len() {
        return wrong!(
            "{} signal actions where {} belong",
            records.len(),
            kept.len()
        );
    }
    let mut actions = vec![SigAction::default(); SIGNALS];
    for (signal, record) in kept.into_iter().zip(records) {
        if record.compat_sigaction == Some(true) {
            return wrong!("signal {signal}: the action of a 32-bit program");
        }
        actions[signal - 1] = SigAction {
            handler: record.sigaction,
            flags: record.flags,
            restorer: record.restorer,
            mask: record.mask,
        };
    }
    Ok(actions)
}

/// Returns the record of a queue.
pub(crate) fn queue_to_record(queue: &[QueuedSignal]) -> pb::SignalQueueEntry {
    let record = |signal: &QueuedSignal| pb::SiginfoEntry {
        siginfo: signal.0.to_vec(),
    };
    pb::SignalQueueEntry {
        signals: queue.iter().map(record).collect(),
    }
}

/// Returns the queue in `records`.
pub(crate) fn queue_from_records(records: &[pb::SiginfoEntry]) -> Checked<Vec<QueuedSignal>> {
    if records.len() > MAX_QUEUED {
        return wrong!(
            "{} pending signals are more than a task can have",
            records.len()
        );
    }
    let signal = |record: &pb::SiginfoEntry| {
        let Ok(bytes) = <[u8; 128]>::try_from(record.siginfo.as_slice()) else {
            return wrong!("a siginfo of {} bytes", record.siginfo.len());
        };
        let signal = QueuedSignal(bytes);
        match signal.number() {
            1..=64 => Ok(signal),
            number => wrong!("a pending signal {number}"),
        }
    };
    records.iter().map(signal).collect()
}

/// Returns the record of an alternate stack.
pub(crate) fn altstack_to_record(stack: Option<&SigAltStack>) -> pb::ThreadSasEntry {
    match stack {
        Some(stack) => pb::ThreadSasEntry {
            ss_sp: stack.sp,
            ss_size: stack.size,
            ss_flags: stack.flags,
        },
        None => pb::ThreadSasEntry {
            ss_sp: 0,
            ss_size: 0,
            ss_flags: SS_DISABLE,
        },
    }
}

/// Returns the alternate stack in `record`.
pub(crate) fn altstack_from_record(record: &pb::ThreadSasEntry) -> Checked<Option<SigAltStack>> {
    if record.ss_flags & SS_DISABLE != 0 {
        return Ok(None);
    }
    let flags = record.ss_flags & !SS_ONSTACK;
    if flags & !SS_AUTODISARM != 0 {
        return wrong!("flags {flags:#x} of the alternate signal stack are not known");
    }
    address(record.ss_sp.saturating_add(record.ss_size))?;
    Ok(Some(SigAltStack {
        sp: record.ss_sp,
        size: record.ss_size,
        flags,
    }))
}
