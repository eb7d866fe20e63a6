//! How each feature is found out. Nothing is changed by it.

use crate::objects::sockopt::SO_BUF_LOCK;
use crate::sys::pagemap_scan::{PageIs, Query, scan};
use crate::sys::{Pid, RemoteAddr, Tid, fd, ptrace};
use std::fs::File;
use std::os::fd::AsRawFd as _;

/// Returns whether new sockets have an option.
pub(super) fn has_option(family: i32, level: i32, option: i32) -> bool {
    let socket = crate::sys::socket::make(family, libc::SOCK_STREAM, 0);
    socket.is_ok_and(|socket| {
        crate::sys::socket::option_of(&socket, level, option, &mut [0; 4]).is_ok()
    })
}

pub(super) fn exists(path: &str) -> bool {
    std::path::Path::new(path).exists()
}

pub(super) fn map_files() -> bool {
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
pub(super) fn has_ptrace() -> bool {
    ptrace::rseq_configuration(Tid(1)).is_err_and(|error| error.errno as i32 == libc::ESRCH)
}

/// The set of free pids may be chosen from by who may checkpoint; the kernel's own limit file tells whether by us.
pub(super) fn set_tid() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    const CAP_CHECKPOINT_RESTORE: u32 = 40;
    crate::procfs::status::read(Pid::this()).is_ok_and(|status| {
        status.cap_effective & (1 << CAP_SYS_ADMIN | 1 << CAP_CHECKPOINT_RESTORE) != 0
    })
}

pub(super) fn pidfd_getfd() -> bool {
    File::open("/dev/null").is_ok_and(|file| {
        fd::pidfd_open(Pid::this())
            .and_then(|pidfd| fd::pidfd_getfd(&pidfd, crate::sys::RemoteFd(file.as_raw_fd())))
            .is_ok()
    })
}

pub(super) fn sockopt_buf_lock() -> bool {
    let socket = std::os::unix::net::UnixDatagram::unbound();
    socket.is_ok_and(|socket| crate::sys::socket::option(&socket, SO_BUF_LOCK).is_ok())
}

pub(super) fn lazy_memory() -> bool {
    crate::sys::uffd::userfaultfd().is_ok_and(|uffd| crate::sys::uffd::enable_missing(uffd).is_ok())
}

pub(super) fn timerfd() -> bool {
    fd::timerfd().is_ok_and(|timer| own_fdinfo(timer.as_raw_fd()).contains("it_interval:"))
}

pub(super) fn mnt_id() -> bool {
    File::open("/dev/null").is_ok_and(|file| own_fdinfo(file.as_raw_fd()).contains("mnt_id:"))
}

/// A lock of ours on a file of ours, which lasts until the file is closed.
pub(super) fn fdinfo_lock() -> bool {
    let file = crate::sys::mem::memfd_create(c"lock", 0).map(File::from);
    file.is_ok_and(|file| file.try_lock().is_ok() && own_fdinfo(file.as_raw_fd()).contains("lock:"))
}

fn own_fdinfo(fd: i32) -> String {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default()
}

pub(super) fn kcmp() -> bool {
    fd::kcmp(
        Tid(std::process::id() as i32),
        Tid(std::process::id() as i32),
        fd::Kcmp::Vm,
    )
    .is_ok()
}

pub(super) fn futex_waitv() -> bool {
    release() >= (5, 16)
}

pub(super) fn may_suspend_seccomp() -> bool {
    crate::kernel::may_suspend_seccomp(Pid::this()).unwrap_or(false)
}

/// As [`has_ptrace`].
pub(super) fn seccomp_filters() -> bool {
    may_suspend_seccomp()
        && ptrace::seccomp_filter(Tid(1), 0).is_err_and(|error| error.errno as i32 == libc::ESRCH)
}

pub(super) fn pagemap_scan() -> bool {
    scans_for(PageIs::PRESENT)
}

pub(super) fn guards() -> bool {
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

pub(super) fn userns() -> bool {
    let most = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    exists("/proc/self/ns/user") && most.trim() != "0"
}

pub(super) fn net_namespaces() -> bool {
    exists("/proc/self/ns/net")
}

pub(super) fn ns_pid() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.contains("\nNSpid:")
}

pub(super) fn memfd_hugetlb() -> bool {
    crate::sys::mem::memfd_create(c"huge", libc::MFD_HUGETLB).is_ok()
}

pub(super) fn has_mount_groups() -> bool {
    release() >= (5, 15)
}

/// A name that was not bound to a file has none: the request is known where it fails for that.
pub(super) fn unix_file() -> bool {
    let socket = std::os::unix::net::UnixDatagram::unbound();
    socket.is_ok_and(|socket| {
        crate::sys::socket::unix_file(&socket)
            .is_err_and(|error| error.errno as i32 == libc::ENOENT)
    })
}

/// Pidfds of two processes are two files, and not both the one of all anonymous files.
pub(super) fn pidfs() -> bool {
    let inode = |pid: Pid| {
        let pidfd = fd::pidfd_open(pid).ok()?;
        Some(crate::sys::file::statx(&pidfd).ok()?.ino)
    };
    let parent = Pid(std::os::unix::process::parent_id() as i32);
    inode(Pid::this()).is_some_and(|own| inode(parent) != Some(own))
}

pub(super) fn tun() -> bool {
    File::open("/dev/net/tun").is_ok()
}

pub(super) fn has_file_system(name: &str) -> bool {
    let all = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    all.split_whitespace().any(|word| word == name)
}

pub(super) fn apparmor_stacking() -> bool {
    let answer = std::fs::read_to_string("/sys/kernel/security/apparmor/features/domain/stack");
    answer.is_ok_and(|answer| answer.trim() == "yes")
}

/// Returns the kernel's version.
fn release() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
