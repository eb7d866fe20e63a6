//! Plans of small snapshots, looked at as the restorer would run them.

use std::collections::{BTreeMap, BTreeSet};

use arch::abi::program::{Op, special};
use arch::regs::Regs;

use super::host::{LIMITS, TASK_SIZE};
use super::{Host, Plan, Refusal, Settings, Vdso, VdsoCode, plan};
use crate::snapshot::*;

const RW: u32 = 3;
const RX: u32 = 5;
const PRIVATE: u32 = 2;
const PRIVATE_ANON: u32 = 0x22;
const SHARED_ANON: u32 = 0x21;
const LARGEFILE: u32 = 0o100_000;

fn host() -> Host {
    Host {
        blob_len: 0x3000,
        vdso: Vdso {
            data_len: 0x6000,
            data_first: true,
            code: VdsoCode {
                bytes: vec![1; 0x2000],
                symbols: BTreeMap::from([(b"__vdso_time".to_vec(), 0x900)]),
            },
        },
        timer_restore_ids: true,
        sid: 50,
        pgid: 60,
        rlimits: [Limit {
            soft: 1024,
            hard: 20_000,
        }; LIMITS],
        last_cap: 40,
        pipe_max_size: 1 << 20,
        inotify_max_events: 16,
        xcr0: 0x7,
        ..Host::default()
    }
}

fn vma(start: u64, pages: u64, prot: u32, flags: u32, kind: VmaKind) -> Vma {
    Vma::new([start, start + pages * PAGE_SIZE], prot, flags, kind)
}

fn pages(start: u64, pages: u64, offset: u64) -> PageRun {
    PageRun {
        start,
        pages,
        at: PageLocation::Here {
            pages_id: 1,
            offset,
        },
    }
}

fn file(id: u32, flags: u32, kind: FileKind) -> OpenFile {
    OpenFile {
        id: FileId(id),
        flags,
        owner: Owner::default(),
        kind,
    }
}

fn regular(id: u32, flags: i32, path: &str) -> OpenFile {
    let kind = FileKind::Regular(RegularFile {
        path: path.into(),
        pos: 0,
        mnt_id: -1,
        ghost: None,
        link: None,
        ..RegularFile::default()
    });
    file(id, flags as u32 | LARGEFILE, kind)
}

fn thread(tid: i32) -> Thread {
    Thread {
        tid,
        comm: b"victim".to_vec(),
        arch: Arch::X86_64 {
            regs: Box::new(Regs {
                cs: 0x33,
                orig_rax: u64::MAX,
                ..Regs::default()
            }),
            xstate: Vec::new(),
            tls: Vec::new(),
        },
        ..Thread::default()
    }
}

const TEXT: u64 = 0x40_0000;
const HEAP: u64 = 0x60_0000;
const LIB: u64 = 0x7f00_0000_0000;
const VVAR: u64 = 0x7f10_0000_0000;
const STACK: u64 = 0x7ffc_0000_0000;

/// A process with two threads, an executable, a library, a heap, a vDSO, a stack and a log file.
fn snapshot() -> Snapshot {
    let mm = Mm {
        exe: FileId(1),
        auxv: vec![6, 4096, 0, 0],
        vmas: vec![
            vma(TEXT, 4, RX, PRIVATE, VmaKind::FilePrivate(FileId(1))),
            vma(HEAP, 16, RW, PRIVATE_ANON, VmaKind::Heap),
            vma(LIB, 4, RX, PRIVATE, VmaKind::FilePrivate(FileId(2))),
            vma(LIB + 0x4000, 1, 1, PRIVATE, VmaKind::FilePrivate(FileId(2))),
            vma(VVAR, 6, 1, PRIVATE_ANON, VmaKind::Vvar),
            vma(VVAR + 0x6000, 2, RX, PRIVATE_ANON, VmaKind::Vdso),
            vma(STACK, 33, RW, PRIVATE_ANON | 0x100, VmaKind::Stack),
        ],
        pages: vec![
            pages(HEAP, 2, 0),
            pages(HEAP + 0x8000, 1, 0x2000),
            pages(LIB + 0x4000, 1, 0x3000),
            pages(VVAR + 0x6000, 2, 0x4000),
            pages(STACK + 0x2_0000, 1, 0x6000),
        ],
        ..Mm::default()
    };
    let task = Task {
        pid: 100,
        pgid: 100,
        sid: 100,
        mm: Some(mm),
        fs: Some(Fs {
            cwd: FileId(3),
            root: FileId(3),
            umask: 0o22,
        }),
        fds: vec![
            FdEntry {
                fd: 0,
                cloexec: false,
                file: FileId(4),
            },
            FdEntry {
                fd: 7,
                cloexec: true,
                file: FileId(4),
            },
        ],
        sigactions: vec![SigAction::default(); 64],
        threads: vec![thread(100), thread(101)],
        ..Task::default()
    };
    Snapshot {
        tasks: vec![task],
        files: vec![
            regular(1, libc::O_RDONLY, "/bin/victim"),
            regular(2, libc::O_RDONLY, "/lib/libc.so"),
            regular(3, libc::O_RDONLY | libc::O_DIRECTORY, "/"),
            regular(4, libc::O_WRONLY | libc::O_APPEND, "/var/log/x"),
        ],
        ..Snapshot::default()
    }
}

fn task(snapshot: &mut Snapshot) -> &mut Task {
    &mut snapshot.tasks[0]
}

fn mm(snapshot: &mut Snapshot) -> &mut Mm {
    snapshot.tasks[0].mm.as_mut().unwrap()
}

fn planned(snapshot: &Snapshot) -> Plan {
    let plan = plan(snapshot, &host(), &Settings::default());
    let plan = plan.unwrap_or_else(|refusals| panic!("{refusals:?}"));
    check(&plan, snapshot);
    plan
}

fn refused(snapshot: &Snapshot) -> Vec<Refusal> {
    plan(snapshot, &host(), &Settings::default()).expect_err("a refusal")
}

/// Bytes of the data at an address of the arena.
fn data(plan: &Plan, addr: u64, len: usize) -> &[u8] {
    let at = (addr - plan.arena.data()) as usize;
    &plan.data[at..at + len]
}

fn words(plan: &Plan, addr: u64, count: usize) -> Vec<u64> {
    let bytes = data(plan, addr, count * 8).chunks_exact(8);
    bytes
        .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
        .collect()
}

fn path(plan: &Plan, addr: u64) -> String {
    let at = (addr - plan.arena.data()) as usize;
    let bytes = plan.data[at..].split(|&byte| byte == 0).next().unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn calls(plan: &Plan, nr: i64) -> Vec<Op> {
    let ops = plan.programs.iter().flat_map(|program| &program.ops);
    ops.filter(|op| i64::from(op.nr) == nr).copied().collect()
}

fn opening(plan: &Plan, name: &str) -> Op {
    let opens = calls(plan, libc::SYS_openat);
    let found = opens.into_iter().find(|op| path(plan, op.args[1]) == name);
    found.unwrap_or_else(|| panic!("{name} is not opened"))
}

fn position(plan: &Plan, program: usize, nr: i64) -> usize {
    let ops = &plan.programs[program].ops;
    let found = ops.iter().position(|op| i64::from(op.nr) == nr);
    found.unwrap_or_else(|| panic!("no operation {nr}"))
}

/// What holds for every plan: descriptors and mappings as they stand at the end are those of the snapshot.
fn check(plan: &Plan, snapshot: &Snapshot) {
    let task = &snapshot.tasks[0];
    let mut fds = BTreeSet::new();
    let mut maps: Vec<(u64, u64)> = Vec::new();
    fds.extend(plan.launch.services.iter().map(|service| service.fd));
    for op in &plan.programs[0].ops {
        match i64::from(op.nr) {
            libc::SYS_openat
            | libc::SYS_eventfd2
            | libc::SYS_memfd_create
            | libc::SYS_epoll_create1
            | libc::SYS_timerfd_create
            | libc::SYS_signalfd4
            | libc::SYS_dup
            | libc::SYS_dup3 => assert!(fds.insert(op.expect as i32), "made twice: {op:?}"),
            libc::SYS_fcntl if op.args[1] == libc::F_DUPFD as u64 => {
                assert!(fds.insert(op.expect as i32));
            }
            libc::SYS_pipe2 => {
                let free: Vec<i32> = (0..).filter(|fd| !fds.contains(fd)).take(2).collect();
                fds.extend(free);
            }
            libc::SYS_close_range => {
                let closed = op.args[0]..=op.args[1];
                fds.retain(|&fd| !closed.contains(&(fd as u64)));
            }
            libc::SYS_close => assert!(fds.remove(&(op.args[0] as i32)), "{op:?}"),
            libc::SYS_mmap => {
                let (start, end) = (op.args[0], op.args[0] + op.args[1]);
                assert_ne!(op.args[3] & libc::MAP_FIXED_NOREPLACE as u64, 0);
                assert!(maps.iter().all(|&(s, e)| end <= s || e <= start), "{op:?}");
                maps.push((start, end));
            }
            libc::SYS_munmap => maps.retain(|&(s, e)| {
                let end = op.args[0] + op.args[1];
                e <= op.args[0] || end <= s
            }),
            _ => {}
        }
    }
    let wanted: BTreeSet<i32> = task.fds.iter().map(|entry| entry.fd).collect();
    assert_eq!(fds, wanted, "descriptors at the end");
    let end = plan.arena.base + plan.layout.len;
    for vma in &task.mm.as_ref().unwrap().vmas {
        assert!(
            end <= vma.start || vma.end <= plan.arena.base,
            "the arena is in a hole"
        );
        let is_mapped = maps.contains(&(vma.start, vma.end));
        let is_kernels = matches!(vma.kind, VmaKind::Vvar | VmaKind::Vdso | VmaKind::Vsyscall);
        assert!(is_mapped || is_kernels, "{vma:?}");
    }
    for program in &plan.programs {
        assert_eq!(program.ops.last().unwrap().nr, special::PARK);
        for op in &program.ops {
            assert!((op.obj as usize) < plan.objects.len());
            assert!(super::print::name(op.nr).is_some(), "{op:?}");
        }
    }
}

#[test]
fn the_address_space_is_cleared_up_to_its_ends() {
    let plan = planned(&snapshot());
    let ops = &plan.programs[0].ops;
    assert_eq!(ops[0].args[..2], [0, plan.arena.base]);
    let end = plan.arena.base + plan.layout.len;
    assert_eq!(ops[1].args[..2], [end, TASK_SIZE - end]);
}

#[test]
fn every_page_is_read_once_and_the_kernels_are_not() {
    let plan = planned(&snapshot());
    let mut filled = Vec::new();
    for read in calls(&plan, i64::from(special::READ_FULL)) {
        assert_eq!(read.args[0], plan.launch.services[0].fd as u64);
        let mut offset = read.args[3];
        for vector in words(&plan, read.args[1], read.args[2] as usize * 2).chunks_exact(2) {
            filled.push((vector[0], vector[1], offset));
            offset += vector[1];
        }
    }
    let expected = [
        (HEAP, 0x2000, 0),
        (HEAP + 0x8000, 0x1000, 0x2000),
        (LIB + 0x4000, 0x1000, 0x3000),
        (STACK + 0x2_0000, 0x1000, 0x6000),
    ];
    assert_eq!(filled, expected);
}

#[test]
fn only_what_is_filled_is_mapped_writable_and_protected_after() {
    let plan = planned(&snapshot());
    let prot = |start| {
        calls(&plan, libc::SYS_mmap)
            .iter()
            .find(|op| op.args[0] == start)
            .unwrap()
            .args[2]
    };
    assert_eq!(prot(TEXT), u64::from(RX));
    assert_eq!(prot(LIB + 0x4000), u64::from(RW));
    let protects = calls(&plan, libc::SYS_mprotect);
    assert_eq!(protects.len(), 1);
    assert_eq!(protects[0].args[..3], [LIB + 0x4000, 0x1000, 1]);
    assert!(
        position(&plan, 0, libc::SYS_mprotect) > position(&plan, 0, i64::from(special::READ_FULL))
    );
}

#[test]
fn neighbours_of_one_file_are_mapped_from_one_opening() {
    let plan = planned(&snapshot());
    let opened: Vec<String> = calls(&plan, libc::SYS_openat)
        .iter()
        .map(|op| path(&plan, op.args[1]))
        .collect();
    assert_eq!(
        opened,
        [
            "/bin/victim",
            "/lib/libc.so",
            "/var/log/x",
            "/bin/victim",
            "/"
        ]
    );
}

#[test]
fn the_vdso_is_mapped_by_the_kernel_where_it_was() {
    let plan = planned(&snapshot());
    let op = calls(&plan, libc::SYS_arch_prctl)[0];
    assert_eq!((op.args[0], op.args[1], op.expect), (0x2003, VVAR, 0x2000));
}

#[test]
fn another_vdso_is_led_to_the_kernels() {
    let mut host = host();
    let old = VdsoCode {
        bytes: vec![2; 0x2000],
        symbols: BTreeMap::from([(b"__vdso_time".to_vec(), 0x100)]),
    };
    host.dumped_vdso.insert(100, old);
    let snapshot = snapshot();
    let plan = plan(&snapshot, &host, &Settings::default()).unwrap();
    check(&plan, &snapshot);
    let code = VVAR + 0x6000;
    let mapped = calls(&plan, libc::SYS_arch_prctl)[0].args[1];
    let copy = calls(&plan, i64::from(special::COPY))[0];
    assert_eq!((copy.args[0], copy.args[2]), (code + 0x100, 12));
    let target = (mapped + 0x6000 + 0x900).to_le_bytes();
    assert_eq!(data(&plan, copy.args[1] + 2, 8), target);
    let mmap = calls(&plan, libc::SYS_mmap);
    let old = mmap.iter().find(|op| op.args[0] == code).unwrap();
    assert_eq!(old.args[2], 7, "writable until patched");
    let last = calls(&plan, libc::SYS_mprotect);
    assert!(
        last.iter()
            .any(|op| op.args[0] == code && op.args[2] == u64::from(RX))
    );
    let mut inside = snapshot.clone();
    if let Arch::X86_64 { regs, .. } = &mut inside.tasks[0].threads[1].arch {
        regs.rip = code + 0x123;
    }
    let refusals = super::plan(&inside, &host, &Settings::default()).unwrap_err();
    assert_eq!(refusals[0].object, "thread 101");
}

#[test]
fn descriptions_are_shared_with_their_close_on_exec() {
    let plan = planned(&snapshot());
    let log = opening(&plan, "/var/log/x");
    assert_eq!(log.expect, 0);
    let flags = libc::O_WRONLY | libc::O_APPEND;
    assert_eq!(log.args[2], u64::from(flags as u32 | LARGEFILE));
    let dup = calls(&plan, libc::SYS_dup3)[0];
    assert_eq!(dup.args[..3], [0, 7, libc::O_CLOEXEC as u64]);
}

#[test]
fn threads_start_on_their_own_stacks_with_their_ids() {
    let plan = planned(&snapshot());
    assert_eq!(plan.programs.len(), 2);
    let op = calls(&plan, libc::SYS_clone3)[0];
    assert_eq!(op.expect, 101);
    let args = words(&plan, op.args[0], 11);
    assert_eq!(args[5] + args[6], plan.arena.stack_top(1));
    assert_eq!(data(&plan, args[8], 4), 101_i32.to_le_bytes());
    let meetings = calls(&plan, i64::from(special::BARRIER));
    assert_eq!(meetings.len(), 4);
    assert!(meetings.iter().all(|op| op.args[1] == 2));
    assert_eq!(
        plan.finals.iter().map(|last| last.tid).collect::<Vec<_>>(),
        [100, 101]
    );
}

#[test]
fn all_refusals_come_at_once_and_by_name() {
    let mut snapshot = snapshot();
    snapshot
        .files
        .push(file(9, 0, FileKind::Unsupported("TUNF".into())));
    let task = task(&mut snapshot);
    (task.sid, task.pgid) = (7, 8);
    task.rlimits = vec![Limit {
        soft: 1,
        hard: u64::MAX,
    }];
    task.fds.push(FdEntry {
        fd: 9,
        cloexec: false,
        file: FileId(9),
    });
    let refusals = refused(&snapshot);
    let objects: Vec<&str> = refusals
        .iter()
        .map(|refusal| refusal.object.as_str())
        .collect();
    assert_eq!(
        objects,
        [
            "session",
            "process group",
            "descriptor 9 (TUNF)",
            "RLIMIT_CPU"
        ]
    );
    assert!(refusals[0].remedy.contains("--shell-job"));
    assert!(refusals[3].to_string().contains("unlimited"));
}

#[test]
fn shared_memory_of_parts_is_made_aside_and_opened() {
    let mut snapshot = snapshot();
    let shared = VmaKind::SharedAnonymous(5);
    let mut upper = vma(0x5000_2000, 2, RW, SHARED_ANON, shared);
    upper.offset = 0x2000;
    mm(&mut snapshot)
        .vmas
        .insert(2, vma(0x5000_0000, 1, RW, SHARED_ANON, shared));
    mm(&mut snapshot).vmas.insert(3, upper);
    snapshot.shared.push(SharedMemory {
        id: 5,
        size: 0x4000,
        pages: vec![pages(0x1000, 1, 0x9000)],
    });
    let plan = planned(&snapshot);
    let maps = calls(&plan, libc::SYS_mmap);
    let whole = maps
        .iter()
        .find(|op| op.args[1] == 0x4000 && op.args[3] & 1 != 0)
        .unwrap();
    let name = format!(
        "/proc/100/map_files/{:x}-{:x}",
        whole.args[0],
        whole.args[0] + 0x4000
    );
    let opens = calls(&plan, libc::SYS_openat);
    let openings = opens.iter().filter(|op| path(&plan, op.args[1]) == name);
    assert_eq!(openings.count(), 2);
    let part = maps.iter().find(|op| op.args[0] == 0x5000_2000).unwrap();
    assert_eq!((part.args[3] & 0x20, part.args[5]), (0, 0x2000));
    let reads = calls(&plan, i64::from(special::READ_FULL));
    let vectors: Vec<u64> = reads
        .iter()
        .flat_map(|op| words(&plan, op.args[1], 2))
        .collect();
    assert!(vectors.contains(&(whole.args[0] + 0x1000)));
}

#[test]
fn a_pipe_gets_its_data_and_both_ends_in_any_order() {
    let mut snapshot = snapshot();
    let end = |id, flags| file(id, flags, FileKind::Pipe(PipeEnd { pipe_id: 3 }));
    snapshot
        .files
        .extend([end(10, 0), end(11, 1), end(12, LARGEFILE)]);
    snapshot.pipes.push(PipeBuffer {
        pipe_id: 3,
        capacity: Some(65536),
        data: b"hello".to_vec(),
        packets: Vec::new(),
    });
    for (fd, file) in [(1, 11), (2, 10), (3, 12)] {
        let entry = FdEntry {
            fd,
            cloexec: false,
            file: FileId(file),
        };
        task(&mut snapshot).fds.insert(fd as usize, entry);
    }
    let plan = planned(&snapshot);
    assert_eq!(calls(&plan, libc::SYS_pipe2).len(), 1);
    let write = calls(&plan, libc::SYS_write)[0];
    assert_eq!(data(&plan, write.args[1], 5), b"hello");
    let raised: Vec<Op> = calls(&plan, libc::SYS_fcntl);
    let [reading, writing] = [raised[0].expect as u64, raised[1].expect as u64];
    let dups: Vec<(u64, u64)> = calls(&plan, libc::SYS_dup3)
        .iter()
        .map(|op| (op.args[0], op.args[1]))
        .collect();
    assert!(dups.contains(&(reading, 2)) && dups.contains(&(writing, 1)));
    let reopened = format!("/proc/self/fd/{reading}");
    let open = calls(&plan, libc::SYS_openat);
    assert!(
        open.iter()
            .any(|op| path(&plan, op.args[1]) == reopened && op.expect == 3)
    );
}

#[test]
fn a_watch_of_a_number_used_again_gets_it_for_a_moment() {
    let mut snapshot = snapshot();
    let target = |fd, file| EpollTarget {
        fd,
        file: FileId(file),
        events: 1,
        ..EpollTarget::default()
    };
    let epoll = Epoll {
        targets: vec![target(5, 21), target(0, 21), target(8, 21)],
        busy_poll: None,
    };
    snapshot.files.push(file(20, 2, FileKind::Epoll(epoll)));
    snapshot.files.push(file(
        21,
        2,
        FileKind::EventFd(EventFd {
            counter: 4,
            semaphore: false,
        }),
    ));
    for (fd, file) in [(5, 21), (6, 20)] {
        let entry = FdEntry {
            fd,
            cloexec: false,
            file: FileId(file),
        };
        task(&mut snapshot).fds.push(entry);
    }
    task(&mut snapshot).fds.sort_by_key(|entry| entry.fd);
    let plan = planned(&snapshot);
    let adds = calls(&plan, libc::SYS_epoll_ctl);
    assert_eq!(
        adds.iter().map(|op| op.args[2]).collect::<Vec<_>>(),
        [5, 0, 8]
    );
    let dups: Vec<(u64, u64)> = calls(&plan, libc::SYS_dup3)
        .iter()
        .map(|op| (op.args[0], op.args[1]))
        .collect();
    assert!(dups.contains(&(5, 0)) && dups.contains(&(5, 8)));
    let lost = EpollTarget {
        fd: 12,
        file: FileId(99),
        ..EpollTarget::default()
    };
    snapshot.files[4] = file(
        20,
        2,
        FileKind::Epoll(Epoll {
            targets: vec![lost],
            busy_poll: None,
        }),
    );
    assert!(refused(&snapshot)[0].reason.contains("12"));
}

#[test]
fn timers_start_after_all_have_given_up_their_privileges() {
    let mut snapshot = snapshot();
    let spec = Interval {
        interval_ns: 0,
        value_ns: 1_500,
    };
    task(&mut snapshot).interval_timers.real = spec;
    task(&mut snapshot).posix_timers.push(PosixTimer {
        id: 7,
        clock: 1,
        notify: Notify::Thread {
            signal: 34,
            tid: 101,
        },
        value: 0,
        overrun: 0,
        spec,
    });
    task(&mut snapshot).threads[1].creds.uids = [1000; 4];
    let plan = planned(&snapshot);
    let ops = &plan.programs[0].ops;
    let meetings = ops
        .iter()
        .enumerate()
        .filter(|(_, op)| op.nr == special::BARRIER);
    let [first, second] = meetings.map(|(at, _)| at).collect::<Vec<_>>()[..] else {
        panic!("two meetings");
    };
    assert!(first < position(&plan, 0, libc::SYS_timer_create));
    assert!(second < position(&plan, 0, libc::SYS_timer_settime));
    assert!(second < position(&plan, 0, libc::SYS_setitimer));
    let timer = calls(&plan, libc::SYS_setitimer)[0];
    assert_eq!(words(&plan, timer.args[1], 4), [0, 0, 0, 2]);
    let own = &plan.programs[1].ops;
    let setresuid = position(&plan, 1, libc::SYS_setresuid);
    assert!(own[..setresuid].iter().any(|op| op.nr == special::BARRIER));
    assert!(own[setresuid..].iter().any(|op| op.nr == special::BARRIER));
}

#[test]
fn a_memfd_is_filled_sealed_and_opened_for_each_user() {
    let mut snapshot = snapshot();
    let memfd = FileKind::Memfd(MemfdFile {
        inode_id: 2,
        pos: 3,
    });
    snapshot.files.push(file(30, LARGEFILE | 2, memfd));
    snapshot.memfds.push(MemfdInode {
        id: 2,
        name: b"x".to_vec(),
        size: 0x1800,
        shmid: 77,
        seals: 0x10,
        ..MemfdInode::default()
    });
    snapshot.shared.push(SharedMemory {
        id: 77,
        size: 0x1800,
        pages: vec![pages(0, 1, 0x9000)],
    });
    let kind = VmaKind::Memfd(FileId(30));
    mm(&mut snapshot)
        .vmas
        .insert(2, vma(0x5000_0000, 2, RW, 1, kind));
    task(&mut snapshot).fds.push(FdEntry {
        fd: 8,
        cloexec: false,
        file: FileId(30),
    });
    let plan = planned(&snapshot);
    let maps = calls(&plan, libc::SYS_mmap);
    let own = maps.iter().find(|op| op.args[0] == 0x5000_0000).unwrap();
    assert_eq!(own.args[4], 8, "mapped from the task's own descriptor");
    let ops = &plan.programs[0].ops;
    let mapped = ops.iter().position(|op| op == own).unwrap();
    let is_seal = |op: &Op| i64::from(op.nr) == libc::SYS_fcntl && op.args[1] == 1033;
    let sealed = ops.iter().position(is_seal).unwrap();
    assert!(
        mapped < sealed,
        "F_SEAL_FUTURE_WRITE comes after writable mappings"
    );
    assert_eq!(calls(&plan, libc::SYS_lseek)[0].args[1], 3);
}

#[test]
fn areas_where_nothing_may_be_are_refused() {
    let mut snapshot = snapshot();
    let low = vma(0x1000, 1, RW, PRIVATE_ANON, VmaKind::Anonymous);
    mm(&mut snapshot).vmas.insert(0, low);
    let mut host = host();
    host.mmap_min_addr = 0x1_0000;
    let refusals = plan(&snapshot, &host, &Settings::default()).unwrap_err();
    assert!(refusals[0].object.starts_with("VMA 1000-2000"));
    host.creds.cap_effective = 1 << 17;
    assert!(plan(&snapshot, &host, &Settings::default()).is_ok());
}

#[test]
fn a_job_gets_the_callers_terminal_and_its_foreground() {
    let mut snapshot = snapshot();
    let terminal = FileKind::Terminal(Terminal {
        info_id: 1,
        node: RegularFile {
            path: b"/dev/pts/9".to_vec(),
            ..RegularFile::default()
        },
    });
    snapshot.files.push(file(40, LARGEFILE | 2, terminal));
    snapshot.terminals.push(TerminalInfo {
        id: 1,
        pgrp: 100,
        ..TerminalInfo::default()
    });
    let task = task(&mut snapshot);
    task.sid = 7;
    task.fds.push(FdEntry {
        fd: 9,
        cloexec: false,
        file: FileId(40),
    });
    let objects: Vec<String> = refused(&snapshot).into_iter().map(|r| r.object).collect();
    assert_eq!(objects, ["session", "descriptor 9 (terminal)"]);
    let mut host = host();
    host.terminal = Some(b"/dev/pts/3".to_vec());
    let job = Settings {
        shell_job: true,
        foreground: true,
        host_clocks: false,
    };
    let plan = plan(&snapshot, &host, &job).unwrap();
    check(&plan, &snapshot);
    let opened = opening(&plan, "/dev/pts/3");
    assert_ne!(opened.args[2] & libc::O_NOCTTY as u64, 0);
    let group = calls(&plan, libc::SYS_ioctl)[0];
    assert_eq!(group.args[..2], [9, 0x5410]);
    assert_eq!(data(&plan, group.args[2], 4), 100_i32.to_le_bytes());
}
