//! From the fact to operations. Pure.
//!
//! The kernel's rule: who adds a filter needs CAP_SYS_ADMIN or `no_new_privs`, and is under it from that call on. So they are
//! added before privileges are given up, in threads whose filters a tracer has suspended. What all threads of a process have is
//! added by its leader for all of them at once (`SECCOMP_FILTER_FLAG_TSYNC`): then they have it in common, and can be
//! synchronised again.

use crate::plan::{Builder, Object};
use crate::snapshot::{SeccompFilter, SeccompMode, Thread};

/// `SECCOMP_SET_MODE_FILTER`, and its flags.
const SET_MODE_FILTER: u64 = 1;
const TSYNC: u32 = 1;
const LOG: u32 = 1 << 1;
/// Speculation is an attribute of its own, and set before.
const SPEC_ALLOW: u32 = 1 << 2;
/// Bytes of an instruction.
const INSTRUCTION: u64 = 8;

/// Returns the filters of a thread, the oldest first.
pub fn chain(filters: &[SeccompFilter], mode: SeccompMode) -> Vec<u32> {
    let mut chain = Vec::new();
    let mut next = match mode {
        SeccompMode::Filter(newest) => Some(newest),
        _ => None,
    };
    while let Some(filter) = next.and_then(|place| filters.get(place as usize)) {
        chain.extend(next);
        next = filter.prev;
    }
    chain.reverse();
    chain
}

/// Returns how many filters, from the oldest on, all threads of a process have in common; 0 where there is but one thread.
pub fn common(filters: &[SeccompFilter], threads: &[Thread]) -> usize {
    let mut chains = threads.iter().map(|thread| chain(filters, thread.seccomp));
    let first = chains.next().unwrap_or_default();
    if threads.len() < 2 {
        return 0;
    }
    chains.fold(first.len(), |len, chain| {
        let pairs = first.iter().zip(&chain);
        len.min(pairs.take_while(|(one, other)| one == other).count())
    })
}

/// Adds these filters, to the calling thread or to all of its process.
pub fn plan_filters(b: &mut Builder, filters: &[SeccompFilter], chain: &[u32], for_all: bool) {
    for &place in chain {
        let filter = &filters[place as usize];
        b.object(Object::Named(format!("seccomp filter {place}")));
        let program = b.put_once(&filter.program);
        let count = filter.program.len() as u64 / INSTRUCTION;
        let program = b.put_words(&[count, program]);
        let kept = filter.flags & LOG | SPEC_ALLOW;
        let flags = if for_all { kept | TSYNC } else { kept };
        let args = [SET_MODE_FILTER, u64::from(flags), program];
        b.call_returns(libc::SYS_seccomp, &args, 0);
    }
}

/// Adds strict mode.
pub fn plan_strict(b: &mut Builder, tid: i32) {
    b.object(Object::Thread(tid, "strict mode of seccomp"));
    let (set, strict) = (libc::PR_SET_SECCOMP as u64, 1);
    b.call_returns(libc::SYS_prctl, &[set, strict], 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters() -> Vec<SeccompFilter> {
        let filter = |prev| SeccompFilter {
            prev,
            program: vec![6; 16],
            flags: LOG,
        };
        vec![
            filter(None),
            filter(Some(0)),
            filter(Some(1)),
            filter(Some(1)),
        ]
    }

    #[test]
    fn a_chain_begins_with_the_oldest() {
        assert_eq!(chain(&filters(), SeccompMode::Filter(3)), [0, 1, 3]);
        assert_eq!(chain(&filters(), SeccompMode::Strict), []);
    }

    #[test]
    fn threads_share_what_their_chains_begin_with() {
        let thread = |newest| Thread {
            seccomp: SeccompMode::Filter(newest),
            ..Thread::default()
        };
        let of = |threads: &[Thread]| common(&filters(), threads);
        assert_eq!(of(&[thread(2), thread(3)]), 2);
        assert_eq!(of(&[thread(2)]), 0);
        assert_eq!(of(&[thread(2), Thread::default()]), 0);
    }

    #[test]
    fn equal_programs_are_put_once() {
        let mut b = Builder::for_test();
        plan_filters(&mut b, &filters(), &[0, 1], true);
        let calls = b.calls();
        assert_eq!(calls[0].1[..2], [1, u64::from(TSYNC | LOG | SPEC_ALLOW)]);
        let program = |at: usize| b.words_at(calls[at].1[2], 2);
        assert_eq!(program(0)[0], 2, "instructions");
        assert_eq!(program(0)[1], program(1)[1]);
    }
}
