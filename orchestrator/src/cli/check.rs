//! `orchestrator check`: what this kernel and this user can do.

use super::args::CheckArgs;
use super::say;
use crate::objects::sockopt::SO_BUF_LOCK;
use crate::sys::pagemap_scan::{PageIs, Query, scan};
use crate::sys::{Pid, RemoteAddr, Tid, fd, ptrace};
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;

/// A feature: its name (the peer's, where it has one), what it is for, whether a dump or restore needs it, and its probe.
struct Feature {
    name: &'static str,
    what: &'static str,
    required: bool,
    probe: fn() -> bool,
}

/// `IPPROTO_RAW`.
const RAW: u8 = 255;

const FEATURES: &[Feature] = &[
    Feature {
        name: "map_files",
        what: "/proc/PID/map_files (CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE)",
        required: true,
        probe: map_files,
    },
    Feature {
        name: "ptrace_peeksiginfo",
        what: "reading pending signals",
        required: true,
        probe: has_ptrace,
    },
    Feature {
        name: "clone3_set_tid",
        what: "choosing process ids",
        required: true,
        probe: set_tid,
    },
    Feature {
        name: "pidfd_getfd",
        what: "fetching descriptors",
        required: true,
        probe: pidfd_getfd,
    },
    Feature {
        name: "kcmp",
        what: "comparing descriptors",
        required: true,
        probe: kcmp,
    },
    Feature {
        name: "futex_waitv",
        what: "waiting without a descriptor (5.16)",
        required: true,
        probe: futex_waitv,
    },
    Feature {
        name: "timens",
        what: "clocks that go on from where they stood",
        required: false,
        probe: || exists("/proc/self/timens_offsets"),
    },
    Feature {
        name: "get_rseq_conf",
        what: "reading rseq registrations (5.13)",
        required: false,
        probe: has_ptrace,
    },
    Feature {
        name: "pagemap_scan",
        what: "PAGEMAP_SCAN (6.7); pagemap is read where it is missing",
        required: false,
        probe: pagemap_scan,
    },
    Feature {
        name: "pagemap_scan_guard_pages",
        what: "guard regions (6.15)",
        required: false,
        probe: guards,
    },
    Feature {
        name: "uffd",
        what: "lazy restores: userfaultfd (4.3)",
        required: false,
        probe: lazy_memory,
    },
    Feature {
        name: "uffd-noncoop",
        what: "lazy restores of programs that fork and move memory: events of userfaultfd (4.11, CAP_SYS_PTRACE)",
        required: false,
        probe: lazy_memory,
    },
    Feature {
        name: "lazy_pages",
        what: "lazy restores",
        required: false,
        probe: lazy_memory,
    },
    Feature {
        name: "mem_dirty_track",
        what: "tracking what changes: soft-dirty bits, or userfaultfd with asynchronous write protection (6.7)",
        required: false,
        probe: || crate::memory::dirty::Method::of_this_kernel().is_some(),
    },
    Feature {
        name: "aio_remap",
        what: "rings of asynchronous I/O that can be moved (3.15)",
        required: false,
        probe: || crate::sys::aio::can_move_ring().unwrap_or(false),
    },
    Feature {
        name: "timerfd",
        what: "the state of timer descriptors (3.17)",
        required: false,
        probe: timerfd,
    },
    Feature {
        name: "mnt_id",
        what: "the mount of a descriptor in fdinfo (3.15)",
        required: false,
        probe: mnt_id,
    },
    Feature {
        name: "fdinfo_lock",
        what: "the locks of a descriptor in fdinfo (4.1)",
        required: false,
        probe: fdinfo_lock,
    },
    Feature {
        name: "kcmp_epoll",
        what: "what an epoll descriptor watches (4.13)",
        required: false,
        probe: kcmp,
    },
    Feature {
        name: "seccomp_suspend",
        what: "dumping and restoring what runs under seccomp (CAP_SYS_ADMIN, and no seccomp of our own)",
        required: false,
        probe: may_suspend_seccomp,
    },
    Feature {
        name: "seccomp_filters",
        what: "reading seccomp filters (4.4)",
        required: false,
        probe: seccomp_filters,
    },
    Feature {
        name: "sockopt_buf_lock",
        what: "which sizes of a socket's buffers the program has set (SO_BUF_LOCK, 5.14)",
        required: false,
        probe: sockopt_buf_lock,
    },
    Feature {
        name: "network_lock_nftables",
        what: "keeping the network away from connections (nftables)",
        required: false,
        probe: || crate::netlink::nft::tables().is_ok(),
    },
    Feature {
        name: "has_ipt_legacy",
        what: "keeping the network away from connections by iptables, where that is asked for",
        required: false,
        probe: crate::network::iptables::is_known,
    },
    Feature {
        name: "net_diag_raw",
        what: "asking for raw sockets by netlink (4.10)",
        required: false,
        probe: || crate::netlink::inet_diag::read(false, RAW).is_ok(),
    },
    Feature {
        name: "tcp_half_closed",
        what: "connections of TCP with a closed half (4.7)",
        required: false,
        probe: || crate::objects::inet::repair::is_known(),
    },
    Feature {
        name: "ipv6_freebind",
        what: "IPV6_FREEBIND (4.15)",
        required: false,
        probe: || has_option(libc::AF_INET6, libc::IPPROTO_IPV6, 78),
    },
    Feature {
        name: "sched_debug",
        what: "how long a thread has slept (/proc/PID/sched)",
        required: false,
        probe: || exists("/proc/self/sched"),
    },
];

/// Checks what the options say: one feature, or all that a dump and a restore need.
///
/// # Errors
/// A feature that is missing or unknown.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if let Some(name) = &args.feature {
        return one(name);
    }
    let mut missing = Vec::new();
    for feature in FEATURES {
        let works = (feature.probe)();
        if !works || args.all || args.extra {
            say::line(format_args!(
                "{:20} {:8} {}",
                feature.name,
                if works { "works" } else { "missing" },
                feature.what
            ));
        }
        if !works && (feature.required || args.all || args.extra) {
            missing.push(feature.name);
        }
    }
    anyhow::ensure!(missing.is_empty(), "missing here: {}", missing.join(", "));
    say::line(format_args!("Looks good."));
    Ok(ExitCode::SUCCESS)
}

fn one(name: &str) -> anyhow::Result<ExitCode> {
    if name == "list" {
        for feature in FEATURES {
            say::line(format_args!("{}", feature.name));
        }
        return Ok(ExitCode::SUCCESS);
    }
    match FEATURES.iter().find(|feature| feature.name == name) {
        Some(feature) if (feature.probe)() => Ok(ExitCode::SUCCESS),
        Some(feature) => anyhow::bail!("feature {name} is missing here: {}", feature.what),
        None => anyhow::bail!("feature {name} is not known here; --feature list names all"),
    }
}

/// Returns whether new sockets have an option.
fn has_option(family: i32, level: i32, option: i32) -> bool {
    let socket = crate::sys::socket::make(family, libc::SOCK_STREAM, 0);
    socket.is_ok_and(|socket| {
        crate::sys::socket::option_of(&socket, level, option, &mut [0; 4]).is_ok()
    })
}

fn exists(path: &str) -> bool {
    std::path::Path::new(path).exists()
}

fn map_files() -> bool {
    let areas = crate::procfs::smaps::read_maps(Pid::this());
    areas.is_ok_and(|areas| {
        let file = areas.vmas.iter().find(|vma| vma.inode != 0);
        file.is_some_and(|vma| {
            File::open(format!(
                "/proc/self/map_files/{:x}-{:x}",
                vma.start, vma.end
            ))
            .is_ok()
        })
    })
}

/// The request exists where it fails for want of a tracee, and not for its number.
fn has_ptrace() -> bool {
    ptrace::rseq_configuration(Tid(1)).is_err_and(|error| error.errno as i32 == libc::ESRCH)
}

/// The set of free pids may be chosen from by who may checkpoint; the kernel's own limit file tells whether by us.
fn set_tid() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    const CAP_CHECKPOINT_RESTORE: u32 = 40;
    crate::procfs::status::read(Pid::this()).is_ok_and(|status| {
        status.cap_effective & (1 << CAP_SYS_ADMIN | 1 << CAP_CHECKPOINT_RESTORE) != 0
    })
}

fn pidfd_getfd() -> bool {
    File::open("/dev/null").is_ok_and(|file| {
        fd::pidfd_open(Pid::this())
            .and_then(|pidfd| fd::pidfd_getfd(&pidfd, crate::sys::RemoteFd(file.as_raw_fd())))
            .is_ok()
    })
}

fn sockopt_buf_lock() -> bool {
    let socket = std::os::unix::net::UnixDatagram::unbound();
    socket.is_ok_and(|socket| crate::sys::socket::option(&socket, SO_BUF_LOCK).is_ok())
}

fn lazy_memory() -> bool {
    crate::sys::uffd::userfaultfd().is_ok_and(|uffd| crate::sys::uffd::enable_missing(uffd).is_ok())
}

fn timerfd() -> bool {
    fd::timerfd().is_ok_and(|timer| own_fdinfo(timer.as_raw_fd()).contains("it_interval:"))
}

fn mnt_id() -> bool {
    File::open("/dev/null").is_ok_and(|file| own_fdinfo(file.as_raw_fd()).contains("mnt_id:"))
}

/// A lock of ours on a file of ours, which lasts until the file is closed.
fn fdinfo_lock() -> bool {
    let file = crate::sys::mem::memfd_create(c"lock", 0).map(File::from);
    file.is_ok_and(|file| file.try_lock().is_ok() && own_fdinfo(file.as_raw_fd()).contains("lock:"))
}

fn own_fdinfo(fd: i32) -> String {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default()
}

fn kcmp() -> bool {
    fd::kcmp(
        Tid(std::process::id() as i32),
        Tid(std::process::id() as i32),
        fd::Kcmp::Vm,
    )
    .is_ok()
}

fn futex_waitv() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 16)
}

fn may_suspend_seccomp() -> bool {
    crate::kernel::may_suspend_seccomp(Pid::this()).unwrap_or(false)
}

/// As [`has_ptrace`].
fn seccomp_filters() -> bool {
    may_suspend_seccomp()
        && ptrace::seccomp_filter(Tid(1), 0).is_err_and(|error| error.errno as i32 == libc::ESRCH)
}

fn pagemap_scan() -> bool {
    scans_for(PageIs::PRESENT)
}

fn guards() -> bool {
    scans_for(PageIs::GUARD)
}

fn scans_for(what: PageIs) -> bool {
    let query = Query {
        any_of: what,
        tell: what,
        ..Query::default()
    };
    File::open("/proc/self/pagemap").is_ok_and(|pagemap| {
        scan(
            &pagemap,
            RemoteAddr(0x1000)..RemoteAddr(0x2000),
            &query,
            &mut Vec::new(),
        )
        .is_ok()
    })
}
