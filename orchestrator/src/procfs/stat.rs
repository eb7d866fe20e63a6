//! `/proc/PID/stat`: the numbers of a task on one line (`do_task_stat` in `fs/proc/array.c`).

use super::text::{Line, only_line};
use super::{Result, Subject};

const FILE: &str = "stat";

/// What `stat` says, under the names of proc(5). Addresses are 0 where the reader may not see them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of proc(5)")]
pub struct Stat {
    pub pid: i32,
    /// At most 15 bytes for programs, more for kernel threads.
    pub comm: Vec<u8>,
    /// `R`, `S`, `D`, `T`, `t`, `Z`, ...
    pub state: u8,
    pub ppid: i32,
    pub pgrp: i32,
    pub session: i32,
    /// Controlling terminal, packed; 0 = none.
    pub tty_nr: i32,
    /// Foreground group of the terminal; -1 = none.
    pub tpgid: i32,
    /// `PF_*` of the kernel.
    pub flags: u32,
    pub minflt: u64,
    pub cminflt: u64,
    pub majflt: u64,
    pub cmajflt: u64,
    /// In clock ticks, as the three after it.
    pub utime: u64,
    pub stime: u64,
    pub cutime: i64,
    pub cstime: i64,
    pub priority: i64,
    pub nice: i32,
    pub num_threads: u32,
    /// Always 0.
    pub itrealvalue: i64,
    /// In clock ticks since boot, of the reader's time namespace.
    pub starttime: u64,
    pub vsize: u64,
    pub rss: i64,
    pub rsslim: u64,
    pub start_code: u64,
    pub end_code: u64,
    pub start_stack: u64,
    pub kstkesp: u64,
    pub kstkeip: u64,
    pub signal: u64,
    pub blocked: u64,
    pub sigignore: u64,
    pub sigcatch: u64,
    pub wchan: u64,
    pub nswap: u64,
    pub cnswap: u64,
    pub exit_signal: i32,
    pub processor: u32,
    pub rt_priority: u32,
    /// `SCHED_*`.
    pub policy: u32,
    pub delayacct_blkio_ticks: u64,
    pub guest_time: u64,
    pub cguest_time: i64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
    /// As `waitpid` will say it.
    pub exit_code: i32,
}

/// It is on its way out: its memory may be gone already (`PF_EXITING`, `linux/sched.h`).
const PF_EXITING: u32 = 4;

impl Stat {
    /// Returns whether it has ended, ends, or is about to: whoever is killed is for a moment still there to be read.
    pub fn is_ending(&self) -> bool {
        let is_killed = self.signal & 1 << (libc::SIGKILL - 1) != 0;
        matches!(self.state, b'Z' | b'X') || self.flags & PF_EXITING != 0 || is_killed
    }
}

/// Reads `stat` of a process or a thread.
pub fn read(of: impl Into<Subject>) -> Result<Stat> {
    parse(&of.into().read(FILE)?)
}

/// Returns when the process or thread was started that has this folder in `/proc`, in clock ticks since the boot; `None` if there is
/// none.
pub fn started(folder: &str) -> Option<u64> {
    let text = std::fs::read(format!("{folder}/stat")).ok()?;
    Some(parse(&text).ok()?.starttime)
}

/// Parses the bytes of `stat`. The name may hold anything, blanks, newlines and parentheses too: it ends at the last one.
pub fn parse(bytes: &[u8]) -> Result<Stat> {
    let whole = only_line(FILE, bytes);
    let close = bytes.iter().rposition(|&byte| byte == b')');
    let close = close.ok_or_else(|| whole.error("a name in parentheses"))?;
    let mut head = Line::new(FILE, 1, &bytes[..close]);
    let pid = head.number("a pid")?;
    head.expect(b" (", "a name in parentheses")?;
    let comm = head.rest().to_vec();
    let mut rest = only_line(FILE, &bytes[close + 1..]);
    let state = match rest.word() {
        [state] => *state,
        _ => return Err(rest.error("a state of one letter")),
    };
    fields(pid, comm, state, rest)
}

/// Parses what follows the state, in the order of the file (which is that of the fields).
fn fields(pid: i32, comm: Vec<u8>, state: u8, mut line: Line<'_>) -> Result<Stat> {
    macro_rules! take {
        ($($name:ident)*) => {
            Stat { pid, comm, state, $($name: line.number(stringify!($name))?),* }
        };
    }
    Ok(take! {
        ppid pgrp session tty_nr tpgid flags minflt cminflt majflt cmajflt utime stime cutime cstime priority nice
        num_threads itrealvalue starttime vsize rss rsslim start_code end_code start_stack kstkesp kstkeip signal blocked
        sigignore sigcatch wchan nswap cnswap exit_signal processor rt_priority policy delayacct_blkio_ticks guest_time
        cguest_time start_data end_data start_brk arg_start arg_end env_start env_end exit_code
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Pid;

    const TAIL: &str = "S 1 2 3 34816 5 4194304 106 0 0 0 7 8 -9 0 20 -5 4 0 172946 3133440 416 18446744073709551615 \
        94024408977408 94024408997289 140733387807200 0 0 1 2 3 4 0 0 0 17 1 50 2 0 0 0 94024409013296 94024409014912 \
        94025039081472 140733387811518 140733387811573 140733387811574 140733387812843 256\n";

    #[test]
    fn whoever_ends_is_known_before_it_has_ended() {
        let stat = parse(format!("77 (cat) {TAIL}").as_bytes()).expect("parses");
        assert!(!stat.is_ending());
        for ending in [
            Stat {
                state: b'Z',
                ..stat.clone()
            },
            Stat {
                flags: stat.flags | PF_EXITING,
                ..stat.clone()
            },
            Stat {
                signal: 1 << 8,
                ..stat
            },
        ] {
            assert!(ending.is_ending(), "{ending:?}");
        }
    }

    #[test]
    fn every_field_lands_in_its_place() {
        let stat = parse(format!("77 (cat) {TAIL}").as_bytes()).expect("parses");
        assert_eq!(
            (stat.pid, stat.comm.as_slice(), stat.state),
            (77, &b"cat"[..], b'S')
        );
        assert_eq!((stat.ppid, stat.pgrp, stat.session), (1, 2, 3));
        assert_eq!((stat.tty_nr, stat.tpgid, stat.flags), (34816, 5, 4_194_304));
        assert_eq!((stat.utime, stat.stime, stat.cutime), (7, 8, -9));
        assert_eq!((stat.priority, stat.nice, stat.num_threads), (20, -5, 4));
        assert_eq!((stat.starttime, stat.rsslim), (172_946, u64::MAX));
        assert_eq!(
            (stat.start_code, stat.start_stack),
            (94_024_408_977_408, 140_733_387_807_200)
        );
        assert_eq!((stat.signal, stat.sigcatch), (1, 4));
        assert_eq!((stat.exit_signal, stat.processor), (17, 1));
        assert_eq!((stat.rt_priority, stat.policy), (50, 2));
        assert_eq!(stat.start_brk, 94_025_039_081_472);
        assert_eq!((stat.env_end, stat.exit_code), (140_733_387_812_843, 256));
    }

    #[test]
    fn a_name_may_hold_anything() {
        let bytes = [b"77 (a) R (\n\xff) ", TAIL.as_bytes()].concat();
        let stat = parse(&bytes).expect("parses");
        assert_eq!(stat.comm, b"a) R (\n\xff");
        assert_eq!(stat.state, b'S');
    }

    #[test]
    fn a_short_file_is_refused_with_the_missing_field() {
        let error = parse(b"77 (cat) S 1 2\n").expect_err("short");
        assert!(error.to_string().contains("expected session"), "{error}");
        assert!(parse(b"").is_err());
    }

    #[test]
    fn our_own_can_be_read() {
        let stat = read(Pid::this()).expect("stat");
        assert_eq!(stat.pid, Pid::this().0);
        assert!(stat.start_code < stat.end_code && stat.start_brk != 0);
        let thread = read((Pid::this(), crate::sys::Tid::this())).expect("stat");
        assert_eq!(thread.pid, crate::sys::Tid::this().0);
    }
}
