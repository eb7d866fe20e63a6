//! A plan in words: what `restore --plan` prints, and how a failed operation is named.

use std::fmt::{self, Display, Formatter};

use arch::abi::program::{ArgKind, Check, Op, special};

use super::Plan;

/// Arguments from here on are printed in hexadecimal: they are addresses or sets of flags.
const HEX_FROM: u64 = 4096;

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "pid {}, arena at {:#x}, {} bytes",
            self.launch.pid, self.arena.base, self.layout.len
        )?;
        if let Some(session) = self.launch.session {
            writeln!(
                f,
                "made in session {session}, which a process founds that ends"
            )?;
        }
        for service in &self.launch.services {
            writeln!(
                f,
                "descriptor {} is pages-{}.img",
                service.fd, service.pages_id
            )?;
        }
        for what in &self.not_kept {
            writeln!(f, "not kept: {what}")?;
        }
        for program in &self.programs {
            writeln!(f, "thread {}:", program.tid)?;
            for (number, op) in program.ops.iter().enumerate() {
                writeln!(
                    f,
                    "{number:5}  {:60} # {}",
                    Words(op).to_string(),
                    self.object_of(op)
                )?;
            }
        }
        for step in &self.host_steps {
            writeln!(f, "then: {step:?}")?;
        }
        Ok(())
    }
}

impl Plan {
    /// Returns the name of what an operation is for.
    pub fn object_of(&self, op: &Op) -> String {
        let object = self.objects.get(op.obj as usize);
        object.map_or_else(String::new, ToString::to_string)
    }
}

/// An operation in words: `mmap(0x400000, 8192, 5, 0x100002, 3, 0) = 0x400000`.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a>(pub &'a Op);

impl Display for Words<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let op = self.0;
        match name(op.nr) {
            Some(name) => write!(f, "{name}(")?,
            None => write!(f, "call_{}(", op.nr)?,
        }
        let used = op
            .args
            .iter()
            .rposition(|&arg| arg != 0)
            .map_or(0, |at| at + 1);
        for (index, &arg) in op.args.iter().enumerate().take(used) {
            let comma = if index == 0 { "" } else { ", " };
            match op.arg_kind(index) {
                ArgKind::Immediate => write!(f, "{comma}{}", Number(arg))?,
                ArgKind::Result => write!(f, "{comma}result {arg}")?,
                ArgKind::Load32 => write!(f, "{comma}u32 at {arg:#x}")?,
                ArgKind::Load64 => write!(f, "{comma}u64 at {arg:#x}")?,
            }
        }
        f.write_str(")")?;
        match op.result_check() {
            Check::Success => Ok(()),
            Check::Equal => write!(f, " = {}", Number(op.expect as u64)),
            Check::SuccessOr => write!(f, " or error {}", -op.expect),
            Check::Ignore => f.write_str(", whatever comes of it"),
        }
    }
}

struct Number(u64);

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            small if small < HEX_FROM => write!(f, "{small}"),
            negative if (negative as i64) < 0 && negative as i64 > -(HEX_FROM as i64) => {
                write!(f, "{}", negative as i64)
            }
            large => write!(f, "{large:#x}"),
        }
    }
}

/// Returns the name of an operation that plans have.
pub fn name(nr: u16) -> Option<&'static str> {
    if nr >= special::FIRST {
        return Some(special::name(nr));
    }
    let found = NAMES.iter().find(|(number, _)| *number == i64::from(nr));
    found.map(|(_, name)| *name)
}

/// Names of the system calls in plans.
const NAMES: [(i64, &str); 71] = [
    (libc::SYS_arch_prctl, "arch_prctl"),
    (libc::SYS_capset, "capset"),
    (libc::SYS_chroot, "chroot"),
    (libc::SYS_clock_getres, "clock_getres"),
    (libc::SYS_clock_gettime, "clock_gettime"),
    (libc::SYS_clone3, "clone3"),
    (libc::SYS_close, "close"),
    (libc::SYS_close_range, "close_range"),
    (libc::SYS_dup, "dup"),
    (libc::SYS_dup3, "dup3"),
    (libc::SYS_epoll_create1, "epoll_create1"),
    (libc::SYS_epoll_ctl, "epoll_ctl"),
    (libc::SYS_eventfd2, "eventfd2"),
    (libc::SYS_fchdir, "fchdir"),
    (libc::SYS_fchmod, "fchmod"),
    (libc::SYS_fchown, "fchown"),
    (libc::SYS_fcntl, "fcntl"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_getcpu, "getcpu"),
    (libc::SYS_getrandom, "getrandom"),
    (libc::SYS_gettimeofday, "gettimeofday"),
    (libc::SYS_ioctl, "ioctl"),
    (libc::SYS_ioprio_set, "ioprio_set"),
    (libc::SYS_lseek, "lseek"),
    (libc::SYS_madvise, "madvise"),
    (libc::SYS_mbind, "mbind"),
    (libc::SYS_membarrier, "membarrier"),
    (libc::SYS_memfd_create, "memfd_create"),
    (libc::SYS_mlock2, "mlock2"),
    (libc::SYS_mmap, "mmap"),
    (libc::SYS_modify_ldt, "modify_ldt"),
    (libc::SYS_mprotect, "mprotect"),
    (libc::SYS_munmap, "munmap"),
    (libc::SYS_pkey_alloc, "pkey_alloc"),
    (libc::SYS_pkey_free, "pkey_free"),
    (libc::SYS_pkey_mprotect, "pkey_mprotect"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_personality, "personality"),
    (libc::SYS_pipe2, "pipe2"),
    (libc::SYS_prctl, "prctl"),
    (libc::SYS_prlimit64, "prlimit64"),
    (libc::SYS_rseq, "rseq"),
    (libc::SYS_rt_sigaction, "rt_sigaction"),
    (libc::SYS_rt_sigqueueinfo, "rt_sigqueueinfo"),
    (libc::SYS_rt_tgsigqueueinfo, "rt_tgsigqueueinfo"),
    (libc::SYS_sched_setaffinity, "sched_setaffinity"),
    (libc::SYS_sched_setattr, "sched_setattr"),
    (libc::SYS_set_mempolicy, "set_mempolicy"),
    (libc::SYS_set_robust_list, "set_robust_list"),
    (libc::SYS_set_thread_area, "set_thread_area"),
    (libc::SYS_set_tid_address, "set_tid_address"),
    (libc::SYS_setfsgid, "setfsgid"),
    (libc::SYS_setfsuid, "setfsuid"),
    (libc::SYS_setgroups, "setgroups"),
    (libc::SYS_setitimer, "setitimer"),
    (libc::SYS_setpgid, "setpgid"),
    (libc::SYS_setpriority, "setpriority"),
    (libc::SYS_setresgid, "setresgid"),
    (libc::SYS_setresuid, "setresuid"),
    (libc::SYS_setsid, "setsid"),
    (libc::SYS_sigaltstack, "sigaltstack"),
    (libc::SYS_signalfd4, "signalfd4"),
    (libc::SYS_time, "time"),
    (libc::SYS_timer_create, "timer_create"),
    (libc::SYS_timer_delete, "timer_delete"),
    (libc::SYS_timer_settime, "timer_settime"),
    (libc::SYS_timerfd_create, "timerfd_create"),
    (libc::SYS_timerfd_settime, "timerfd_settime"),
    (libc::SYS_umask, "umask"),
    (libc::SYS_write, "write"),
    (super::memory::SYS_MSEAL, "mseal"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_read_like_calls() {
        let op = Op::call(libc::SYS_mmap as u32, [0x40_0000, 8192, 5, 2, u64::MAX, 0]);
        let op = op.check(Check::Equal, 0x40_0000);
        let words = "mmap(0x400000, 0x2000, 5, 2, -1) = 0x400000";
        assert_eq!(Words(&op).to_string(), words);
        let park = Op::special(special::PARK, [0; 6]);
        assert_eq!(Words(&park).to_string(), "park()");
        let args = Op::call(libc::SYS_fchdir as u32, [7, 0, 0, 0, 0, 0]).arg(0, ArgKind::Result);
        let args = args.check(Check::SuccessOr, -3);
        assert_eq!(Words(&args).to_string(), "fchdir(result 7) or error 3");
    }
}
