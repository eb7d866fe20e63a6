//! What can be asked for by `orchestrator check --feature`: what a dump or restore uses, and all that the peer's test suite
//! asks for.

use super::probes::*;
use super::{Feature, Need};

/// All features.
pub(super) const FEATURES: &[Feature] = &[
    Feature {
        name: "map_files",
        what: "/proc/PID/map_files (CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE)",
        need: Need::Required,
        probe: map_files,
    },
    Feature {
        name: "ptrace_peeksiginfo",
        what: "reading pending signals",
        need: Need::Required,
        probe: has_ptrace,
    },
    Feature {
        name: "clone3_set_tid",
        what: "choosing process ids",
        need: Need::Required,
        probe: set_tid,
    },
    Feature {
        name: "pidfd_getfd",
        what: "fetching descriptors",
        need: Need::Required,
        probe: pidfd_getfd,
    },
    Feature {
        name: "kcmp",
        what: "comparing descriptors",
        need: Need::Required,
        probe: kcmp,
    },
    Feature {
        name: "futex_waitv",
        what: "waiting without a descriptor (5.16)",
        need: Need::Required,
        probe: futex_waitv,
    },
    Feature {
        name: "timens",
        what: "clocks that go on from where they stood",
        need: Need::Wanted,
        probe: || exists("/proc/self/timens_offsets"),
    },
    Feature {
        name: "get_rseq_conf",
        what: "reading rseq registrations (5.13)",
        need: Need::Wanted,
        probe: has_ptrace,
    },
    Feature {
        name: "pagemap_scan",
        what: "PAGEMAP_SCAN (6.7); pagemap is read where it is missing",
        need: Need::Wanted,
        probe: pagemap_scan,
    },
    Feature {
        name: "pagemap_scan_guard_pages",
        what: "guard regions (6.15)",
        need: Need::Wanted,
        probe: guards,
    },
    Feature {
        name: "uffd",
        what: "lazy restores: userfaultfd (4.3)",
        need: Need::Wanted,
        probe: lazy_memory,
    },
    Feature {
        name: "uffd-noncoop",
        what: "lazy restores of programs that fork and move memory: events of userfaultfd (4.11, CAP_SYS_PTRACE)",
        need: Need::Wanted,
        probe: lazy_memory,
    },
    Feature {
        name: "lazy_pages",
        what: "lazy restores",
        need: Need::Wanted,
        probe: lazy_memory,
    },
    Feature {
        name: "mem_dirty_track",
        what: "tracking what changes: soft-dirty bits, or userfaultfd with asynchronous write protection (6.7)",
        need: Need::Wanted,
        probe: || crate::memory::dirty::Method::of_this_kernel().is_some(),
    },
    Feature {
        name: "aio_remap",
        what: "rings of asynchronous I/O that can be moved (3.15)",
        need: Need::Wanted,
        probe: || crate::sys::aio::can_move_ring().unwrap_or(false),
    },
    Feature {
        name: "timerfd",
        what: "the state of timer descriptors (3.17)",
        need: Need::Wanted,
        probe: timerfd,
    },
    Feature {
        name: "mnt_id",
        what: "the mount of a descriptor in fdinfo (3.15)",
        need: Need::Wanted,
        probe: mnt_id,
    },
    Feature {
        name: "fdinfo_lock",
        what: "the locks of a descriptor in fdinfo (4.1)",
        need: Need::Wanted,
        probe: fdinfo_lock,
    },
    Feature {
        name: "kcmp_epoll",
        what: "what an epoll descriptor watches (4.13)",
        need: Need::Wanted,
        probe: kcmp,
    },
    Feature {
        name: "seccomp_suspend",
        what: "dumping and restoring what runs under seccomp (CAP_SYS_ADMIN, and no seccomp of our own)",
        need: Need::Wanted,
        probe: may_suspend_seccomp,
    },
    Feature {
        name: "seccomp_filters",
        what: "reading seccomp filters (4.4)",
        need: Need::Wanted,
        probe: seccomp_filters,
    },
    Feature {
        name: "sockopt_buf_lock",
        what: "which sizes of a socket's buffers the program has set (SO_BUF_LOCK, 5.14)",
        need: Need::Wanted,
        probe: sockopt_buf_lock,
    },
    Feature {
        name: "network_lock_nftables",
        what: "keeping the network away from connections (nftables)",
        need: Need::Wanted,
        probe: || crate::netlink::nft::tables().is_ok(),
    },
    Feature {
        name: "has_ipt_legacy",
        what: "keeping the network away from connections by iptables, where that is asked for",
        need: Need::Wanted,
        probe: crate::network::iptables::is_known,
    },
    Feature {
        name: "net_diag_raw",
        what: "where raw sockets are connected to (/proc/net/raw; netlink is not asked)",
        need: Need::Wanted,
        probe: || std::path::Path::new("/proc/thread-self/net/raw").exists(),
    },
    Feature {
        name: "tcp_half_closed",
        what: "connections of TCP with a closed half (4.7)",
        need: Need::Wanted,
        probe: || crate::objects::inet::repair::is_known(),
    },
    Feature {
        name: "ipv6_freebind",
        what: "IPV6_FREEBIND (4.15)",
        need: Need::Wanted,
        probe: || has_option(libc::AF_INET6, libc::IPPROTO_IPV6, 78),
    },
    Feature {
        name: "sched_debug",
        what: "how long a thread has slept (/proc/PID/sched)",
        need: Need::Wanted,
        probe: || exists("/proc/self/sched"),
    },
    kernel("userns", "user namespaces", userns),
    kernel("cgroupns", "cgroup namespaces", || {
        exists("/proc/self/ns/cgroup")
    }),
    kernel(
        "ns_pid",
        "process ids in nested namespaces (NSpid of status)",
        ns_pid,
    ),
    kernel(
        "link_nsid",
        "ids of other network namespaces (IFLA_LINK_NETNSID)",
        net_namespaces,
    ),
    kernel(
        "newifindex",
        "where an interface has gone to (IFLA_NEW_IFINDEX)",
        net_namespaces,
    ),
    kernel("nftables", "nftables", || {
        crate::netlink::nft::tables().is_ok()
    }),
    kernel("loginuid", "audit login ids", || {
        std::fs::read("/proc/self/loginuid").is_ok()
    }),
    kernel(
        "memfd_hugetlb",
        "files of huge pages in memory",
        memfd_hugetlb,
    ),
    kernel(
        "move_mount_set_group",
        "shared groups of mounts (5.15)",
        has_mount_groups,
    ),
    kernel(
        "sk_unix_file",
        "the file of the name of a Unix socket (SIOCUNIXFILE)",
        unix_file,
    ),
    kernel(
        "pidfd_store",
        "one inode for each process in pidfds (6.9)",
        pidfs,
    ),
    kernel("tun", "TUN and TAP devices", tun),
    kernel("tun_ns", "the network namespace of a TUN device", || {
        tun() && net_namespaces()
    }),
    kernel("autofs", "autofs", || has_file_system("autofs")),
    kernel(
        "apparmor_stacking",
        "stacked profiles of AppArmor",
        apparmor_stacking,
    ),
    kernel("compat_cr", "32-bit programs; none is dumped here", || {
        false
    }),
    kernel(
        "stream",
        "images through a pipe, by the peer's image streamer; here by --stream",
        || false,
    ),
];

/// Returns a feature that only tells of the kernel.
const fn kernel(name: &'static str, what: &'static str, probe: fn() -> bool) -> Feature {
    Feature {
        name,
        what,
        need: Need::Told,
        probe,
    }
}
