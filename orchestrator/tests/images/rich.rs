//! A snapshot that has one of everything the format can hold.

use orchestrator::snapshot::*;

const PAGE: u64 = 4096;

fn vma(start: u64, pages: u64, kind: VmaKind) -> Vma {
    Vma {
        name: b"stacks".to_vec(),
        ..Vma::new(
            [start, start + pages * PAGE],
            3,
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u32,
            kind,
        )
    }
}

fn open(id: u32, flags: i32, kind: FileKind) -> OpenFile {
    OpenFile {
        id: FileId(id),
        flags: flags as u32,
        owner: Owner::default(),
        kind,
    }
}

fn regular(path: &str, mode: u32) -> RegularFile {
    RegularFile {
        path: path.into(),
        mode: Some(mode),
        mnt_id: -1,
        ghost: None,
        ..RegularFile::default()
    }
}

fn queued(number: u8) -> QueuedSignal {
    let mut bytes = [0xa5; 128];
    bytes[..4].copy_from_slice(&[number, 0, 0, 0]);
    QueuedSignal(bytes)
}

fn files() -> Vec<OpenFile> {
    let exe = RegularFile {
        size: Some(43888),
        build_id: (0..20).collect(),
        ..regular("/usr/bin/a b\n\u{e4}", 0o100_755)
    };
    let device = DeviceFile {
        node: regular("/dev/null", 0o020_666),
        rdev: 0x103,
    };
    let tty = Terminal {
        info_id: 7,
        node: regular("/dev/pts/3", 0o020_620),
    };
    let target = EpollTarget {
        fd: 9,
        file: FileId(6),
        events: 25,
        data: u64::MAX,
        dev: 9,
        inode: 3,
        pos: 1,
    };
    let timerfd = TimerFd {
        clock: 1,
        ticks: 3,
        settime_flags: 1,
        spec: Interval {
            interval_ns: 5_000_000_001,
            value_ns: 1,
        },
    };
    let mut shared = open(
        12,
        libc::O_RDWR,
        FileKind::Regular(regular("/tmp/shared", 0o100_600)),
    );
    shared.owner = Owner {
        uid: 1,
        euid: 2,
        signal: 29,
        kind: 1,
        pid: 1000,
    };
    vec![
        open(1, 0, FileKind::Regular(exe)),
        open(2, 0, FileKind::Regular(regular("/", 0o040_755))),
        open(3, libc::O_RDWR, FileKind::Device(device)),
        open(4, libc::O_RDONLY, FileKind::Pipe(PipeEnd { pipe_id: 77 })),
        open(5, libc::O_WRONLY, FileKind::Pipe(PipeEnd { pipe_id: 77 })),
        open(
            6,
            libc::O_RDWR,
            FileKind::EventFd(EventFd {
                counter: 7,
                semaphore: true,
            }),
        ),
        open(
            7,
            libc::O_RDWR,
            FileKind::Epoll(Epoll {
                targets: vec![target],
                busy_poll: Some(BusyPoll {
                    usecs: 100,
                    budget: 9,
                    is_preferred: true,
                }),
            }),
        ),
        open(8, libc::O_RDWR, FileKind::TimerFd(timerfd)),
        open(
            9,
            libc::O_RDWR,
            FileKind::SignalFd(SignalFd { mask: 0x800 }),
        ),
        open(
            10,
            libc::O_RDWR,
            FileKind::Memfd(MemfdFile {
                inode_id: 1,
                pos: 5,
            }),
        ),
        open(11, libc::O_RDWR, FileKind::Terminal(tty)),
        shared,
        open(
            13,
            libc::O_PATH,
            FileKind::Regular(regular("/run/x.sock", 0o140_755)),
        ),
        open(14, libc::O_RDONLY, FileKind::Pipe(PipeEnd { pipe_id: 78 })),
        open(90, libc::O_RDWR, FileKind::PidFd(gone())),
        open(91, libc::O_WRONLY, queue_file()),
    ]
}

fn queue_file() -> FileKind {
    FileKind::Queue(QueueFile {
        queue: 3,
        path: b"/dev/mqueue/q".to_vec(),
    })
}

fn queue() -> PosixQueue {
    let message = |priority, bytes: &[u8]| PosixMessage {
        priority,
        bytes: bytes.to_vec(),
    };
    PosixQueue {
        id: 3,
        name: b"q".to_vec(),
        is_unlinked: true,
        mode: 0o640,
        uid: 1,
        gid: 2,
        max_messages: 4,
        message_size: 5,
        messages: vec![message(7, b"12345"), message(0, b""), message(0, b"x")],
        notice: Some(QueueNotice {
            pid: 100,
            kind: 0,
            signal: 10,
        }),
        seen: Some((77, -5)),
    }
}

fn gone() -> PidFd {
    PidFd {
        of: None,
        ino: 500,
        exit_status: Some(9),
    }
}

fn terminal() -> TerminalInfo {
    TerminalInfo {
        id: 7,
        kind: 1,
        index: Some(3),
        sid: 1000,
        pgrp: 1000,
        rdev: 0x8803,
        dev: 26,
        locked: true,
        termios: Some(Termios {
            flags: [1, 2, 3, 4],
            line: 5,
            speed: [15, 16],
            chars: (100..119).collect(),
        }),
        winsize: Some([24, 80, 1, 2]),
        uid: 5,
        gid: 6,
        device: 0x8804,
        exclusive: true,
        packet_mode: true,
        packet_status: 36,
        is_unopened: true,
        given: None,
        flow: Flow::Held,
        termios_locked: Some(Termios {
            flags: [0, 0, 0, 8],
            chars: vec![0; 19],
            ..Termios::default()
        }),
        waiting: vec![
            Waiting {
                bytes: b"line\n".to_vec(),
                end: LineEnd::Byte,
            },
            Waiting {
                bytes: Vec::new(),
                end: LineEnd::Eof,
            },
            Waiting {
                bytes: b"half".to_vec(),
                end: LineEnd::Open,
            },
        ],
    }
}

fn mm() -> Mm {
    let stack = 0x7fff_0000_0000;
    let mut guarded = vma(0x10_0000, 16, VmaKind::Anonymous);
    guarded.guards = vec![[0x10_2000, 0x10_4000], [0x10_f000, 0x11_0000]];
    let locked = Vma {
        locked: true,
        advice: 1 << 15,
        ..vma(0x20_0000, 4, VmaKind::Anonymous)
    };
    let policy = MemPolicy {
        mode: 2,
        nodes: vec![1],
    };
    let special = Vma {
        locked: true,
        locked_on_fault: true,
        sealed: true,
        protection_key: 3,
        mempolicy: Some(policy),
        ..vma(0x30_0000, 4, VmaKind::Anonymous)
    };
    let shared = libc::MAP_SHARED as u32;
    let private = libc::MAP_PRIVATE as u32;
    let file = Vma {
        flags: private,
        offset: PAGE,
        prot: 5,
        ..vma(0x40_0000, 2, VmaKind::FilePrivate(FileId(1)))
    };
    let file_shared = Vma {
        flags: shared,
        ..vma(0x50_0000, 2, VmaKind::FileShared(FileId(12)))
    };
    let anonymous = shared | libc::MAP_ANONYMOUS as u32;
    let shared_anonymous = Vma {
        flags: anonymous,
        ..vma(0x60_0000, 4, VmaKind::SharedAnonymous(5))
    };
    let memfd = Vma {
        flags: shared,
        ..vma(0x70_0000, 1, VmaKind::Memfd(FileId(10)))
    };
    let memfd_private = Vma {
        flags: private,
        ..vma(0x80_0000, 1, VmaKind::Memfd(FileId(10)))
    };
    let growing = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN) as u32;
    let run = |start: u64, pages: u64, offset: u64| PageRun {
        start,
        pages,
        at: PageLocation::Here {
            pages_id: 3,
            offset: offset * PAGE,
        },
    };
    Mm {
        code: [0x40_0000, 0x40_0fff],
        data: [0x40_1000, 0x40_1001],
        start_stack: stack + PAGE,
        brk: [0x90_0000, 0x90_1000],
        args: [stack + 1, stack + 2],
        env: [stack + 2, stack + 3],
        auxv: vec![33, 5, 6, 4096, 0, 0],
        exe: FileId(1),
        dumpable: Some(1),
        thp_disabled: true,
        thp_except_advised: true,
        mlockall: 6,
        ldt: vec![7; 16],
        keys: ProtectionKeys {
            allocated: 0x28,
            execute_only: Some(2),
        },
        vmas: vec![
            guarded,
            locked,
            special,
            file,
            file_shared,
            shared_anonymous,
            memfd,
            memfd_private,
            vma(0x90_0000, 1, VmaKind::Heap),
            vma(0x7f00_0000_0000, 6, VmaKind::Vvar),
            vma(0x7f00_0000_6000, 2, VmaKind::Vdso),
            Vma {
                flags: growing,
                ..vma(stack, 4, VmaKind::Stack)
            },
            vma(0xffff_ffff_ff60_0000, 1, VmaKind::Vsyscall),
        ],
        // The second run lies in two areas, of which the peer fills only one lazily.
        lazy: Vec::new(),
        mapped: Vec::new(),
        wanted: Vec::new(),
        pages: vec![
            run(0x10_0000, 2, 0),
            run(0x20_0000, 4, 2),
            run(0x40_0000, 1, 6),
            run(stack, 4, 7),
        ],
    }
}

fn thread(tid: i32) -> Thread {
    let xstate = xstate();
    let regs = arch::regs::Regs {
        rip: 0x40_0000,
        orig_rax: u64::MAX,
        fs_base: 0x7f00_1234_5678,
        ..Default::default()
    };
    Thread {
        tid,
        comm: b"w\xff".to_vec(),
        arch: Arch::X86_64 {
            regs: Box::new(regs),
            xstate,
            tls: vec![[13, 0x1000, 0xfffff, 0x51]],
        },
        clear_child_tid: 0x10_0010,
        blocked: 0x800,
        pending: vec![queued(34)],
        altstack: Some(SigAltStack {
            sp: 0x10_1000,
            size: 8192,
            flags: 1 << 31,
        }),
        robust_list: Some(RobustList {
            head: 0x10_0020,
            len: 24,
        }),
        rseq: Some(Rseq {
            addr: 0x10_0040,
            size: 32,
            signature: 0x5305_3053,
            critical_section: 0x40_0100,
        }),
        sched: Sched {
            policy: 6,
            nice: -5,
            priority: 0,
            flags: 1,
            deadline: [1, 2, 3],
            uclamp: Some([0, 512]),
        },
        affinity: vec![3, 0, 1],
        ioprio: Some(0x4000),
        timerslack_ns: Some(50_000),
        pdeath_signal: 15,
        creds: creds(),
        seccomp: SeccompMode::Strict,
        fs: None,
        mempolicy: Some(MemPolicy {
            mode: 3,
            nodes: vec![1],
        }),
        syscall_dispatch: Some(SyscallDispatch {
            mode: 1,
            offset: 1,
            length: 2,
            selector: 0x10_0100,
        }),
        speculation: [Some(1), None, Some(2)],
        mce_kill: Some(1),
        tsc_mode: Some(2),
        io_flusher: Some(false),
        cpuid_faults: true,
        xcomp_permission: 1 << 18,
    }
}

fn creds() -> Creds {
    Creds {
        uids: [1, 2, 3, 4],
        gids: [5, 6, 7, 8],
        groups: vec![9, 10],
        cap_inheritable: 1,
        cap_permitted: 1 << 40,
        cap_effective: 3,
        cap_bounding: u64::MAX,
        cap_ambient: 5,
        securebits: 0x2f,
        no_new_privs: true,
        lsm_profile: Some(b"profile".to_vec()),
    }
}

/// An area of this machine's length with every component of it in use.
fn xstate() -> Vec<u8> {
    let mut area = vec![0; arch::native::xstate::area_len()];
    area[..2].copy_from_slice(&0x37fu16.to_le_bytes());
    area[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    area[160..416].fill(0x5a);
    let mut bv = 3u64;
    for (number, place) in arch::native::xstate::components() {
        bv |= 1 << number;
        area[place.offset..place.offset + place.len].fill(number as u8);
    }
    area[512..520].copy_from_slice(&bv.to_le_bytes());
    area
}

fn task() -> Task {
    let entry = |(fd, file): (i32, u32)| FdEntry {
        fd,
        cloexec: file % 2 == 0,
        file: FileId(file),
    };
    let fds = [
        (0, 3),
        (1, 3),
        (3, 4),
        (4, 5),
        (9, 6),
        (10, 7),
        (11, 8),
        (12, 9),
        (13, 10),
        (14, 11),
        (15, 13),
        (900, 14),
    ];
    let timer = |id: u32, notify: Notify| PosixTimer {
        id,
        clock: -6,
        notify,
        value: 8,
        overrun: 2,
        spec: Interval {
            interval_ns: 1,
            value_ns: 2_000_000_003,
        },
    };
    let action = SigAction {
        handler: 0x40_0000,
        flags: 0x400_0000,
        restorer: 0x40_0010,
        mask: 2,
    };
    let mut sigactions = vec![action; 64];
    sigactions[libc::SIGKILL as usize - 1] = SigAction::default();
    sigactions[libc::SIGSTOP as usize - 1] = SigAction::default();
    Task {
        pid: 1000,
        ppid: 0,
        pgid: 1000,
        sid: 900,
        state: TaskState::Stopped,
        personality: 0x40000,
        flags: 0x40_0000,
        comm: b"w\xff".to_vec(),
        ids: TaskIds {
            vm: 2,
            files: 2,
            fs: 2,
            sighand: 2,
            ..root_ids()
        },
        mm: Some(mm()),
        fs: Some(Fs {
            cwd: FileId(2),
            root: FileId(2),
            umask: 0o27,
        }),
        fds: fds.map(entry).to_vec(),
        sigactions,
        pending: vec![queued(10), queued(12)],
        interval_timers: IntervalTimers {
            real: Interval {
                interval_ns: 1_000,
                value_ns: 5_000_002_000,
            },
            ..IntervalTimers::default()
        },
        posix_timers: vec![
            timer(0, Notify::None),
            timer(1, Notify::Signal(10)),
            timer(
                5,
                Notify::Thread {
                    signal: 34,
                    tid: 1001,
                },
            ),
            timer(6, Notify::SignalThread(35)),
        ],
        rlimits: (0..16)
            .map(|soft| Limit {
                soft,
                hard: u64::MAX,
            })
            .collect(),
        threads: vec![thread(1000), thread(1001)],
        ..attributes()
    }
}

/// What a task has beside structures of its own.
fn attributes() -> Task {
    Task {
        loginuid: Some(1000),
        oom_score_adj: Some(-17),
        child_subreaper: true,
        membarrier: 0x54,
        stop_signal: Some(19),
        coredump_filter: Some(0x33),
        autogroup_nice: Some(-3),
        mdwe: Some(1),
        memory_merge: Some(true),
        ..Task::default()
    }
}

fn segment() -> ShmSegment {
    ShmSegment {
        perm: IpcPerm {
            id: 32_771,
            key: 0xffff_fff0,
            uid: 5,
            gid: 6,
            cuid: 7,
            cgid: 8,
            mode: 0o3640,
        },
        size: 12_388,
        huge: 0,
        made: Some((77, 1_795_204_716)),
    }
}

fn root_ids() -> TaskIds {
    TaskIds {
        vm: 1,
        files: 1,
        fs: 1,
        sighand: 1,
        pid_ns: 1,
        net_ns: 2,
        ipc_ns: 3,
        uts_ns: 4,
        mnt_ns: 6,
        user_ns: 7,
        cgroup_ns: 8,
        time_ns: 5,
    }
}

fn filters() -> Vec<SeccompFilter> {
    let filter = |prev, flags| SeccompFilter {
        prev,
        program: vec![6, 0, 0, 0, 0, 0, 0xff, 0x7f],
        flags,
    };
    vec![filter(None, 2), filter(Some(0), 0)]
}

/// Returns the snapshot; its pages are in the files 3 to 6, of 11, 1, 2 and 1 pages.
pub fn snapshot() -> Snapshot {
    let run = |pages_id: u32, start: u64, pages: u64| PageRun {
        start,
        pages,
        at: PageLocation::Here {
            pages_id,
            offset: 0,
        },
    };
    Snapshot {
        network: None,
        parent_files: Default::default(),
        seccomp: filters(),
        ghosts: Vec::new(),
        fifos: Vec::new(),
        locks: Vec::new(),
        segments: vec![segment()],
        ipc: None,
        posix_queues: vec![queue()],
        origin: Origin {
            has_own_session: true,
            network_lock: orchestrator::snapshot::NetworkLock::Iptables,
            tcp_close: false,
            monotonic_ns: Some(2_204_380_267_879),
            boottime_ns: Some(2_204_380_267_926),
            wall_clock_ns: Some(1_795_204_716_000_000_001),
            uptime_us: Some(17),
            run_id: Some("b7a09d6b-a936-40e6-aa91-1f521181e8fe".into()),
            root_ids: root_ids(),
        },
        tasks: vec![task()],
        files: files(),
        pipes: vec![
            PipeBuffer {
                pipe_id: 77,
                capacity: Some(65536),
                data: b"queued".to_vec(),
                packets: vec![1, 5],
            },
            PipeBuffer {
                pipe_id: 78,
                capacity: Some(4096),
                data: Vec::new(),
                packets: Vec::new(),
            },
        ],
        memfds: vec![MemfdInode {
            id: 1,
            name: b"blob".to_vec(),
            uid: 1,
            gid: 2,
            size: 5000,
            shmid: 9,
            seals: 4,
            hugetlb_flag: 0,
            mode: Some(0o100_777),
        }],
        terminals: vec![terminal()],
        shared: vec![
            SharedMemory {
                id: 5,
                size: 4 * PAGE,
                pages: vec![run(4, PAGE, 1)],
            },
            SharedMemory {
                id: 9,
                size: 5000,
                pages: vec![run(5, 0, 2)],
            },
            SharedMemory {
                id: 32_771,
                size: 12_388,
                pages: vec![run(6, 0, 1)],
            },
        ],
    }
}

/// Files of pages that [`snapshot`] names, with their numbers of pages.
pub const PAGES: [(u32, u64); 4] = [(3, 11), (4, 1), (5, 2), (6, 1)];
