//! From the fact to operations. Pure.

use crate::plan::Builder;
use crate::snapshot::SignalFd;

/// Adds the creation.
pub fn plan_create(b: &mut Builder, signalfd: &SignalFd, flags: u32) -> i32 {
    let mask = b.put_words(&[signalfd.mask]);
    let new = -1_i64 as u64;
    let flags = u64::from(flags & libc::O_NONBLOCK as u32);
    b.open(libc::SYS_signalfd4, &[new, mask, 8, flags])
}
