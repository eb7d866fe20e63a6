//! `/proc/PID/status`: a task's identity, credentials and signals (`proc_pid_status` in `fs/proc/array.c`).

use super::text::{Line, lines};
use super::{Result, Subject};

const FILE: &str = "status";

/// What `status` says. Lines that this kernel does not write leave the default, or `None` where that would mean something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Name, with the kernel's escapes undone.
    pub name: Vec<u8>,
    /// File mode creation mask; `None` for a task that is ending.
    pub umask: Option<u32>,
    /// `R`, `S`, `D`, `T`, `t`, `Z`, ...
    pub state: u8,
    /// Thread group.
    pub tgid: i32,
    /// Thread.
    pub pid: i32,
    /// Parent.
    pub ppid: i32,
    /// Who traces it; 0 = nobody.
    pub tracer_pid: i32,
    /// Real, effective, saved, file system.
    pub uid: [u32; 4],
    /// Real, effective, saved, file system.
    pub gid: [u32; 4],
    /// Number of descriptors that the table has room for.
    pub fd_size: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Thread group, in each pid namespace from the reader's inwards; as the three after it.
    pub ns_tgid: Vec<i32>,
    /// Thread.
    pub ns_pid: Vec<i32>,
    /// Process group.
    pub ns_pgid: Vec<i32>,
    /// Session.
    pub ns_sid: Vec<i32>,
    /// Whether it is a thread of the kernel (6.8 and up).
    pub kernel_thread: Option<bool>,
    /// Resident anonymous pages, in KiB; `None` without an address space.
    pub rss_anon_kib: Option<u64>,
    /// Whether it is dumping core.
    pub core_dumping: bool,
    /// Whether transparent huge pages are on.
    pub thp_enabled: Option<bool>,
    /// Shadow-stack features in use: `shstk`, `wrss`.
    pub x86_thread_features: Vec<Vec<u8>>,
    /// Those that are locked.
    pub x86_thread_features_locked: Vec<Vec<u8>>,
    /// Bits of an address that mean something (linear address masking, 6.4 and up).
    pub untag_mask: Option<u64>,
    /// Locked memory, in KiB.
    pub locked_kib: u64,
    /// Memory that is pinned for devices, in KiB.
    pub pinned_kib: u64,
    /// Number of threads.
    pub threads: u32,
    /// Signals queued for the user, and how many may be.
    pub sig_queue: (u64, u64),
    /// Pending for the thread; bit n-1 = signal n, as in all of these.
    pub sig_pending: u64,
    /// Pending for the process.
    pub shared_pending: u64,
    /// Blocked.
    pub sig_blocked: u64,
    /// Ignored.
    pub sig_ignored: u64,
    /// Caught.
    pub sig_caught: u64,
    /// Inheritable capabilities.
    pub cap_inheritable: u64,
    /// Permitted capabilities.
    pub cap_permitted: u64,
    /// Effective capabilities.
    pub cap_effective: u64,
    /// Bounding set.
    pub cap_bounding: u64,
    /// Ambient capabilities.
    pub cap_ambient: u64,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// 0 off, 1 strict, 2 filter.
    pub seccomp: u32,
    /// Number of filters.
    pub seccomp_filters: u32,
    /// Words of `Speculation_Store_Bypass`.
    pub speculation_store_bypass: Vec<u8>,
    /// Words of `SpeculationIndirectBranch`.
    pub speculation_indirect_branch: Vec<u8>,
    /// How often it has gone to sleep.
    pub voluntary_switches: Option<u64>,
}

/// Reads `status` of a process or a thread.
pub fn read(of: impl Into<Subject>) -> Result<Status> {
    parse(&of.into().read(FILE)?)
}

/// Parses the bytes of `status`.
pub fn parse(bytes: &[u8]) -> Result<Status> {
    let mut status = Status::default();
    for mut line in lines(FILE, bytes) {
        let key = line.until(b':', "a key and a colon")?;
        line.skip_blanks();
        identity(&mut status, key, line)?;
        signals(&mut status, key, line)?;
        rights(&mut status, key, line)?;
    }
    if status.tgid == 0 || status.state == 0 {
        return Err(Line::new(FILE, 1, bytes).error("State and Tgid"));
    }
    Ok(status)
}

fn identity(status: &mut Status, key: &[u8], mut line: Line<'_>) -> Result<()> {
    match key {
        b"Name" => status.name = unescape_name(line.rest()),
        b"Umask" => status.umask = Some(line.octal("a umask")?),
        b"State" => status.state = *line.rest().first().ok_or_else(|| line.error("a state"))?,
        b"Tgid" => status.tgid = line.number("a pid")?,
        b"Pid" => status.pid = line.number("a pid")?,
        b"PPid" => status.ppid = line.number("a pid")?,
        b"TracerPid" => status.tracer_pid = line.number("a pid")?,
        b"FDSize" => status.fd_size = line.number("a number of descriptors")?,
        b"NStgid" => status.ns_tgid = line.numbers("pids")?,
        b"NSpid" => status.ns_pid = line.numbers("pids")?,
        b"NSpgid" => status.ns_pgid = line.numbers("pids")?,
        b"NSsid" => status.ns_sid = line.numbers("pids")?,
        b"Kthread" => status.kernel_thread = Some(flag(line)?),
        b"RssAnon" => status.rss_anon_kib = Some(line.number("a size in kB")?),
        b"CoreDumping" => status.core_dumping = flag(line)?,
        b"THP_enabled" => status.thp_enabled = Some(flag(line)?),
        b"x86_Thread_features" => status.x86_thread_features = words(line),
        b"x86_Thread_features_locked" => status.x86_thread_features_locked = words(line),
        b"untag_mask" => status.untag_mask = Some(line.hex("a mask")?),
        b"VmPin" => status.pinned_kib = line.number("a size in kB")?,
        b"VmLck" => status.locked_kib = line.number("a size in kB")?,
        b"Threads" => status.threads = line.number("a number of threads")?,
        b"voluntary_ctxt_switches" => {
            status.voluntary_switches = Some(line.number("a number of switches")?);
        }
        _ => {}
    }
    Ok(())
}

fn signals(status: &mut Status, key: &[u8], mut line: Line<'_>) -> Result<()> {
    match key {
        b"SigQ" => {
            let queued = line.number("a number of signals")?;
            line.expect(b"/", "a slash")?;
            status.sig_queue = (queued, line.number("a limit")?);
        }
        b"SigPnd" => status.sig_pending = line.hex("a signal set")?,
        b"ShdPnd" => status.shared_pending = line.hex("a signal set")?,
        b"SigBlk" => status.sig_blocked = line.hex("a signal set")?,
        b"SigIgn" => status.sig_ignored = line.hex("a signal set")?,
        b"SigCgt" => status.sig_caught = line.hex("a signal set")?,
        _ => {}
    }
    Ok(())
}

fn rights(status: &mut Status, key: &[u8], mut line: Line<'_>) -> Result<()> {
    match key {
        b"Uid" => status.uid = four(line)?,
        b"Gid" => status.gid = four(line)?,
        b"Groups" => status.groups = line.numbers("groups")?,
        b"CapInh" => status.cap_inheritable = line.hex("capabilities")?,
        b"CapPrm" => status.cap_permitted = line.hex("capabilities")?,
        b"CapEff" => status.cap_effective = line.hex("capabilities")?,
        b"CapBnd" => status.cap_bounding = line.hex("capabilities")?,
        b"CapAmb" => status.cap_ambient = line.hex("capabilities")?,
        b"NoNewPrivs" => status.no_new_privs = flag(line)?,
        b"Seccomp" => status.seccomp = line.number("a seccomp mode")?,
        b"Seccomp_filters" => status.seccomp_filters = line.number("a number of filters")?,
        b"Speculation_Store_Bypass" => status.speculation_store_bypass = line.rest().to_vec(),
        b"SpeculationIndirectBranch" => status.speculation_indirect_branch = line.rest().to_vec(),
        _ => {}
    }
    Ok(())
}

fn flag(mut line: Line<'_>) -> Result<bool> {
    match line.word() {
        b"0" => Ok(false),
        b"1" => Ok(true),
        _ => Err(line.error("0 or 1")),
    }
}

fn four(mut line: Line<'_>) -> Result<[u32; 4]> {
    let ids = line.numbers("four ids")?;
    ids.try_into().map_err(|_| line.error("four ids"))
}

fn words(line: Line<'_>) -> Vec<Vec<u8>> {
    let words = line.rest().split(u8::is_ascii_whitespace);
    words
        .filter(|word| !word.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

/// Undoes the escapes of a name (`ESCAPE_SPACE | ESCAPE_SPECIAL` of "\n\\"): `\n` and `\\`.
fn unescape_name(bytes: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        match (byte, rest.as_slice().first()) {
            (b'\\', Some(b'n')) => {
                name.push(b'\n');
                rest.next();
            }
            (b'\\', Some(b'\\')) => {
                name.push(b'\\');
                rest.next();
            }
            _ => name.push(byte),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Pid;

    const SAMPLE: &[u8] = b"Name:\ta\\nb\\\\c\xff\nUmask:\t0027\nState:\tt (tracing stop)\nTgid:\t10\nNgid:\t0\nPid:\t11\n\
        PPid:\t9\nTracerPid:\t8\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t4294967295\nFDSize:\t256\nGroups:\t4 20 65534 \n\
        NStgid:\t10\t3\nNSpid:\t11\t4\nNSpgid:\t0\t0\nNSsid:\t0\t1\nKthread:\t0\nRssAnon:\t     112 kB\nTHP_enabled:\t1\n\
        x86_Thread_features:\tshstk wrss \nx86_Thread_features_locked:\t\nThreads:\t2\nSigQ:\t1/96365\n\
        SigPnd:\t0000000000000200\nShdPnd:\t0000000000000400\nSigBlk:\tfffffffe7ffbfeff\nSigIgn:\t0000000000001000\n\
        SigCgt:\t0000000180000002\nCapInh:\t0000000000000001\nCapPrm:\t000001fffeffffff\nCapEff:\t0000000000000003\n\
        CapBnd:\t0000000000000004\nCapAmb:\t0000000000000005\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n\
        Speculation_Store_Bypass:\tthread vulnerable\nSpeculationIndirectBranch:\talways enabled\nNewKey:\tanything\n";

    #[test]
    fn every_line_lands_in_its_place() {
        let status = parse(SAMPLE).expect("parses");
        assert_eq!(status.name, b"a\nb\\c\xff");
        assert_eq!((status.umask, status.state), (Some(0o27), b't'));
        assert_eq!(
            (status.tgid, status.pid, status.ppid, status.tracer_pid),
            (10, 11, 9, 8)
        );
        assert_eq!(
            (status.uid, status.gid),
            ([1, 2, 3, 4], [5, 6, 7, u32::MAX])
        );
        assert_eq!(status.groups, [4, 20, 65534]);
        assert_eq!((status.ns_pid, status.ns_sid), (vec![11, 4], vec![0, 1]));
        assert_eq!(status.kernel_thread, Some(false));
        assert_eq!(
            status.x86_thread_features,
            [b"shstk".to_vec(), b"wrss".to_vec()]
        );
        assert!(status.x86_thread_features_locked.is_empty());
        assert_eq!((status.threads, status.sig_queue), (2, (1, 96365)));
        assert_eq!((status.sig_pending, status.shared_pending), (0x200, 0x400));
        assert_eq!(status.sig_blocked, 0xffff_fffe_7ffb_feff);
        assert_eq!(
            (status.sig_ignored, status.sig_caught),
            (0x1000, 0x1_8000_0002)
        );
        assert_eq!(status.cap_permitted, 0x1ff_feff_ffff);
        assert_eq!((status.cap_inheritable, status.cap_effective), (1, 3));
        assert_eq!((status.cap_bounding, status.cap_ambient), (4, 5));
        assert_eq!(
            (status.no_new_privs, status.seccomp, status.seccomp_filters),
            (true, 2, 3)
        );
        assert_eq!(status.speculation_store_bypass, b"thread vulnerable");
        assert_eq!(status.speculation_indirect_branch, b"always enabled");
    }

    #[test]
    fn errors_give_the_line() {
        let error = parse(b"Name:\tx\nUid:\t1\t2\t3\n").expect_err("three ids");
        assert_eq!(
            error.to_string(),
            "status, line 2: expected four ids, found \"\""
        );
        assert!(parse(b"Name:\tx\n").is_err());
    }

    #[test]
    fn our_own_can_be_read() {
        let status = read(Pid::this()).expect("status");
        assert_eq!(status.tgid, Pid::this().0);
        assert_eq!(status.uid[1], nix::unistd::geteuid().as_raw());
        assert_eq!(status.ns_pid.first(), Some(&Pid::this().0));
    }
}
