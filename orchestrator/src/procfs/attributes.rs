//! The small files of `/proc/PID`, of one value each.

use super::text::{Line, lines, only_line};
use super::{Error, Result, Subject};
use crate::sys::Pid;
use crate::sys::ns::ClockOffset;

/// Whether sessions get autogroups as they begin.
const AUTOGROUP_ENABLED: &str = "/proc/sys/kernel/sched_autogroup_enabled";

/// Reads `oom_score_adj`.
pub fn read_oom_score_adj(pid: Pid) -> Result<i32> {
    number("oom_score_adj", pid, |line| line.number("a score"))
}

/// Reads `loginuid`; `u32::MAX` = never set.
pub fn read_loginuid(pid: Pid) -> Result<u32> {
    number("loginuid", pid, |line| line.number("a user"))
}

/// Reads `sessionid`: of the audit session; `u32::MAX` = none.
pub fn read_sessionid(pid: Pid) -> Result<u32> {
    number("sessionid", pid, |line| line.number("a session"))
}

/// Reads a file of `attr`; `None` where no security module has anything to say.
pub fn read_label(pid: Pid, name: &str) -> Option<Vec<u8>> {
    let mut label = Subject::from(pid).read(&format!("attr/{name}")).ok()?;
    label.truncate(label.trim_ascii_end().len());
    (!label.is_empty()).then_some(label)
}

/// Returns whether there is a System V semaphore in our namespace, in doubt yes.
pub fn has_semaphores() -> bool {
    // The first line is the header.
    let text = std::fs::read("/proc/sysvipc/sem");
    text.map_or(true, |text| {
        text.iter().filter(|&&byte| byte == b'\n').count() > 1
    })
}

/// Reads `coredump_filter`.
pub fn read_coredump_filter(pid: Pid) -> Result<u32> {
    number("coredump_filter", pid, |line| line.hex32("a mask"))
}

/// Reads `timerslack_ns`. The file is in processes' folders only, but those of threads can be had by their own number.
pub fn read_timerslack_ns(pid: Pid) -> Result<u64> {
    number("timerslack_ns", pid, |line| line.number("nanoseconds"))
}

/// Reads `personality`.
pub fn read_personality(of: impl Into<Subject>) -> Result<u32> {
    number("personality", of, |line| line.hex32("a personality"))
}

/// Reads the nice value of the task's session in `autogroup` (`CONFIG_SCHED_AUTOGROUP`); `None` = the session has no
/// such group, because it began while they were switched off, or is that of the kernel's first process.
pub fn read_autogroup_nice(pid: Pid) -> Result<Option<i32>> {
    parse_autogroup(&Subject::from(pid).read("autogroup")?)
}

/// Returns whether a session that begins now gets an autogroup.
pub fn has_autogroups() -> bool {
    std::fs::read(AUTOGROUP_ENABLED).is_ok_and(|text| text.trim_ascii() == b"1")
}

/// Reads `wchan`: in which function of the kernel the task waits; `0` = in none, or not to be seen.
pub fn read_wchan(of: impl Into<Subject>) -> Result<Vec<u8>> {
    of.into().read("wchan")
}

/// Reads `comm`, the name of a thread.
pub fn read_comm(of: impl Into<Subject>) -> Result<Vec<u8>> {
    let mut name = of.into().read("comm")?;
    // The name may hold newlines of its own; the last is the kernel's.
    name.pop_if(|&mut last| last == b'\n');
    Ok(name)
}

/// Reads `auxv`: the words the kernel gave the program, up to `AT_NULL` and its value.
pub fn read_auxv(pid: Pid) -> Result<Vec<u64>> {
    parse_auxv(&Subject::from(pid).read("auxv")?)
}

/// Parses the bytes of `auxv`.
pub fn parse_auxv(bytes: &[u8]) -> Result<Vec<u64>> {
    let (words, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() || !words.len().is_multiple_of(2) {
        return Err(Line::new("auxv", 1, rest).error("pairs of words"));
    }
    Ok(words.iter().map(|word| u64::from_ne_bytes(*word)).collect())
}

/// Clocks of a time namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimensOffsets {
    /// Of `CLOCK_MONOTONIC`.
    pub monotonic: ClockOffset,
    /// Of `CLOCK_BOOTTIME`.
    pub boottime: ClockOffset,
}

/// Reads `timens_offsets`: of the namespace that the task's children will be in.
pub fn read_timens_offsets(pid: Pid) -> Result<TimensOffsets> {
    parse_timens_offsets(&Subject::from(pid).read("timens_offsets")?)
}

/// Parses the bytes of `timens_offsets`.
pub fn parse_timens_offsets(bytes: &[u8]) -> Result<TimensOffsets> {
    let mut offsets = TimensOffsets::default();
    for mut line in lines("timens_offsets", bytes) {
        let clock = line.word();
        let offset = ClockOffset {
            secs: line.number("seconds")?,
            nanos: line.number("nanoseconds")?,
        };
        match clock {
            b"monotonic" => offsets.monotonic = offset,
            b"boottime" => offsets.boottime = offset,
            _ => return Err(line.error("monotonic or boottime")),
        }
    }
    Ok(offsets)
}

/// In which system call a task is, or was when it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syscall {
    /// It runs, so that nobody can tell.
    Running,
    /// It is blocked or stopped.
    Blocked {
        /// The call and its arguments; `None` outside of any.
        call: Option<(i32, [u64; 6])>,
        /// Stack pointer.
        sp: u64,
        /// Instruction pointer.
        pc: u64,
    },
}

/// Reads `syscall`.
pub fn read_syscall(of: impl Into<Subject>) -> Result<Syscall> {
    parse_syscall(&of.into().read("syscall")?)
}

/// Parses the bytes of `syscall`.
pub fn parse_syscall(bytes: &[u8]) -> Result<Syscall> {
    let mut line = only_line("syscall", bytes);
    if line.skip(b"running") {
        return Ok(Syscall::Running);
    }
    let number: i32 = line.number("a system call")?;
    let mut args = [0; 6];
    if number >= 0 {
        for arg in &mut args {
            *arg = line.hex("an argument")?;
        }
    }
    Ok(Syscall::Blocked {
        call: (number >= 0).then_some((number, args)),
        sp: line.hex("a stack pointer")?,
        pc: line.hex("an instruction pointer")?,
    })
}

/// What the scheduler remembers of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduled {
    /// When it last ran, in nanoseconds of the clock of its processor.
    pub exec_start_ns: u64,
    /// How often it has gone to sleep.
    pub voluntary_switches: u64,
}

/// Reads `sched`. `None` where the kernel does not show it (`CONFIG_SCHED_DEBUG` before 6.15).
pub fn read_scheduled(of: impl Into<Subject>) -> Result<Option<Scheduled>> {
    match of.into().read("sched") {
        Ok(bytes) => parse_scheduled(&bytes),
        Err(error @ Error::Read { .. }) if error.errno() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Parses the bytes of `sched`.
pub fn parse_scheduled(bytes: &[u8]) -> Result<Option<Scheduled>> {
    let (mut start, mut switches) = (None, None);
    for mut line in lines("sched", bytes) {
        if line.skip(b"se.exec_start") {
            line.skip_blanks();
            line.expect(b":", "a colon")?;
            let millis: u64 = line.number("milliseconds")?;
            line.expect(b".", "a point")?;
            let nanos: u64 = line.number("six digits")?;
            let total = millis
                .checked_mul(1_000_000)
                .and_then(|ns| ns.checked_add(nanos));
            start = Some(total.ok_or_else(|| line.error("milliseconds"))?);
        } else if line.skip(b"nr_voluntary_switches") {
            line.skip_blanks();
            line.expect(b":", "a colon")?;
            switches = Some(line.number("a number")?);
        }
    }
    Ok(start
        .zip(switches)
        .map(|(exec_start_ns, voluntary_switches)| Scheduled {
            exec_start_ns,
            voluntary_switches,
        }))
}

/// A cgroup that a task is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Number of the hierarchy; 0 = version 2.
    pub hierarchy: u32,
    /// Its controllers, separated by commas; `name=...` for one without.
    pub controllers: Vec<u8>,
    /// Path in the hierarchy, as the reader's cgroup namespace shows it; ` (deleted)` at its end if it is gone.
    pub path: Vec<u8>,
}

/// Reads `cgroup`.
pub fn read_cgroup(of: impl Into<Subject>) -> Result<Vec<Cgroup>> {
    parse_cgroup(&of.into().read("cgroup")?)
}

/// Parses the bytes of `cgroup`.
pub fn parse_cgroup(bytes: &[u8]) -> Result<Vec<Cgroup>> {
    lines("cgroup", bytes)
        .map(|mut line| {
            let hierarchy = line.number("a hierarchy")?;
            line.expect(b":", "a colon")?;
            let controllers = line.until(b':', "controllers")?.to_vec();
            Ok(Cgroup {
                hierarchy,
                controllers,
                path: line.rest().to_vec(),
            })
        })
        .collect()
}

/// Parses the bytes of `autogroup`.
fn parse_autogroup(bytes: &[u8]) -> Result<Option<i32>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    one("autogroup", bytes, autogroup).map(Some)
}

/// Parses `/autogroup-7 nice 0`.
fn autogroup(line: &mut Line<'_>) -> Result<i32> {
    line.expect(b"/autogroup-", "/autogroup-")?;
    line.number::<u64>("a number")?;
    line.expect(b" nice", "nice")?;
    line.number("a nice value")
}

/// Reads a file of one line, which `parse` reads to its end.
fn number<T>(
    file: &'static str,
    of: impl Into<Subject>,
    parse: impl FnOnce(&mut Line<'_>) -> Result<T>,
) -> Result<T> {
    one(file, &of.into().read(file)?, parse)
}

fn one<T>(
    file: &'static str,
    bytes: &[u8],
    parse: impl FnOnce(&mut Line<'_>) -> Result<T>,
) -> Result<T> {
    let mut line = only_line(file, bytes);
    let value = parse(&mut line)?;
    line.end("the end of the line")?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Tid;

    #[test]
    fn values_are_read_to_the_end_of_the_line() {
        let nice = |bytes: &[u8]| parse_autogroup(bytes).ok();
        assert_eq!(nice(b"/autogroup-122 nice -5\n"), Some(Some(-5)));
        assert_eq!(nice(b"/autogroup-122 nice -5 x\n"), None);
        assert_eq!(nice(b""), Some(None));
    }

    #[test]
    fn offsets_are_read() {
        let offsets = parse_timens_offsets(
            b"monotonic         -1 999999999\nboottime          10         5\n",
        );
        let offsets = offsets.expect("parses");
        assert_eq!(offsets.monotonic.as_nanos(), -1);
        assert_eq!(offsets.boottime.as_nanos(), 10_000_000_005);
        assert!(parse_timens_offsets(b"realtime 1 1\n").is_err());
    }

    #[test]
    fn system_calls_are_read() {
        assert_eq!(
            parse_syscall(b"running\n").expect("parses"),
            Syscall::Running
        );
        let outside = parse_syscall(b"-1 0x7ffe 0x401000\n").expect("parses");
        let wanted = Syscall::Blocked {
            call: None,
            sp: 0x7ffe,
            pc: 0x40_1000,
        };
        assert_eq!(outside, wanted);
        let inside = parse_syscall(b"202 0x1 0x2 0x3 0x4 0x5 0xffffffffffffffff 0x7 0x8\n");
        let wanted = Syscall::Blocked {
            call: Some((202, [1, 2, 3, 4, 5, u64::MAX])),
            sp: 7,
            pc: 8,
        };
        assert_eq!(inside.expect("parses"), wanted);
        assert!(parse_syscall(b"202 0x1\n").is_err());
    }

    #[test]
    fn the_schedulers_clock_is_read() {
        let text = b"cat (1, #threads: 1)\n---\nse.exec_start        :       1729273.090703\nse.vruntime : 1.5\nnr_voluntary_switches    :      12\n";
        assert_eq!(
            parse_scheduled(text).expect("parses"),
            Some(Scheduled {
                exec_start_ns: 1_729_273_090_703,
                voluntary_switches: 12
            })
        );
        assert_eq!(
            parse_scheduled(b"cat (1, #threads: 1)\n").expect("parses"),
            None
        );
    }

    #[test]
    fn cgroups_may_hold_colons() {
        let groups = parse_cgroup(b"4:cpu,cpuacct:/a:b c\n0::/\n1:name=systemd:/x (deleted)\n")
            .expect("parses");
        assert_eq!(
            (groups[0].hierarchy, groups[0].path.as_slice()),
            (4, &b"/a:b c"[..])
        );
        assert_eq!(
            (groups[1].controllers.as_slice(), groups[1].path.as_slice()),
            (&b""[..], &b"/"[..])
        );
        assert_eq!(groups[2].controllers, b"name=systemd");
    }

    #[test]
    fn auxv_comes_in_pairs() {
        assert_eq!(
            parse_auxv(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1]).expect("parses"),
            [1, 0x0100_0000_0000_0002]
        );
        assert!(parse_auxv(&[0; 8]).is_err() && parse_auxv(&[0; 17]).is_err());
    }

    #[test]
    fn our_own_can_be_read() {
        let this = Pid::this();
        let auxv = read_auxv(this).expect("auxv");
        let page = auxv.chunks(2).find(|pair| pair[0] == 6).map(|pair| pair[1]);
        assert_eq!(page, Some(4096));
        let adj = std::fs::read_to_string("/proc/self/oom_score_adj").expect("read");
        assert_eq!(
            read_oom_score_adj(this).expect("oom").to_string(),
            adj.trim()
        );
        assert_eq!(read_personality(this).expect("personality"), 0);
        read_coredump_filter(this).expect("coredump_filter");
        // Of this thread: that of another needs CAP_SYS_NICE (`timerslack_ns_show`, fs/proc/base.c).
        assert!(read_timerslack_ns(Pid(Tid::this().0)).expect("timerslack") > 0);
        assert!(!read_comm((this, Tid::this())).expect("comm").is_empty());
        assert!(!read_cgroup(this).expect("cgroup").is_empty());
        let state = read_syscall((this, Tid::this())).expect("syscall");
        let reading = matches!(state, Syscall::Blocked { call: Some((number, _)), .. } if number == libc::SYS_read as i32);
        assert!(reading, "{state:?}");
        let start = read_scheduled((this, Tid::this())).expect("sched");
        assert!(start.is_none_or(|start| start.exec_start_ns > 0));
        for optional in [
            read_autogroup_nice(this).err(),
            read_loginuid(this).err(),
            read_timens_offsets(this).err(),
        ] {
            assert!(optional.is_none_or(|error| error.errno() == Some(libc::ENOENT)));
        }
    }
}
