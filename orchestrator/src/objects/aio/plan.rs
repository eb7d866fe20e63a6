//! From the fact to operations. Pure.
//!
//! `io_setup` puts the ring where it likes, and `mremap` moves it, which changes the id of the context too (Linux 3.15).
//! Where the kernel writes the next event is its own knowledge, which only events change: so requests that do nothing are made
//! until it is where it was. Those before the first event that the program has not read are read at once; the others stay,
//! so that the kernel counts them, and the ring's content is then written over them.

use super::{HEAD, RingState, requests, room};
use crate::plan::Builder;
use arch::abi::program::{ArgKind, Check, Op, special};

/// Most requests of one call.
const AT_ONCE: u32 = 512;

/// Adds a context without a ring that anybody wants, and returns where its id is.
pub fn plan_filler(b: &mut Builder) -> u64 {
    let id = b.put_words(&[0]);
    b.call_returns(libc::SYS_io_setup, &[1, id], 0);
    id
}

/// Adds the end of such a context.
pub fn plan_filler_end(b: &mut Builder, id: u64) {
    let destroy = Op::call(libc::SYS_io_destroy as u32, [id, 0, 0, 0, 0, 0]);
    b.push(destroy.arg(0, ArgKind::Load64).check(Check::Equal, 0));
}

/// Adds a context whose ring is at `start`.
pub fn plan_setup(b: &mut Builder, start: u64, len: u64) {
    // The kernel might choose a place that overlaps the wanted one, to which nothing can be moved then.
    let kept = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE) as u64;
    let args = [start, len, libc::PROT_NONE as u64, kept, u64::MAX, 0];
    b.call_returns(libc::SYS_mmap, &args, start as i64);
    let id = b.put_words(&[0]);
    let events = u64::from(requests(len));
    b.call_returns(libc::SYS_io_setup, &[events, id], 0);
    let how = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
    let moved = Op::call(libc::SYS_mremap as u32, [id, len, len, how, start, 0]);
    b.push(
        moved
            .arg(0, ArgKind::Load64)
            .check(Check::Equal, start as i64),
    );
}

/// Adds as many events as bring the ring to `state`; `null` is a descriptor of `/dev/null`.
pub fn plan_events(b: &mut Builder, (start, len): (u64, u64), state: RingState, null: i32) {
    let events = room(len);
    let mut read = 0;
    // Half of the places may be set aside for other processors (`reqs_available`, `fs/aio.c`).
    let most = AT_ONCE.min((events - 1) / 2);
    while read < state.head {
        let count = most.min(state.head - read);
        plan_requests(b, start, count, null);
        read += count;
        let head = b.put_once(&read.to_le_bytes());
        b.special(special::COPY, &[start + HEAD, head, 4]);
    }
    let mut left = (state.tail + events - state.head) % events;
    while left > 0 {
        let count = AT_ONCE.min(left);
        plan_requests(b, start, count, null);
        left -= count;
    }
}

/// Adds requests that are done at once: each reads nothing.
fn plan_requests(b: &mut Builder, start: u64, count: u32, null: i32) {
    let mut iocb = [0; 64];
    iocb[20..24].copy_from_slice(&null.to_le_bytes());
    let iocb = b.put_once(&iocb);
    let all: Vec<u8> = std::iter::repeat_n(iocb.to_le_bytes(), count as usize)
        .flatten()
        .collect();
    let all = b.put_once(&all);
    let args = [start, u64::from(count), all];
    b.call_returns(libc::SYS_io_submit, &args, i64::from(count));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submitted(state: RingState) -> Vec<u64> {
        let mut b = Builder::for_test();
        plan_events(&mut b, (0x10000, 4096), state, 3);
        let calls = b.calls();
        let submits = calls.iter().filter(|(nr, _)| *nr == libc::SYS_io_submit);
        submits.map(|(_, args)| args[1]).collect()
    }

    #[test]
    fn a_ring_is_brought_to_where_it_was() {
        let at = |head, tail| RingState {
            index: 0,
            head,
            tail,
        };
        assert_eq!(submitted(at(0, 0)), []);
        assert_eq!(submitted(at(0, 126)), [126]);
        assert_eq!(submitted(at(100, 100)), [63, 37]);
        // Once around: 17 events wait.
        assert_eq!(submitted(at(120, 10)), [63, 57, 17]);
    }
}
