//! From the fact to operations. Pure.

use crate::plan::Builder;
use arch::abi::program::{ArgKind, Check};

/// `PIDFD_NONBLOCK`, `PIDFD_THREAD` (`include/uapi/linux/pidfd.h`): the open file description keeps both as its flags.
const FLAGS: u32 = (libc::O_NONBLOCK | libc::O_EXCL) as u32;
/// `P_PID` of `waitid`.
const P_PID: u64 = 1;

/// Adds a descriptor of a process or thread that is there.
pub fn plan_open(b: &mut Builder, pid: i32, flags: u32) -> i32 {
    let flags = u64::from(flags & FLAGS);
    b.open(libc::SYS_pidfd_open, &[pid as u64, flags])
}

/// Adds a descriptor of the process that operation number `born` has made.
pub fn plan_open_born(b: &mut Builder, born: u64, flags: u32) -> i32 {
    let fd = b.fds.take_lowest();
    let op = b.call(libc::SYS_pidfd_open, &[born, u64::from(flags & FLAGS)]);
    *op = op
        .arg(0, ArgKind::Result)
        .check(Check::Equal, i64::from(fd));
    fd
}

/// Adds the wait for the end of that process, after which it is gone.
pub fn plan_gone(b: &mut Builder, born: u64) {
    let how = (libc::WEXITED | libc::__WALL) as u64;
    let op = b.call(libc::SYS_waitid, &[P_PID, born, 0, how, 0]);
    *op = op.arg(1, ArgKind::Result).check(Check::Equal, 0);
}

/// Adds the wait for the end of the process with this number.
pub fn plan_gone_number(b: &mut Builder, pid: i32) {
    let how = (libc::WEXITED | libc::__WALL) as u64;
    b.call_returns(libc::SYS_waitid, &[P_PID, pid as u64, 0, how, 0], 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_description_are_those_of_pidfd_open() {
        let mut b = Builder::for_test();
        plan_open(&mut b, 7, (libc::O_RDWR | libc::O_NONBLOCK) as u32);
        plan_open(&mut b, 7, (libc::O_RDWR | libc::O_EXCL) as u32);
        let flags: Vec<u64> = b.calls().iter().map(|(_, args)| args[1]).collect();
        assert_eq!(flags, [libc::O_NONBLOCK as u64, libc::O_EXCL as u64]);
    }
}
