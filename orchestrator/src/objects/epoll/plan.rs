//! From the fact to operations. Pure.

use crate::plan::Builder;
use crate::snapshot::{BusyPoll, EpollTarget};

/// Adds the creation, without watches.
pub fn plan_create(b: &mut Builder) -> i32 {
    b.open(libc::SYS_epoll_create1, &[0])
}

/// `EPIOCSPARAMS` (Linux 6.9, `linux/eventpoll.h`).
const EPIOCSPARAMS: u64 = 0x4008_8a01;

/// Adds how it polls network devices. More packets at a time than the kernel's default need CAP_NET_ADMIN.
pub fn plan_busy_poll(b: &mut Builder, epoll: i32, poll: BusyPoll) {
    let mut params = poll.usecs.to_le_bytes().to_vec();
    params.extend_from_slice(&poll.budget.to_le_bytes());
    params.extend_from_slice(&[u8::from(poll.is_preferred), 0]);
    let params = b.put(&params);
    b.call_returns(libc::SYS_ioctl, &[epoll as u64, EPIOCSPARAMS, params], 0);
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
