//! From the fact to operations. Pure.

use crate::plan::Builder;
use crate::snapshot::EpollTarget;

/// Adds the creation, without watches.
pub fn plan_create(b: &mut Builder) -> i32 {
    b.open(libc::SYS_epoll_create1, &[0])
}

/// Adds one watch of what now has the target's number.
pub fn plan_add(b: &mut Builder, epoll: i32, target: &EpollTarget) {
    // `struct epoll_event` is packed: 12 bytes.
    let mut event = target.events.to_le_bytes().to_vec();
    event.extend_from_slice(&target.data.to_le_bytes());
    let event = b.put(&event);
    let add = libc::EPOLL_CTL_ADD as u64;
    let args = [epoll as u64, add, target.fd as u64, event];
    b.call_returns(libc::SYS_epoll_ctl, &args, 0);
}
