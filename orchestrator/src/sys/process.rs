//! Processes: groups, limits, and what `prctl` sets of ourselves.

use super::{Named, Pid, Result, check};

/// Returns the process group of a process.
pub fn getpgid(pid: Pid) -> Result<Pid> {
    let pid = nix::unistd::Pid::from_raw(pid.0);
    let group = nix::unistd::getpgid(Some(pid)).named("getpgid")?;
    Ok(Pid(group.as_raw()))
}

/// Makes this process the leader of a new session, without a terminal.
pub fn start_session() -> Result<()> {
    nix::unistd::setsid().map(drop).named("setsid")
}

/// Returns the session of a process.
pub fn getsid(pid: Pid) -> Result<Pid> {
    let pid = nix::unistd::Pid::from_raw(pid.0);
    let session = nix::unistd::getsid(Some(pid)).named("getsid")?;
    Ok(Pid(session.as_raw()))
}

/// A resource limit; `u64::MAX` = none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What is enforced.
    pub soft: u64,
    /// How far it can be raised.
    pub hard: u64,
}

/// Returns limit number `resource` (`RLIMIT_*`) of a process, and sets it if `new` is given.
pub fn prlimit(pid: Pid, resource: u32, new: Option<Limit>) -> Result<Limit> {
    let new = new.map(|new| [new.soft, new.hard]);
    let new = new.as_ref().map_or(std::ptr::null(), |new| new.as_ptr());
    let mut old = [0u64; 2];
    // SAFETY: the kernel reads one `struct rlimit64` (two u64) from `new` unless null, and writes one to `old`.
    let result =
        unsafe { libc::syscall(libc::SYS_prlimit64, pid.0, resource, new, old.as_mut_ptr()) };
    check("prlimit64", result)?;
    let [soft, hard] = old;
    Ok(Limit { soft, hard })
}

/// Makes a `prctl` whose arguments are numbers.
fn prctl(call: &'static str, option: i32, arg: usize) -> Result<usize> {
    // SAFETY: callers of this function use options that take numbers; the unused arguments have to be 0.
    let result = unsafe { libc::prctl(option, arg, 0usize, 0usize, 0usize) };
    check(call, result.into())
}

/// Returns our effective user id.
pub fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Leaves the session, for one of our own; a leader of a group cannot, and stays.
pub fn leave_session() {
    let _ = nix::unistd::setsid();
}

/// Sets the name of this thread (`comm`).
pub fn set_name(name: &std::ffi::CStr) -> Result<()> {
    nix::sys::prctl::set_name(name).named("prctl(PR_SET_NAME)")
}

/// Sets whether orphans among our descendants become our children.
pub fn set_child_subreaper(on: bool) -> Result<()> {
    let call = "prctl(PR_SET_CHILD_SUBREAPER)";
    prctl(call, libc::PR_SET_CHILD_SUBREAPER, on.into()).map(drop)
}

/// Returns whether orphans among our descendants become our children.
pub fn child_subreaper() -> Result<bool> {
    let mut on = 0i32;
    // SAFETY: the kernel writes one `int` through the pointer to `on`.
    let result = unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut on) };
    check("prctl(PR_GET_CHILD_SUBREAPER)", result.into())?;
    Ok(on != 0)
}

/// Sets the signal that we get when our parent ends; 0 = none.
pub fn set_parent_death_signal(sig: i32) -> Result<()> {
    let call = "prctl(PR_SET_PDEATHSIG)";
    prctl(call, libc::PR_SET_PDEATHSIG, sig as usize).map(drop)
}

/// Returns how this process's own seccomp stands: 0 off, 1 strict, 2 filter.
pub fn seccomp_mode() -> Result<usize> {
    prctl("prctl(PR_GET_SECCOMP)", libc::PR_GET_SECCOMP, 0)
}

/// Returns the secure bits of the calling thread.
pub fn securebits() -> Result<u32> {
    prctl("prctl(PR_GET_SECUREBITS)", libc::PR_GET_SECUREBITS, 0).map(|bits| bits as u32)
}

/// Returns whether the kernel can be asked for timers of given numbers (`PR_TIMER_CREATE_RESTORE_IDS`, 6.15 and up).
pub fn can_restore_timer_ids() -> bool {
    /// `PR_TIMER_CREATE_RESTORE_IDS`.
    const RESTORE_IDS: i32 = 77;
    /// `PR_TIMER_CREATE_RESTORE_IDS_GET`.
    const GET: usize = 2;
    let call = "prctl(PR_TIMER_CREATE_RESTORE_IDS)";
    prctl(call, RESTORE_IDS, GET).is_ok()
}

/// Sets by how much sleeps of the calling thread may be late, in nanoseconds.
pub fn set_timer_slack(ns: usize) -> Result<()> {
    prctl("prctl(PR_SET_TIMERSLACK)", libc::PR_SET_TIMERSLACK, ns).map(drop)
}

/// Returns whether anonymous memory can be named (`PR_SET_VMA_ANON_NAME`, 5.17 and up, where the kernel is built with it).
pub fn can_name_memory() -> bool {
    /// `PR_SET_VMA`; its function 0 names no memory here.
    const SET_VMA: i32 = 0x5356_4d41;
    prctl("prctl(PR_SET_VMA)", SET_VMA, 0).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_a_child_are_read_and_set() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep starts");
        let pid = Pid(child.id() as i32);
        let before = prlimit(pid, libc::RLIMIT_NOFILE, None).expect("get");
        let lower = Limit {
            soft: before.soft.min(50),
            hard: before.hard,
        };
        assert_eq!(prlimit(pid, libc::RLIMIT_NOFILE, Some(lower)), Ok(before));
        assert_eq!(prlimit(pid, libc::RLIMIT_NOFILE, None), Ok(lower));
        assert_eq!(getsid(pid), getsid(Pid::this()));
        assert_eq!(getpgid(pid), getpgid(Pid::this()));
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    #[test]
    fn the_subreaper_can_be_set() {
        let before = child_subreaper().expect("get");
        set_child_subreaper(!before).expect("set");
        assert_eq!(child_subreaper(), Ok(!before));
        set_child_subreaper(before).expect("set");
    }
}
