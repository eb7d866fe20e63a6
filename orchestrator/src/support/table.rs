//! The table: one row for each attribute, by what has it. What a row says is proven by the file and word at its end.

use super::{Attribute, Fate, Lost, Scope};
use Fate::{Kept, Refused, Untold, Warned};
use Scope::{Area, Descriptor, Memory, Process, Thread};

const fn row(
    scope: Scope,
    name: &'static str,
    fate: Fate,
    [read, set, record]: [&'static str; 3],
    proof: (&'static str, &'static str),
) -> Attribute {
    Attribute {
        scope,
        name,
        read,
        set,
        record,
        fate,
        proof: Some(proof),
    }
}

/// A row of what is refused: `read` says how it is found out.
const fn refused(
    scope: Scope,
    name: &'static str,
    read: &'static str,
    proof: (&'static str, &'static str),
) -> Attribute {
    row(scope, name, Refused, [read, "", ""], proof)
}

/// A row of what is named: `why` is told by the dump too.
const fn named(
    scope: Scope,
    name: &'static str,
    lost: Lost,
    [read, why]: [&'static str; 2],
    proof: (&'static str, &'static str),
) -> Attribute {
    row(scope, name, Warned(lost), [read, why, ""], proof)
}

/// A row of what the kernel tells nobody: `set` says by what it is made.
const fn untold(scope: Scope, name: &'static str, set: &'static str) -> Attribute {
    Attribute {
        scope,
        name,
        read: "",
        set,
        record: "",
        fate: Untold,
        proof: None,
    }
}

const STOPPED: &str = "tests/victims/stopped.c";
const PTYS_C: &str = "tests/victims/ptys.c";
const ATTRIBUTES_C: &str = "tests/victims/attributes.c";
const HUGE_C: &str = "tests/victims/huge.c";
const NAMES_C: &str = "tests/victims/names.c";
const FILES_RS: &str = "tests/tests/files.rs";
const TUN: &str = "tests/tests/tun.rs";
const TUN_C: &str = "tests/victims/tun.c";
const PROCFILES_C: &str = "tests/victims/procfiles.c";
const EXTERNAL: &str = "tests/tests/external.rs";
const SOCKOPTS_C: &str = "tests/victims/sockopts.c";
const PIDFDS_C: &str = "tests/victims/pidfds.c";
const SHM_C: &str = "tests/victims/shm.c";
const IPCNS_C: &str = "tests/victims/ipcns.c";
const IPC: &str = "tests/tests/ipc.rs";
const QUEUES: &str = "tests/tests/queues.rs";
const MQUEUE_C: &str = "tests/victims/mqueue.c";
const NETNS: &str = "tests/tests/netns.rs";
const NETNS_PY: &str = "tests/scripts/netns.py";
const INET_C: &str = "tests/victims/inet.c";
const TCP_C: &str = "tests/victims/tcp.c";
const CONNECTIONS: &str = "tests/tests/connections.rs";
const UNIX_C: &str = "tests/victims/unix.c";
const LOCKS_C: &str = "tests/victims/locks.c";
const WATCHERS_C: &str = "tests/victims/watchers.c";
const LINKS_C: &str = "tests/victims/links.c";
const GHOSTS_C: &str = "tests/victims/ghosts.c";
const TREE_C: &str = "tests/victims/tree.c";
const SETTINGS_C: &str = "tests/victims/settings.c";
const SIGNALS_C: &str = "tests/victims/signals.c";
const TIMERS_C: &str = "tests/victims/timers.c";
const THREADS_C: &str = "tests/victims/threads.c";
const BLOCKED_C: &str = "tests/victims/blocked.c";
const MAPS_C: &str = "tests/victims/maps.c";
const TILES_C: &str = "tests/victims/tiles.c";
const FPU_C: &str = "tests/victims/fpu.c";
const FILES_C: &str = "tests/victims/files.c";
const PIPES_C: &str = "tests/victims/pipes.c";
const WIDOWED_C: &str = "tests/victims/widowed.c";
const COUNTER_C: &str = "tests/victims/counter.c";
const REFUSALS: &str = "tests/tests/refusals.rs";
const LOSSES: &str = "tests/tests/losses.rs";
const WORDS: &str = "orchestrator/src/support/mod.rs";
const ROUNDTRIP: &str = "tests/tests/roundtrip.rs";
const OF_THREAD: &str = "orchestrator/src/dump/thread.rs";

/// Every attribute. A row is a line, so that it can be read as a table.
#[rustfmt::skip]
pub const ATTRIBUTES: &[Attribute] = &[
    // Of a process.
    row(Process, "pid", Kept, ["stat", "clone3 set_tid", "pstree_entry.pid"], (COUNTER_C, "getpid")),
    row(Process, "session and process group", Kept, ["stat", "setsid, setpgid; by a process that ends, where the leader has gone; the caller's with --shell-job", "pstree_entry.sid, pgid, ext_inventory.own_session"], ("tests/scripts/daemon.py", "the leader has gone")),
    row(Process, "signal of a group stop", Kept, ["ptrace", "the signal; SIGSTOP where its group is orphaned", "task_core_entry.stop_signo"], (STOPPED, "told of another signal")),
    refused(Process, "first thread that has ended, while others live", "stat", (REFUSALS, "fn a_process_whose_first_thread_has_ended")),
    row(Process, "group stop", Kept, ["ptrace", "SIGSTOP", "task_core_entry.task_state, stop_signo"], (ROUNDTRIP, "left_stopped_until_it_is_continued")),
    row(Process, "personality", Kept, ["personality", "personality(2)", "task_core_entry.personality"], (ATTRIBUTES_C, "SAME(persona)")),
    row(Process, "dumpable", Kept, ["PR_GET_DUMPABLE", "PR_SET_DUMPABLE; 2 becomes 0, and the restore says so", "mm_entry.dumpable"], (ATTRIBUTES_C, "SAME(dumpable)")),
    row(Process, "child subreaper", Kept, ["PR_GET_CHILD_SUBREAPER", "PR_SET_CHILD_SUBREAPER", "task_core_entry.child_subreaper"], (ATTRIBUTES_C, "SAME(subreaper)")),
    row(Process, "umask", Kept, ["status", "umask(2)", "fs_entry.umask"], (ATTRIBUTES_C, "SAME(umask)")),
    row(Process, "working directory", Kept, ["cwd", "fchdir", "fs_entry.cwd_id"], (ATTRIBUTES_C, "now.cwd")),
    row(Process, "root", Kept, ["root", "chroot", "fs_entry.root_id"], (WIDOWED_C, "chroot")),
    row(Process, "child processes", Kept, ["children", "clone3 set_tid", "pstree_entry.ppid"], (TREE_C, "getppid() != shared->ppid")),
    row(Process, "children not yet waited for", Kept, ["stat", "ended again in the same way; not that memory was dumped", "task_core_entry.exit_code"], (TREE_C, "status of one that was killed")),
    row(Process, "pages shared with the parent", Kept, ["pagemap", "clone3, and only pages that differ are written", "pagemap_entry.flags"], (TREE_C, "private_kib() > 64")),
    row(Process, "executable", Kept, ["exe", "PR_SET_MM_MAP", "mm_entry.exe_file_id"], (SETTINGS_C, "NOTE(exe())")),
    row(Process, "resource limits", Kept, ["limits", "prlimit; a hard limit above the caller's needs CAP_SYS_RESOURCE", "task_core_entry.rlimits"], (ATTRIBUTES_C, "now.limits")),
    row(Process, "signal actions", Kept, ["rt_sigaction", "rt_sigaction", "task_core_entry.sigactions"], (SIGNALS_C, "check_actions")),
    row(Process, "pending signals", Kept, ["PTRACE_PEEKSIGINFO", "rt_sigqueueinfo", "task_core_entry.signals_s"], (SIGNALS_C, "sigqueue")),
    row(Process, "interval timers", Kept, ["getitimer", "setitimer", "task_timers_entry.real, virt, prof"], (TIMERS_C, "ITIMER_PROF")),
    row(Process, "POSIX timers", Kept, ["timers, timer_gettime, timer_getoverrun", "timer_create with PR_TIMER_CREATE_RESTORE_IDS (6.15), timer_settime", "task_timers_entry.posix"], (TIMERS_C, "timer_create")),
    row(Process, "CLOCK_MONOTONIC, CLOCK_BOOTTIME", Kept, ["clock_gettime", "a time namespace (5.6); --host-clocks keeps the host's", "timens_entry"], (ATTRIBUTES_C, "CLOCK_BOOTTIME")),
    row(Process, "membarrier registrations", Kept, ["MEMBARRIER_CMD_GET_REGISTRATIONS (6.3)", "membarrier", "task_core_entry.membarrier_registration_mask"], (SETTINGS_C, "SYS_membarrier")),
    row(Process, "oom_score_adj", Kept, ["oom_score_adj", "oom_score_adj; lower than the caller's needs CAP_SYS_RESOURCE", "task_core_entry.oom_score_adj"], (ATTRIBUTES_C, "SAME(oom)")),
    row(Process, "coredump_filter", Kept, ["coredump_filter", "coredump_filter", "ext_task.coredump_filter"], (ATTRIBUTES_C, "SAME(filter)")),
    row(Process, "controlling terminal and its foreground group", Kept, ["stat, TIOCGSID", "TIOCSCTTY by the leader, TIOCNOTTY, TIOCSPGRP", "tty_info_entry.sid, pgrp, ext_task.terminal"], (PTYS_C, "another group is in the foreground")),
    row(Process, "autogroup nice value", Kept, ["autogroup", "autogroup, by a session's leader", "ext_task.autogroup_nice"], (SETTINGS_C, "/proc/self/autogroup")),
    row(Process, "loginuid", Kept, ["loginuid", "loginuid", "task_core_entry.loginuid"], (SETTINGS_C, "/proc/self/loginuid")),
    row(Process, "permission for AMX tiles", Kept, ["ARCH_GET_XCOMP_PERM (5.16)", "ARCH_REQ_XCOMP_PERM", "ext_thread.xcomp_permission"], (TILES_C, "ARCH_REQ_XCOMP_PERM")),
    named(Process, "cgroup", Lost::Cgroup, ["cgroup", "a restored process is in those of whoever restores it"], (LOSSES, "fn a_control_group")),
    named(Process, "SEM_UNDO adjustments", Lost::SemaphoreUndo, ["KCMP_SYSVSEM: that there may be some", "System V semaphores are not undone at the end of the restored process, but at that of the dumped one"], (LOSSES, "fn semaphores_to_undo")),
    named(Process, "security label", Lost::SecurityLabel, ["attr", "labels of security modules are those of whoever restores"], (WORDS, "fn every_loss_has_words")),
    named(Process, "audit session", Lost::AuditSession, ["sessionid", "the kernel chooses its number"], (LOSSES, "fn an_audit_session")),
    named(Process, "thread that made a child", Lost::ParentThread, ["task/TID/children", "the first thread of the parent makes it: its parent-death signal, and waits with __WNOTHREAD, go by that"], (LOSSES, "fn children_of_threads")),
    named(Process, "core-scheduling cookie", Lost::CoreCookie, ["PR_SCHED_CORE_GET (5.14)", "the kernel chooses it, and shares it with no process that is there already"], (WORDS, "fn every_loss_has_words")),
    row(Process, "memory, descriptors, directory, signal handlers shared by flags of clone", Kept, ["kcmp", "clone3 by a parent or brother that shares them", "task_kobj_ids_entry"], ("tests/victims/joint.c", "KCMP_SIGHAND")),
    row(Process, "signal of its end", Kept, ["stat", "clone3", "ext_task.exit_signal"], ("tests/victims/joint.c", "__WCLONE")),
    row(Process, "IPC namespace of the tree's own, its settings", Kept, ["ns, /proc/sys/kernel, /proc/sys/fs/mqueue", "unshare, /proc/sys", "ipc_var_entry"], (IPCNS_C, "{\"kernel/msgmnb\", \"7000\"}")),
    row(Process, "System V semaphores of an IPC namespace of its own", Kept, ["sysvipc, semctl", "sem_next_id, semget, semctl", "ipc_sem_entry"], (IPCNS_C, "other semaphores")),
    row(Process, "System V message queues of an IPC namespace of its own", Kept, ["sysvipc, msgctl, msgrcv with MSG_COPY (3.8)", "msg_next_id, msgget, msgsnd, msgctl", "ipc_msg_entry, ipc_msg"], (IPCNS_C, "byte %d of a message")),
    refused(Process, "IPC namespace that others are in too", "ns", (IPC, "fn an_ipc_namespace_that_another_is_in")),
    row(Process, "POSIX message queues of the IPC namespace", Kept, ["fsopen mqueue", "mq_open, mq_unlink, fs.mqueue", "ext_queue"], (MQUEUE_C, "nobody has me open")),
    row(Process, "POSIX message queues: messages, priorities", Kept, ["mq_timedreceive, and put back by a process that outlives ours", "mq_timedsend", "ext_queue.message"], (MQUEUE_C, "expect(reader, \"urgent\"")),
    row(Process, "who is told of the next message of a POSIX queue", Kept, ["read", "mq_notify", "ext_queue.notice"], (MQUEUE_C, "told %d times")),
    named(Process, "connections that the filter of a network namespace tracks (conntrack)", Lost::TrackedConnections, ["nf_conntrack_count", "it learns them again from the next packets; addresses that were translated are not"], ("tests/tests/netns.rs", "fn tracked_connections")),
    named(Process, "value of the signal that tells of a message", Lost::QueueNoticeValue, ["read", "the kernel does not tell it: it becomes 0"], (QUEUES, "fn the_value_of_a_signal")),
    refused(Process, "POSIX message queues with messages of which the next is told, or that others have open", "read, fd", (QUEUES, "fn a_queue_with_messages_whose_next_one_is_told")),
    row(Process, "network namespace of the tree's own, its settings", Kept, ["ns, /proc/sys/net", "unshare, /proc/sys/net", "ext_netns.setting"], (NETNS_PY, "ipv4/ip_local_port_range")),
    row(Process, "addresses, routes of all tables and rules of a network namespace", Kept, ["RTM_GETADDR, RTM_GETROUTE, RTM_GETRULE", "RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWRULE", "ifaddr, route, route6, rule"], (NETNS_PY, "\"route\", \"show\", \"table\", \"all\"")),
    row(Process, "neighbours and proxies that somebody has added", Kept, ["RTM_GETNEIGH", "RTM_NEWNEIGH", "ext_netns.neighbour"], (NETNS_PY, "\"neighbour\", \"show\", \"proxy\"")),
    row(Process, "pairs of links (veth), inside of a network namespace or with an end outside", Kept, ["RTM_GETLINK", "RTM_NEWLINK, RTM_NEWLINKPROP", "net_device_entry, ext_net_device"], (NETNS, "fn a_server_moves_to_a_new_namespace")),
    row(Process, "bridges and their ports, macvlan, macvtap, ipvlan, ipvtap, vlan, vxlan, dummy, ifb, vrf and tunnels of a network namespace", Kept, ["RTM_GETLINK", "RTM_NEWLINK", "net_device_entry, ext_net_device"], (NETNS, "fn links_of_other_kinds")),
    row(Process, "tables of nftables in a network namespace", Kept, ["NFT_MSG_GETTABLE, NFT_MSG_GETCHAIN, NFT_MSG_GETSET, NFT_MSG_GETOBJ, NFT_MSG_GETSETELEM, NFT_MSG_GETRULE", "NFT_MSG_NEWTABLE and so on", "ext_netns.filter"], (NETNS, "fn tables_of_nftables")),
    refused(Process, "devices of a network namespace of other kinds, queueing disciplines, next hops, IPsec, tables of the old iptables, sets of ipset", "RTM_GETLINK, RTM_GETQDISC, RTM_GETNEXTHOP, XFRM_MSG_GETPOLICY, IPSET_CMD_LIST", (NETNS, "fn what_is_not_kept_of_a_namespace")),
    refused(Process, "programs of XDP, VLANs and groups of ports of bridges, programs of BPF in a network namespace", "RTM_GETLINK, RTM_GETMDB, BPF_PROG_QUERY", (NETNS, "fn what_is_not_kept_of_links")),
    refused(Process, "other namespaces than the caller's", "ns", (REFUSALS, "fn a_namespace_of_its_own")),
    refused(Process, "children in another time than their parent", "ns", (REFUSALS, "fn children_in_another_time_than_their_parent")),
    untold(Process, "session keyring", "KEYCTL_JOIN_SESSION_KEYRING; who has none gets one by being asked"),
    untold(Process, "tracers allowed", "PR_SET_PTRACER"),
    untold(Process, "Landlock rules", "landlock_restrict_self"),
    untold(Process, "next number of a POSIX timer", "timer_create"),
    // Of a thread.
    row(Thread, "tid", Kept, ["task", "clone3 set_tid", "pstree_entry.threads"], (COUNTER_C, "SYS_gettid")),
    row(Thread, "name", Kept, ["comm", "PR_SET_NAME", "thread_core_entry.comm"], (ATTRIBUTES_C, "now.second_comm")),
    row(Thread, "general registers", Kept, ["PTRACE_GETREGS", "PTRACE_SETREGS", "user_x86_regs_entry"], (BLOCKED_C, "SYS_epoll_pwait2")),
    row(Thread, "vector and floating-point registers", Kept, ["NT_X86_XSTATE", "NT_X86_XSTATE", "user_x86_fpregs_entry, ext_thread.xstate"], (FPU_C, "spin_avx512")),
    row(Thread, "fs and gs base", Kept, ["PTRACE_GETREGS", "PTRACE_SETREGS", "user_x86_regs_entry.fs_base, gs_base"], (THREADS_C, "pthread_join")),
    row(Thread, "TLS slots of the GDT", Kept, ["PTRACE_GET_THREAD_AREA", "set_thread_area", "thread_info_x86.tls"], ("orchestrator/tests/images/rich.rs", "tls: vec!")),
    row(Thread, "interrupted system call", Kept, ["registers", "registers", "user_x86_regs_entry.orig_ax"], (BLOCKED_C, "SYS_rt_sigtimedwait")),
    row(Thread, "signal mask", Kept, ["PTRACE_GETSIGMASK", "PTRACE_SETSIGMASK", "thread_core_entry.blk_sigset"], (SIGNALS_C, "pthread_sigmask")),
    row(Thread, "pending signals", Kept, ["PTRACE_PEEKSIGINFO", "rt_tgsigqueueinfo", "thread_core_entry.signals_p"], (SIGNALS_C, "SYS_rt_tgsigqueueinfo")),
    row(Thread, "alternate signal stack", Kept, ["sigaltstack", "sigaltstack", "thread_core_entry.sas"], (SIGNALS_C, "check_stack")),
    row(Thread, "robust list", Kept, ["get_robust_list", "set_robust_list", "thread_core_entry.futex_rla"], (SETTINGS_C, "SYS_get_robust_list")),
    row(Thread, "clear_child_tid", Kept, ["PR_GET_TID_ADDRESS", "set_tid_address", "thread_info_x86.clear_tid_addr"], (SETTINGS_C, "PR_GET_TID_ADDRESS")),
    row(Thread, "rseq", Kept, ["PTRACE_GET_RSEQ_CONFIGURATION", "rseq", "thread_core_entry.rseq_entry"], (SETTINGS_C, "SYS_rseq")),
    row(Thread, "user and group ids, groups", Kept, ["status", "setresuid, setfsuid, setgroups", "creds_entry"], (SETTINGS_C, "SYS_setgroups")),
    row(Thread, "capabilities", Kept, ["status", "capset", "creds_entry.cap_inh, cap_prm, cap_eff"], (SETTINGS_C, "SYS_capset")),
    row(Thread, "capability bounding set", Kept, ["status", "PR_CAPBSET_DROP", "creds_entry.cap_bnd"], (SETTINGS_C, "PR_CAPBSET_DROP")),
    row(Thread, "ambient capabilities", Kept, ["status", "PR_CAP_AMBIENT_RAISE", "creds_entry.cap_amb"], (SETTINGS_C, "PR_CAP_AMBIENT_RAISE")),
    row(Thread, "securebits, keepcaps", Kept, ["PR_GET_SECUREBITS", "PR_SET_SECUREBITS", "creds_entry.secbits"], (SETTINGS_C, "PR_SET_KEEPCAPS")),
    row(Thread, "no_new_privs", Kept, ["status", "PR_SET_NO_NEW_PRIVS", "creds_entry.no_new_privs"], (ATTRIBUTES_C, "SAME(no_new_privs)")),
    row(Thread, "parent-death signal", Kept, ["PR_GET_PDEATHSIG", "PR_SET_PDEATHSIG, when the parent is the one that stays", "thread_core_entry.pdeath_sig"], (ATTRIBUTES_C, "deaths == 0")),
    row(Thread, "scheduling policy and priority", Kept, ["sched_getattr", "sched_setattr", "thread_core_entry.sched_policy, sched_prio"], (SETTINGS_C, "SCHED_RR")),
    row(Thread, "nice value", Kept, ["getpriority", "sched_setattr, setpriority", "thread_core_entry.sched_nice"], (ATTRIBUTES_C, "now.second_nice")),
    row(Thread, "reset on fork", Kept, ["sched_getattr", "sched_setattr", "ext_thread.sched_flags"], (SETTINGS_C, "RESET_ON_FORK")),
    row(Thread, "scheduling slice", Kept, ["sched_getattr (6.12)", "sched_setattr", "ext_thread.deadline"], (SETTINGS_C, ".runtime = 3000000")),
    row(Thread, "deadline scheduling", Kept, ["sched_getattr", "sched_setattr", "ext_thread.deadline"], (SETTINGS_C, "SCHED_DEADLINE")),
    row(Thread, "utilisation clamps", Kept, ["sched_getattr (5.3)", "sched_setattr", "ext_thread.uclamp"], ("orchestrator/src/objects/sched/plan.rs", "sched.uclamp = Some([1, 1024])")),
    row(Thread, "CPU affinity", Kept, ["sched_getaffinity", "sched_setaffinity", "ext_thread.affinity"], (ATTRIBUTES_C, "CPU_EQUAL")),
    row(Thread, "I/O priority", Kept, ["ioprio_get", "ioprio_set", "ext_thread.ioprio"], (ATTRIBUTES_C, "SAME(io)")),
    row(Thread, "timer slack", Kept, ["timerslack_ns", "PR_SET_TIMERSLACK", "ext_thread.timerslack_ns"], (ATTRIBUTES_C, "now.second_slack")),
    row(Thread, "NUMA policy", Kept, ["get_mempolicy", "set_mempolicy", "ext_thread.mempolicy"], (SETTINGS_C, "SYS_set_mempolicy")),
    row(Thread, "machine-check policy", Kept, ["PR_MCE_KILL_GET", "PR_MCE_KILL", "ext_thread.mce_kill"], (SETTINGS_C, "PR_MCE_KILL_EARLY")),
    row(Thread, "time-stamp counter", Kept, ["PR_GET_TSC", "PR_SET_TSC", "ext_thread.tsc_mode"], (SETTINGS_C, "PR_TSC_SIGSEGV")),
    row(Thread, "faulting of CPUID", Kept, ["ARCH_GET_CPUID (4.12)", "ARCH_SET_CPUID", "ext_thread.cpuid_faults"], (SETTINGS_C, "ARCH_SET_CPUID")),
    row(Thread, "I/O flusher", Kept, ["PR_GET_IO_FLUSHER (5.6)", "PR_SET_IO_FLUSHER; needs CAP_SYS_RESOURCE, else the restore says so", "ext_thread.io_flusher"], ("orchestrator/src/objects/attributes/plan.rs", "PR_SET_IO_FLUSHER))")),
    row(Thread, "speculation control", Kept, ["PR_GET_SPECULATION_CTRL (4.17)", "PR_SET_SPECULATION_CTRL", "ext_thread.store_bypass, indirect_branch, l1d_flush"], (SETTINGS_C, "PR_SPEC_STORE_BYPASS")),
    row(Thread, "syscall user dispatch", Kept, ["PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG (6.4)", "PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG", "ext_thread.syscall_dispatch"], (SETTINGS_C, "PR_SET_SYSCALL_USER_DISPATCH")),
    named(Thread, "keyring", Lost::Keyring, ["KEYCTL_GET_KEYRING_ID", "a restored process begins without process and thread keyrings"], (LOSSES, "fn keyrings")),
    row(Thread, "seccomp: strict mode, filters", Kept, ["PTRACE_SECCOMP_GET_FILTER, PTRACE_SECCOMP_GET_METADATA", "seccomp, under a tracer that suspends them", "seccomp_filter, thread_core_entry.seccomp_mode"], ("tests/victims/confined.c", "add_strictest")),
    refused(Thread, "seccomp: filters that ask a listener", "PTRACE_SECCOMP_GET_FILTER", (REFUSALS, "fn a_seccomp_filter_with_a_listener")),
    refused(Thread, "descriptor table of its own", "KCMP_FILES", (REFUSALS, "fn a_thread_with_descriptors_of_its_own")),
    row(Thread, "working directory, root, umask of its own", Kept, ["kcmp, cwd, root, status", "unshare, chroot, fchdir, umask", "ext_thread.fs"], ("tests/victims/threadfs.c", "CLONE_FS")),
    refused(Thread, "namespaces of its own", "task/TID/ns", (REFUSALS, "fn a_thread_in_a_network_of_its_own")),
    refused(Thread, "I/O ports", "NT_386_IOPERM", (OF_THREAD, "NT_386_IOPERM")),
    refused(Thread, "shadow stack", "status (6.6)", (OF_THREAD, "fn settings_of_the_processor_are_refused")),
    refused(Thread, "32-bit code", "registers", ("orchestrator/src/plan/registers.rs", "32-bit code")),
    untold(Thread, "default timer slack", "inherited from the thread that made it"),
    untold(Thread, "I/O privilege level", "iopl (5.5 and up)"),
    // Of an address space.
    row(Memory, "places of code, data, break, stack, arguments, environment", Kept, ["stat, brk", "PR_SET_MM_MAP", "mm_entry"], (SETTINGS_C, "/proc/self/cmdline")),
    row(Memory, "auxiliary vector", Kept, ["auxv", "PR_SET_MM_MAP", "mm_entry.mm_saved_auxv"], (SETTINGS_C, "/proc/self/auxv")),
    row(Memory, "no transparent huge pages", Kept, ["PR_GET_THP_DISABLE", "PR_SET_THP_DISABLE", "mm_entry.thp_disabled, ext_mm.thp_except_advised"], (SETTINGS_C, "THP_EXCEPT_ADVISED")),
    row(Memory, "memory-deny-write-execute", Kept, ["PR_GET_MDWE (6.3)", "PR_SET_MDWE", "ext_task.mdwe"], (SETTINGS_C, "PR_SET_MDWE")),
    row(Memory, "merging of equal pages", Kept, ["PR_GET_MEMORY_MERGE (6.4)", "PR_SET_MEMORY_MERGE", "ext_task.memory_merge"], (SETTINGS_C, "PR_SET_MEMORY_MERGE")),
    row(Memory, "locking of later mappings", Kept, ["whether the parasite's own memory is locked", "mlockall", "ext_mm.mlockall"], (SETTINGS_C, "MCL_FUTURE | MCL_ONFAULT")),
    row(Memory, "local descriptor table", Kept, ["modify_ldt", "modify_ldt", "ext_mm.ldt"], (SETTINGS_C, "SYS_modify_ldt")),
    row(Memory, "vDSO", Kept, ["smaps", "ARCH_MAP_VDSO_64; another kernel's is led to this one's", "vma_entry.status"], (ATTRIBUTES_C, "clock_gettime")),
    refused(Memory, "tagged addresses", "status (6.4)", (OF_THREAD, "fn settings_of_the_processor_are_refused")),
    row(Memory, "contexts of asynchronous I/O, events that wait", Kept, ["smaps, the ring itself", "io_setup, mremap, requests that do nothing", "mm_entry.aios"], ("tests/victims/aio.c", "a full ring takes one more")),
    refused(Memory, "rings of asynchronous I/O of others, or overwritten", "io_getevents, the ring itself", (REFUSALS, "fn a_ring_of_the_parent")),
    untold(Memory, "requests of asynchronous I/O that are not done", "io_submit"),
    untold(Memory, "number of futex buckets", "PR_FUTEX_HASH_SET_SLOTS; chosen by the kernel as threads are made"),
    // Of an area.
    row(Area, "range, protection, sharing", Kept, ["smaps", "mmap, mprotect", "vma_entry.start, end, prot, flags"], (MAPS_C, "mprotect")),
    row(Area, "content", Kept, ["PAGEMAP_SCAN, vmsplice", "preadv", "pagemap_entry"], (MAPS_C, "check_filled")),
    row(Area, "growing down", Kept, ["smaps", "MAP_GROWSDOWN", "vma_entry.flags"], (MAPS_C, "MAP_GROWSDOWN")),
    row(Area, "no reserve", Kept, ["smaps", "MAP_NORESERVE", "vma_entry.flags"], (MAPS_C, "MAP_NORESERVE")),
    row(Area, "droppable", Kept, ["smaps (6.11)", "MAP_DROPPABLE", "vma_entry.flags"], (SETTINGS_C, "MAP_DROPPABLE")),
    row(Area, "read-ahead advice", Kept, ["smaps", "MADV_RANDOM, MADV_SEQUENTIAL", "vma_entry.madv"], (MAPS_C, "MADV_SEQUENTIAL")),
    row(Area, "fork advice", Kept, ["smaps", "MADV_DONTFORK, MADV_WIPEONFORK", "vma_entry.madv"], (MAPS_C, "MADV_WIPEONFORK")),
    row(Area, "huge-page advice", Kept, ["smaps", "MADV_HUGEPAGE, MADV_NOHUGEPAGE", "vma_entry.madv"], (MAPS_C, "MADV_NOHUGEPAGE")),
    row(Area, "core-dump advice", Kept, ["smaps", "MADV_DONTDUMP", "vma_entry.madv"], (MAPS_C, "MADV_DONTDUMP")),
    row(Area, "huge pages of a pool", Kept, ["smaps", "MAP_HUGETLB", "vma_entry.flags"], (HUGE_C, "kernel_page_kib")),
    row(Area, "deleted file", Kept, ["map_files", "made again without a name", "ghost_file_entry"], (GHOSTS_C, "mappings of a deleted file")),
    row(Area, "merging advice", Kept, ["smaps", "MADV_MERGEABLE", "vma_entry.madv"], (SETTINGS_C, "MADV_MERGEABLE")),
    row(Area, "locked", Kept, ["smaps", "mlock2", "vma_entry.flags, ext_vma.locked_on_fault"], (MAPS_C, "mlock2")),
    row(Area, "guard regions", Kept, ["PAGEMAP_SCAN (6.13)", "MADV_GUARD_INSTALL", "vma_entry.status"], (MAPS_C, "MADV_GUARD")),
    row(Area, "sealed", Kept, ["smaps (6.10)", "mseal", "ext_vma.sealed"], (SETTINGS_C, "mseal")),
    row(Area, "NUMA policy of an area", Kept, ["get_mempolicy", "mbind", "ext_vma.mempolicy"], (SETTINGS_C, "SYS_mbind")),
    row(Area, "name of anonymous memory", Kept, ["smaps (5.17)", "PR_SET_VMA_ANON_NAME; a kernel without names has the restore say so", "ext_vma.name"], (SETTINGS_C, "PR_SET_VMA")),
    row(Area, "System V shared memory", Kept, ["smaps, sysvipc", "shm_next_id, shmget, shmat, shmctl", "vma_entry.shmid, ipc_shm_entry"], (SHM_C, "shmctl(id, IPC_STAT")),
    refused(Area, "System V shared memory that others have too", "sysvipc", ("tests/tests/ipc.rs", "fn shared_memory_that_another_has_attached")),
    named(Area, "times and processes of the last uses of System V shared memory, semaphores and queues", Lost::IpcTimes, ["sysvipc", "the kernel sets them"], ("tests/tests/ipc.rs", "times and processes of the last uses")),
    row(Area, "file that was deleted under this name and has others", Kept, ["map_files", "linkat, openat, unlink; with --link-remap", "remap_file_path_entry"], (LINKS_C, "mapped-too")),
    refused(Area, "userfaultfd", "smaps", (REFUSALS, "fn memory_of_a_userfaultfd")),
    row(Area, "for execution only", Kept, ["smaps", "mprotect, which takes a protection key where there are any", "vma_entry.prot"], ("tests/victims/execonly.c", "can be read by")),
    row(Area, "protection key", Kept, ["smaps; allocated ones by pkey_mprotect of no area", "pkey_alloc, pkey_mprotect, pkey_free", "ext_vma.protection_key, ext_mm.protection_keys, execute_only_key"], ("tests/victims/keys.c", "what it may do")),
    refused(Area, "synchronous mapping", "smaps", ("orchestrator/src/dump/areas.rs", "MAP_SYNC")),
    row(Area, "file of huge pages, shared", Kept, ["smaps", "mmap; its content is the file's", "vma_entry.shmid"], ("tests/victims/hugefile.c", "the other mapping")),
    row(Area, "file of huge pages, private", Kept, ["smaps, pagemap", "mmap; its own pages are written", "vma_entry.shmid, pagemap_entry"], ("tests/victims/hugefile.c", "what is in the file")),
    refused(Area, "file of huge pages, deleted", "smaps", ("tests/tests/files.rs", "fn a_deleted_file_of_huge_pages")),
    // Of a descriptor.
    row(Descriptor, "number, close on exec, duplicates", Kept, ["fd, fdinfo, kcmp", "dup3", "fdinfo_entry"], (FILES_C, "FAR_DUPLICATE")),
    row(Descriptor, "offset", Kept, ["fdinfo", "lseek", "reg_file_entry.pos"], (FILES_C, "the reader shares an offset")),
    row(Descriptor, "status flags", Kept, ["fdinfo", "open, F_SETFL", "reg_file_entry.flags"], (FILES_C, "flags of file")),
    row(Descriptor, "owner and signal of O_ASYNC", Kept, ["F_GETOWN_EX, F_GETSIG", "F_SETOWN_EX, F_SETSIG", "fown_entry"], (FILES_C, "F_SETSIG")),
    row(Descriptor, "files, directories, O_PATH", Kept, ["fd", "openat", "reg_file_entry"], (FILES_C, "FOLDER_PATH")),
    row(Descriptor, "devices null, zero, full, random", Kept, ["fd", "openat", "reg_file_entry"], (FILES_C, "/dev/zero")),
    row(Descriptor, "terminal of a job: settings, foreground", Kept, ["fd, TCGETS2, stat", "openat of the caller's, TCSETS, TIOCSPGRP, with --shell-job", "tty_file_entry, tty_info_entry"], ("tests/scripts/job.py", "the terminal echoes")),
    row(Descriptor, "pipe: content and size", Kept, ["tee, F_GETPIPE_SZ", "write, F_SETPIPE_SZ", "pipe_data_entry"], (PIPES_C, "F_GETPIPE_SZ")),
    row(Descriptor, "pipe: packets", Kept, ["one read of a copy for each", "O_DIRECT and one write for each", "ext_pipe_data.packets"], (WIDOWED_C, "second packet")),
    row(Descriptor, "pipe: no writer left", Kept, ["poll", "close", "files"], (WIDOWED_C, "a pipe without a writer does not end")),
    row(Descriptor, "eventfd: counter", Kept, ["fdinfo", "eventfd2, write", "eventfd_file_entry.counter"], (PIPES_C, "eventfd: %lu, wanted 7")),
    row(Descriptor, "eventfd: semaphore", Kept, ["fdinfo (6.5)", "EFD_SEMAPHORE", "ext_eventfd.semaphore"], (WIDOWED_C, "EFD_SEMAPHORE")),
    row(Descriptor, "timerfd: clock, time left, period, ticks, flags", Kept, ["fdinfo", "timerfd_settime, TFD_IOC_SET_TICKS", "timerfd_entry"], (TIMERS_C, "timerfd_gettime")),
    row(Descriptor, "signalfd: signals", Kept, ["fdinfo", "signalfd4", "signalfd_entry.sigmask"], (PIPES_C, "signalfd does not take SIGUSR2")),
    row(Descriptor, "epoll: watches with events, flags and data", Kept, ["fdinfo, KCMP_EPOLL_TFD", "epoll_ctl", "eventpoll_tfd_entry"], (PIPES_C, "EPOLLONESHOT told twice")),
    row(Descriptor, "epoll: busy polling", Kept, ["EPIOCGPARAMS (6.9)", "EPIOCSPARAMS", "ext_epoll"], (SETTINGS_C, "EPIOCSPARAMS")),
    row(Descriptor, "memfd: name, size, content", Kept, ["fd, fstat", "memfd_create", "memfd_inode_entry"], (PIPES_C, "name of the memfd")),
    row(Descriptor, "memfd: huge pages", Kept, ["fstatfs", "MFD_HUGETLB", "memfd_inode_entry.hugetlb_flag"], (HUGE_C, "a memfd of huge pages")),
    row(Descriptor, "shared anonymous memory", Kept, ["fd (by map_files)", "memfd_create: it is called a memfd then", "memfd_inode_entry"], (HUGE_C, "memory that was opened")),
    row(Descriptor, "memfd: seals", Kept, ["F_GET_SEALS", "F_ADD_SEALS", "memfd_inode_entry.seals"], (PIPES_C, "F_GET_SEALS")),
    row(Descriptor, "pidfds of processes, threads, the dead", Kept, ["fdinfo, PIDFD_GET_INFO (6.15)", "pidfd_open; of one that is gone, by one that ends in the same way", "pidfd_entry, ext_pidfd.exit_status"], (PIDFDS_C, "how a process that is gone has ended")),
    row(Descriptor, "BPF maps: arrays and hash tables, frozen or not", Kept, ["bpf, fdinfo", "bpf; not those that a program uses, that are open twice, have types, or are of one of several NUMA nodes", "bpfmap_file_entry, bpfmap_data_entry"], ("tests/victims/bpf.c", "the table is not frozen")),
    row(Descriptor, "namespaces, where they are the caller's", Kept, ["fd", "openat (/proc/self/ns)", "ns_file_entry"], ("tests/victims/namespaces.c", "the duplicate is a description of its own")),
    refused(Descriptor, "other namespaces, and those of time", "fd", (REFUSALS, "fn a_descriptor_of_a_namespace")),
    named(Descriptor, "EPOLLONESHOT watch that has told its event", Lost::SilencedWatch, ["fdinfo", "it is kept, but may tell a hang-up or an error once more"], (LOSSES, "fn a_watch_that_has_told_its_event")),
    named(Descriptor, "semaphore flag of eventfd", Lost::EventFdKind, ["", "kernels before 6.5 do not tell it"], (WORDS, "fn every_loss_has_words")),
    named(Descriptor, "peer credentials of a Unix socket", Lost::PeerCredentials, ["SO_PEERCRED", "kept where they are of a process of the tree; else user and group alone"], (WORDS, "fn every_loss_has_words")),
    named(Descriptor, "empty messages that were looked at before", Lost::HiddenMessages, ["SIOCOUTQ of the senders", "such a queue is refused; but not all of its senders can be asked whether there are any"], (WORDS, "fn every_loss_has_words")),
    named(Descriptor, "times at which messages were sent that wait in a socket", Lost::MessageTimes, ["SCM_TIMESTAMP", "those of SO_TIMESTAMP: that of the read is told"], (LOSSES, "fn times_of_messages")),
    row(Descriptor, "datagrams that wait in a socket of UDP or UDP-Lite, with their senders, hops and class", Kept, ["MSG_PEEK", "a raw packet from the sender", "ext_datagram"], ("tests/victims/datagrams.c", "from afar")),
    row(Descriptor, "what came on a connection of TCP that is over, and whether it was broken off", Kept, ["MSG_PEEK, poll", "a connection to nobody, which is broken off", "ext_inet_sk.received, is_reset"], ("tests/tests/connections.rs", "fn what_came_before_a_reset_is_kept")),
    named(Descriptor, "datagrams that wait in a socket of the network whose port others have too, in a raw one, or that were sent to many", Lost::Datagrams, ["poll", "any datagram may get lost on its way"], (LOSSES, "fn what_waits_in_a_socket_of_the_network")),
    named(Descriptor, "error that waits in a socket of the network", Lost::SocketError, ["poll", "nobody can set it"], (WORDS, "fn every_loss_has_words")),
    named(Descriptor, "write hint", Lost::WriteHint, ["F_GET_RW_HINT", "that of a memfd is not set again"], (LOSSES, "fn a_write_hint")),
    named(Descriptor, "state that this version does not know", Lost::UnknownState, ["fdinfo", "the kernel is newer"], (WORDS, "fn every_loss_has_words")),
    row(Descriptor, "Unix sockets, their names and connections", Kept, ["sock_diag, getsockname, SIOCUNIXFILE", "socketpair, bind, listen, connect, accept4, shutdown", "unix_sk_entry"], (UNIX_C, "from_child")),
    row(Descriptor, "what waits in a Unix socket", Kept, ["MSG_PEEK", "sendmsg", "sk_packet_entry, ext_sk_packet"], (UNIX_C, "to the deleted")),
    row(Descriptor, "descriptors and credentials that wait in a Unix socket", Kept, ["SCM_RIGHTS, SCM_CREDENTIALS, kcmp", "sendmsg", "scm_entry, ext_sk_packet.credentials"], (UNIX_C, "beforefile")),
    row(Descriptor, "options of a Unix socket, all that are told", Kept, ["getsockopt", "setsockopt", "sk_opts_entry, ext_sk_opts"], (SOCKOPTS_C, "for (int option = 1")),
    row(Descriptor, "classic filter of a Unix socket", Kept, ["SO_GET_FILTER", "SO_ATTACH_FILTER, SO_LOCK_FILTER", "sk_opts_entry.so_filter"], (SOCKOPTS_C, "SO_ATTACH_FILTER")),
    refused(Descriptor, "filters of a socket that are BPF programs", "SO_GET_FILTER", (REFUSALS, "fn a_unix_socket")),
    untold(Descriptor, "SO_BUSY_POLL_BUDGET, SO_INQ of a Unix socket", "setsockopt"),
    row(Descriptor, "file locks and leases", Kept, ["fdinfo", "fcntl, flock; with --file-locks", "file_lock_entry"], (LOCKS_C, "F_OFD_GETLK")),
    row(Descriptor, "named pipes", Kept, ["fstat, FIONREAD, tee", "openat", "fifo_entry, pipe_data_entry"], (LOCKS_C, "check_fifo")),
    row(Descriptor, "deleted files: all names that they had, mounts that are read-only", Kept, ["fd", "link, open, unlink; made in another mount of the file system", "remap_file_path_entry"], (NAMES_C, "called(two")),
    row(Descriptor, "deleted files and folders", Kept, ["fstat, read", "made again without a name; up to --ghost-limit", "ghost_file_entry, remap_file_path_entry"], (GHOSTS_C, "(deleted)")),
    row(Descriptor, "sockets of IPv4 and IPv6: TCP that listens, UDP, UDP-Lite, ICMP, raw", Kept, ["getsockname, getpeername, TCP_INFO, sock_diag", "socket, bind, connect, listen, shutdown", "inet_sk_entry"], (INET_C, "expect_served(listener)")),
    row(Descriptor, "options of IP, IPv6, TCP, UDP and ICMP that are not as in a new socket", Kept, ["getsockopt", "setsockopt", "ip_opts_entry, tcp_opts_entry, ext_inet_sk.option"], (INET_C, "TCP_USER_TIMEOUT")),
    row(Descriptor, "multicast groups, and whom a socket hears of them", Kept, ["/proc/net/igmp, igmp6, MCAST_MSFILTER", "MCAST_JOIN_GROUP, MCAST_MSFILTER", "ext_inet_sk.group"], (INET_C, "IP_ADD_SOURCE_MEMBERSHIP")),
    row(Descriptor, "connections of TCP: what waits, what was not sent, windows, options, timestamps", Kept, ["TCP_REPAIR", "TCP_REPAIR; with --tcp-established", "tcp_stream_entry"], (TCP_C, "expect_full(full[1]")),
    row(Descriptor, "connections of TCP: a half that is closed, or both", Kept, ["TCP_INFO", "shutdown, and the end of the other one as a packet", "inet_sk_entry.state"], (TCP_C, "expect_state(all[at]")),
    row(Descriptor, "connections of TCP whose other end is outside", Kept, ["TCP_REPAIR", "TCP_REPAIR, nftables; with --tcp-established", "tcp_stream_entry"], (CONNECTIONS, "fn clients_outside_go_on")),
    refused(Descriptor, "connections of TCP, without --tcp-established or --tcp-close", "TCP_INFO", (CONNECTIONS, "fn not_without_the_users_word")),
    refused(Descriptor, "connections that nobody has accepted, without --skip-in-flight", "TCP_INFO", (REFUSALS, "fn a_connection_of_tcp_that_waits")),
    refused(Descriptor, "corked datagrams, UDP_ENCAP, TLS in the kernel, urgent bytes", "getsockopt, SIOCOUTQ, MSG_OOB", (REFUSALS, "fn a_corked_socket")),
    refused(Descriptor, "MPTCP and other protocols", "SO_PROTOCOL", (REFUSALS, "fn an_mptcp_socket")),
    untold(Descriptor, "TCP_MD5SIG, TCP_MAXSEG of a connection, IP_MULTICAST_IF by an index", "setsockopt"),
    row(Descriptor, "sockets of netlink: number, groups, what they are connected to, options", Kept, ["getsockname, getsockopt, sock_diag", "bind, connect, setsockopt", "netlink_sk_entry, ext_netlink_sk"], ("tests/victims/packets.c", "note_groups(bound, after)")),
    row(Descriptor, "sockets of packets: protocol, interface, memberships, rings, fanout, options", Kept, ["getsockname, getsockopt, sock_diag", "bind, setsockopt", "packet_sock_entry, ext_packet_sk"], ("tests/victims/packets.c", "there is no ring")),
    refused(Descriptor, "messages of the kernel that wait in a socket of netlink, and sockets of netfilter", "poll", (REFUSALS, "fn a_netlink_socket_with_an_answer")),
    refused(Memory, "ring of a socket of packets that is mapped", "smaps", (REFUSALS, "fn a_ring_of_packets_that_is_mapped")),
    refused(Descriptor, "sockets of other families than Unix, IPv4, IPv6, netlink and packets: AF_VSOCK and others", "fd", (REFUSALS, "fn a_socket_of_a_virtual_machine")),
    refused(Descriptor, "Unix sockets whose other end is outside, without --ext-unix-sk", "sock_diag", (REFUSALS, "fn a_connection_that_leaves_the_tree")),
    refused(Descriptor, "what was sent on a connection that nobody has accepted", "SIOCOUTQ", (REFUSALS, "fn words_on_a_connection_that_waits")),
    row(Descriptor, "files that were deleted under one name and have others", Kept, ["fstat", "linkat, openat, unlink; with --link-remap", "remap_file_path_entry"], (LINKS_C, "two names")),
    row(Descriptor, "deleted fifos, devices and symbolic links", Kept, ["fstat, readlinkat", "mknod, symlink", "ghost_file_entry"], (LINKS_C, "the deleted fifo")),
    refused(Descriptor, "pipes whose other end is outside", "poll", (REFUSALS, "fn a_pipe_whose_other_end_is_elsewhere")),
    row(Descriptor, "pseudo-terminals: index, settings and their locks, speeds, window, exclusive, locked", Kept, ["TCGETS2, TIOCGLCKTRMIOS, TIOCGWINSZ, TIOCGPTLCK", "/dev/ptmx until the index is right, TIOCGPTPEER, TCSETS2", "tty_info_entry"], (PTYS_C, "TIOCGLCKTRMIOS")),
    row(Descriptor, "pseudo-terminals: what waits, half lines, end of file", Kept, ["read, and put back", "write by settings for it", "tty_data_entry, ext_terminal.lines"], (PTYS_C, "half a line")),
    row(Descriptor, "pseudo-terminals: output stopped", Kept, ["poll, TCXONC", "stop character, TCXONC", "ext_terminal.flow"], (PTYS_C, "its start character does not start it")),
    row(Descriptor, "pseudo-terminals: packet mode and its news", Kept, ["TIOCGPKT, read", "TIOCPKT; flushes are not told again", "tty_info_entry.packet_mode, ext_terminal.packet_status"], (PTYS_C, "status of packet mode")),
    row(Descriptor, "pseudo-terminals: slave closed, never opened, or hung up", Kept, ["poll", "TIOCGPTPEER, close; a hung-up slave may get another index", "ext_terminal.unopened"], (PTYS_C, "a slave that nobody opened")),
    row(Descriptor, "files, terminals and ends of sockets that are somebody else's, with --external", Kept, ["fdinfo, fstat", "--inherit-fd", "reg_file_entry.ext, tty_info_entry.type, unix_sk_entry.uflags"], (EXTERNAL, "fn a_file_of_another_mount")),
    row(Descriptor, "terminals of the machine: /dev/console, virtual consoles, serial lines", Kept, ["fstat", "openat; their settings stay those of the machine, but for a session of the tree", "tty_info_entry.type"], (EXTERNAL, "fn a_terminal_of_the_machine")),
    row(Descriptor, "files of /proc of processes of the tree and their threads, files of /sys", Kept, ["fd", "openat when all are born, or threads are made", "reg_file_entry"], (PROCFILES_C, "the stat of the thread, which another")),
    row(Descriptor, "files of /proc of processes that are gone", Kept, ["fd, statx", "openat while there is one of the number", "remap_file_path_entry"], (PROCFILES_C, "the maps of one that is gone")),
    row(Descriptor, "files of /proc of processes outside, while these live", Kept, ["fd, stat", "openat", "ext_file.process_start"], (FILES_RS, "fn a_file_of_a_process_outside")),
    refused(Descriptor, "files of /proc of threads that are gone", "fd, statx", (REFUSALS, "fn a_file_of_a_thread_that_has_ended")),
    refused(Descriptor, "pseudo-terminals with a side outside, without --shell-job or --external", "poll, stat, fd", (REFUSALS, "fn a_master_whose_slave_is_in_use_outside")),
    untold(Descriptor, "input of a slave that nobody has opened yet", "write to the master"),
    row(Descriptor, "inotify: numbers, masks, what is watched", Kept, ["fdinfo, open_by_handle_at", "INOTIFY_IOC_SETNEXTWD, inotify_add_watch", "inotify_wd_entry"], (WATCHERS_C, "Numbers with gaps")),
    row(Descriptor, "inotify: events that wait", Kept, ["FIONREAD", "one event instead: IN_Q_OVERFLOW", "ext_inotify.overflow"], (WATCHERS_C, "IN_Q_OVERFLOW")),
    row(Descriptor, "fanotify: marks of inodes, mounts, file systems", Kept, ["fdinfo, open_by_handle_at", "fanotify_init, fanotify_mark", "fanotify_mark_entry, ext_fanotify.mark"], (WATCHERS_C, "FAN_MARK_IGNORED_SURV_MODIFY")),
    named(Descriptor, "events that wait in a fanotify", Lost::FanotifyEvents, ["FIONREAD", "nobody can put them back"], (LOSSES, "fn events_of_fanotify")),
    refused(Descriptor, "fanotify of FAN_CLASS_CONTENT or PRE_CONTENT in which events wait", "FIONREAD", (REFUSALS, "fn events_of_fanotify")),
    refused(Descriptor, "io_uring", "fd", (REFUSALS, "fn an_io_uring")),
    refused(Descriptor, "performance counters", "fd", (REFUSALS, "fn a_performance_counter")),
    refused(Descriptor, "pidfds of processes outside", "fdinfo", (REFUSALS, "fn a_descriptor_of_a_process_outside")),
    row(Descriptor, "POSIX message queues, also without a name", Kept, ["fstatfs, mq_getsetattr", "mq_open", "ext_queue_file"], (MQUEUE_C, "without a name")),
    row(Descriptor, "TUN and TAP devices that are there without descriptors: queues, flags, attached or not", Kept, ["TUNGETIFF, IFLA_TUN_PI, TUNGETVNETHDRSZ, TUNGETSNDBUF", "openat, TUNSETIFF", "tunfile_entry, ext_tunfile"], (TUN_C, "one that is detached")),
    named(Descriptor, "packets that wait in a TUN or TAP device", Lost::Packets, ["poll", "any packet may get lost on its way"], (TUN, "fn packets_that_wait")),
    refused(Descriptor, "TUN and TAP devices that go with their descriptors, of another network namespace, with a filter", "TUNGETIFF, SIOCGSKNS, TUNGETFILTER", (TUN, "fn a_device_that_goes")),
    refused(Descriptor, "other devices, and kinds not named here", "fstat", ("orchestrator/src/dump/descriptor.rs", "fn what_is_not_kept_is_named")),
    untold(Descriptor, "advice on a file", "posix_fadvise"),
    untold(Descriptor, "dnotify", "F_NOTIFY"),
    untold(Descriptor, "BPF programs of a TUN or TAP device", "TUNSETSTEERINGEBPF, TUNSETFILTEREBPF"),
];
