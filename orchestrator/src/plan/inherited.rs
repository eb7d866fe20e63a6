//! Descriptors that the tree gets from whoever restores it: taken out of that process, with whoever else has them there.

use super::descriptors::plan_pidfd;
use super::task::Making;
use crate::snapshot::Inherited;

/// Adds the taking of an inherited descriptor at the lowest free number, and returns that; then what lay in the dumped pipe
/// is put into it, if the tree was to read it.
pub fn plan_take(m: &mut Making<'_>, inherited: &Inherited) -> i32 {
    let pidfd = plan_pidfd(m, inherited.pid);
    let fd =
        m.b.open(libc::SYS_pidfd_getfd, &[pidfd as u64, inherited.fd as u64]);
    m.b.close(pidfd);
    if !inherited.data.is_empty() {
        let path = format!("/proc/self/fd/{fd}");
        let writer =
            m.b.open_path(path.as_bytes(), (libc::O_WRONLY | libc::O_NONBLOCK) as u32);
        let len = inherited.data.len();
        let data = m.b.put(&inherited.data);
        let args = [writer as u64, data, len as u64];
        m.b.call_returns(libc::SYS_write, &args, len as i64);
        m.b.close(writer);
    }
    // It comes closed on exec, and is given that again where it had it.
    let args = [fd as u64, libc::F_SETFD as u64, 0];
    m.b.call_returns(libc::SYS_fcntl, &args, 0);
    fd
}
