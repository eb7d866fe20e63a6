//! Scheduling: policies, processors, nice values, I/O priorities.

use super::{Result, Tid, check};

/// `struct sched_attr` as of 5.3, with utilisation clamps.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchedAttr {
    size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value, for `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// Static priority, for `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// For `SCHED_DEADLINE`, in nanoseconds; since 6.12 the slice of the fair policies.
    pub runtime: u64,
    /// For `SCHED_DEADLINE`, in nanoseconds.
    pub deadline: u64,
    /// For `SCHED_DEADLINE`, in nanoseconds.
    pub period: u64,
    /// Least utilisation, 0..=1024.
    pub util_min: u32,
    /// Most utilisation, 0..=1024.
    pub util_max: u32,
}

const _: () = assert!(size_of::<SchedAttr>() == 56);

/// Returns how a thread is scheduled.
pub fn getattr(tid: Tid) -> Result<SchedAttr> {
    let mut attr = SchedAttr::default();
    let size = size_of::<SchedAttr>();
    // SAFETY: the kernel writes at most `size` bytes to `attr`, whose fields are plain numbers.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, tid.0, &raw mut attr, size, 0) };
    check("sched_getattr", result)?;
    Ok(attr)
}

/// Sets how a thread is scheduled.
pub fn setattr(tid: Tid, attr: &SchedAttr) -> Result<()> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        ..*attr
    };
    // SAFETY: the kernel reads as many bytes as `attr` says it has.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, tid.0, &raw const attr, 0) };
    check("sched_setattr", result).map(drop)
}

/// Room for the largest number of processors that a kernel can be built for (8192), in bytes.
const CPU_SET_SIZE: usize = 1024;

/// Returns the processors a thread may run on, bit n of byte n/8 = processor n.
pub fn getaffinity(tid: Tid) -> Result<Vec<u8>> {
    let mut set = vec![0u8; CPU_SET_SIZE];
    // SAFETY: the kernel writes at most CPU_SET_SIZE bytes, which `set` has.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            tid.0,
            CPU_SET_SIZE,
            set.as_mut_ptr(),
        )
    };
    set.truncate(check("sched_getaffinity", result)?);
    Ok(set)
}

/// Sets the processors a thread may run on.
pub fn setaffinity(tid: Tid, set: &[u8]) -> Result<()> {
    // SAFETY: the kernel reads `set.len()` bytes of `set`.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, tid.0, set.len(), set.as_ptr()) };
    check("sched_setaffinity", result).map(drop)
}

/// Returns a thread's nice value, -20..=19.
pub fn nice(tid: Tid) -> Result<i32> {
    // The C library's call answers -1 for an error as well as for a value; the kernel's answers 20 less the value.
    // SAFETY: `getpriority` takes two numbers.
    let result = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, tid.0) };
    check("getpriority", result).map(|result| 20 - result as i32)
}

/// Sets a thread's nice value.
pub fn set_nice(tid: Tid, nice: i32) -> Result<()> {
    // SAFETY: `setpriority` takes three numbers.
    let result = unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, tid.0, nice) };
    check("setpriority", result).map(drop)
}

/// `IOPRIO_WHO_PROCESS`: one thread.
const IOPRIO_WHO_PROCESS: i32 = 1;

/// Returns a thread's I/O priority: class in bits 13-15, level below.
pub fn io_priority(tid: Tid) -> Result<u32> {
    // SAFETY: `ioprio_get` takes two numbers.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid.0) };
    check("ioprio_get", result).map(|priority| priority as u32)
}

/// Sets a thread's I/O priority.
pub fn set_io_priority(tid: Tid, priority: u32) -> Result<()> {
    // SAFETY: `ioprio_set` takes three numbers.
    let result =
        unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid.0, priority) };
    check("ioprio_set", result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each test thread changes only itself.
    #[test]
    fn a_thread_is_scheduled_as_it_was_told() {
        let this = Tid::this();
        let attr = SchedAttr {
            policy: libc::SCHED_BATCH as u32,
            nice: 3,
            ..getattr(this).expect("get")
        };
        setattr(this, &attr).expect("set");
        let now = getattr(this).expect("get");
        assert_eq!((now.policy, now.nice), (libc::SCHED_BATCH as u32, 3));
        assert_eq!(nice(this), Ok(3));
        set_nice(this, 4).expect("set nice");
        assert_eq!(nice(this), Ok(4));
    }

    #[test]
    fn processors_and_io_priority_are_set() {
        let this = Tid::this();
        let all = getaffinity(this).expect("get");
        let at = all.iter().position(|&byte| byte != 0).expect("a processor");
        let mut one = vec![0; all.len()];
        one[at] = 1 << all[at].trailing_zeros();
        setaffinity(this, &one).expect("set");
        assert_eq!(getaffinity(this), Ok(one));
        let idle = 3 << 13;
        set_io_priority(this, idle).expect("set");
        assert_eq!(io_priority(this), Ok(idle));
    }
}
