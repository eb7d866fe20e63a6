//! From the fact to operations. Pure. All signals are blocked while a task is restored, so what is queued stays queued, even
//! where the task ignores it.

use crate::plan::{Builder, Object};
use crate::snapshot::{QueuedSignal, SigAction, Thread};

/// Bytes of the kernel's `sigset_t`.
const SIGSET_LEN: u64 = 8;

/// Adds the dispositions, those that are default too: the launch may have inherited ignored ones.
pub fn plan_actions(b: &mut Builder, actions: &[SigAction]) {
    b.object(Object::Task("signal actions"));
    for (signal, action) in (1_u64..).zip(actions) {
        if signal == libc::SIGKILL as u64 || signal == libc::SIGSTOP as u64 {
            continue;
        }
        let words = [action.handler, action.flags, action.restorer, action.mask];
        let at = b.put_words(&words);
        b.call_returns(libc::SYS_rt_sigaction, &[signal, at, 0, SIGSET_LEN], 0);
    }
}

/// Returns whether it is the one that cannot be blocked: it would stop the task here and now. That it is to stop is said by
/// [`crate::plan::HostStep::Stop`], and one that waits for a task that stands still is thrown away by what makes it go on.
pub fn is_stop(signal: &QueuedSignal) -> bool {
    signal.number() == libc::SIGSTOP
}

/// Adds the signals that wait for the process. To be run by the leader: nobody else may forge what the kernel sent
/// (`do_rt_sigqueueinfo`, `kernel/signal.c`).
pub fn plan_pending_process(b: &mut Builder, pid: i32, pending: &[QueuedSignal]) {
    for signal in pending.iter().filter(|signal| !is_stop(signal)) {
        b.object(Object::Task("pending signal"));
        let info = b.put(&signal.0);
        let args = [pid as u64, signal.number() as u64, info];
        b.call_returns(libc::SYS_rt_sigqueueinfo, &args, 0);
    }
}

/// Adds the signals that wait for a thread. To be run by that thread.
pub fn plan_pending_thread(b: &mut Builder, pid: i32, thread: &Thread) {
    for signal in thread.pending.iter().filter(|signal| !is_stop(signal)) {
        b.object(Object::Thread(thread.tid, "pending signal"));
        let info = b.put(&signal.0);
        let args = [pid as u64, thread.tid as u64, signal.number() as u64, info];
        b.call_returns(libc::SYS_rt_tgsigqueueinfo, &args, 0);
    }
}

/// Adds the alternate stack.
pub fn plan_altstack(b: &mut Builder, thread: &Thread) {
    let Some(stack) = thread.altstack else {
        return;
    };
    // Being on it is no property that is set: the stack pointer says it.
    let flags = u64::from(stack.flags & !(libc::SS_ONSTACK as u32));
    if stack.size == 0 && flags & libc::SS_DISABLE as u64 == 0 {
        return;
    }
    b.object(Object::Thread(thread.tid, "alternate signal stack"));
    let at = b.put_words(&[stack.sp, flags, stack.size]);
    b.call_returns(libc::SYS_sigaltstack, &[at, 0], 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::SigAltStack;

    #[test]
    fn what_cannot_be_changed_is_left_alone() {
        let mut b = Builder::for_test();
        plan_actions(&mut b, &[SigAction::default(); 64]);
        let signals: Vec<u64> = b.calls().iter().map(|call| call.1[0]).collect();
        assert_eq!(signals.len(), 62);
        assert!(!signals.contains(&9) && !signals.contains(&19));
    }

    #[test]
    fn an_alternate_stack_in_use_is_set_as_one_that_is_not() {
        let mut b = Builder::for_test();
        let mut thread = Thread::default();
        plan_altstack(&mut b, &thread);
        thread.altstack = Some(SigAltStack {
            sp: 0x1000,
            size: 0x2000,
            flags: libc::SS_ONSTACK as u32,
        });
        plan_altstack(&mut b, &thread);
        let calls = b.calls();
        assert_eq!(calls.len(), 1);
        assert_eq!(b.words_at(calls[0].1[0], 3), [0x1000, 0, 0x2000]);
    }
}
