//! Sets that CRIU 4.2 wrote, checked against what `crit` says of them.

use orchestrator::image::read;
use orchestrator::snapshot::{Arch, FileKind, Interval, Notify, PageLocation, TaskState, VmaKind};

use super::support::sample;

/// The sample was written where processors have AVX-512; elsewhere a thread that used it is refused.
fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}

#[test]
fn sleep_is_read_without_refusals() {
    let set = read(&sample("sleep")).unwrap();
    let refused: Vec<String> = set.refusals().into_iter().map(|it| it.object).collect();
    let expected: &[&str] = match has_avx512() {
        true => &[],
        false => &["thread 21573, xstate components [5, 7]"],
    };
    assert_eq!(refused, expected);
    let snapshot = &set.snapshot;
    assert_eq!(snapshot.origin.monotonic_ns, Some(1_494_484_239_659));
    assert_eq!(snapshot.origin.boottime_ns, Some(1_494_484_239_711));
    assert_eq!(
        snapshot.origin.run_id.as_deref(),
        Some("3ad67f67-4b84-4d9e-9c6b-eae56d6d7c45")
    );
    let task = snapshot.root().unwrap();
    assert_eq!(
        (task.pid, task.ppid, task.pgid, task.sid),
        (21573, 0, 21573, 21573)
    );
    assert_eq!(
        (task.state, task.comm.as_slice()),
        (TaskState::Alive, b"sleep".as_slice())
    );
    assert_eq!((task.sigactions.len(), task.rlimits.len()), (64, 16));
    assert_eq!((task.loginuid, task.oom_score_adj), (None, Some(0)));
    let fds: Vec<_> = task
        .fds
        .iter()
        .map(|entry| (entry.fd, entry.cloexec, entry.file.0))
        .collect();
    assert_eq!(fds, [(0, false, 4), (1, false, 4), (2, false, 4)]);
    assert_eq!(task.fs.unwrap().umask, 18);
    assert_eq!(set.pages[&1].metadata().unwrap().len(), 110_592);
}

#[test]
fn registers_and_xstate_are_laid_out_for_this_machine() {
    let set = read(&sample("sleep")).unwrap();
    let thread = &set.snapshot.root().unwrap().threads[0];
    let Arch::X86_64 { regs, xstate, tls } = &thread.arch else {
        panic!("{:?}", thread.arch)
    };
    assert_eq!(
        (regs.rax, regs.rip, regs.orig_rax),
        (-4i64 as u64, 0x7f78_5efe_7503, 0xe6)
    );
    assert_eq!(
        (regs.rsp, regs.fs_base, regs.eflags),
        (0x7ffd_b6a1_d358, 0x7f78_5ef1_5740, 0x202)
    );
    assert_eq!(tls.len(), 0);
    assert_eq!(xstate[..4], [0x7f, 0x03, 0, 0]);
    assert_eq!(xstate[24..28], 8064u32.to_le_bytes());
    let components: u64 = if has_avx512() { 162 } else { 2 };
    assert_eq!(xstate[512..520], components.to_le_bytes());
    // xmm2 of xmm_space, the ninth word.
    assert_eq!(xstate[160 + 32..160 + 36], 1_096_173_906u32.to_le_bytes());
    assert_eq!(thread.clear_child_tid, 0x7f78_5ef1_5a10);
    assert_eq!(
        (thread.robust_list.unwrap().head, thread.altstack),
        (140_154_965_678_624, None)
    );
    let rseq = thread.rseq.unwrap();
    assert_eq!(
        (rseq.addr, rseq.size, rseq.signature),
        (140_154_965_680_224, 32, 0x5305_3053)
    );
    assert_eq!(thread.creds.cap_effective, 511 << 32 | 4_278_190_079);
}

#[test]
fn memory_of_sleep_has_its_areas_and_pages() {
    let set = read(&sample("sleep")).unwrap();
    let mm = set.snapshot.root().unwrap().mm.as_ref().unwrap();
    assert_eq!(mm.vmas.len(), 23);
    let kind = |start: u64| mm.vmas.iter().find(|vma| vma.start == start).unwrap().kind;
    assert_eq!(kind(0x55c1_7993_3000), VmaKind::Heap);
    assert_eq!(kind(0x7f78_5f10_6000), VmaKind::Vvar);
    assert_eq!(kind(0x7f78_5f10_c000), VmaKind::Vdso);
    assert_eq!(kind(0x7ffd_b69f_d000), VmaKind::Stack);
    assert_eq!(kind(0xffff_ffff_ff60_0000), VmaKind::Vsyscall);
    let VmaKind::FilePrivate(id) = mm.vmas[0].kind else {
        panic!("{:?}", mm.vmas[0])
    };
    let FileKind::Regular(file) = &set.snapshot.file(id).unwrap().kind else {
        panic!("{id:?}")
    };
    assert_eq!(
        (file.path.as_slice(), file.size),
        (b"/usr/bin/sleep".as_slice(), Some(43888))
    );
    assert_eq!(file.build_id[..4], 1_614_549_219u32.to_le_bytes());
    assert_eq!(mm.exe, id);
    assert_eq!(mm.auxv[mm.auxv.len() - 2..], [0, 0]);
    assert_eq!(mm.pages.iter().map(|run| run.pages).sum::<u64>(), 27);
    assert_eq!(
        mm.pages[0].at,
        PageLocation::Here {
            pages_id: 1,
            offset: 0
        }
    );
    assert_eq!(
        mm.pages[1].at,
        PageLocation::Here {
            pages_id: 1,
            offset: 4096
        }
    );
}

#[test]
fn the_connection_of_menagerie_is_read() {
    let set = read(&sample("menagerie")).unwrap();
    let refusals: Vec<String> = set.refusals().iter().map(ToString::to_string).collect();
    let of_sockets = refusals.iter().find(|words| words.contains("socket"));
    assert_eq!(of_sockets, None);
    let files = set.snapshot.files.iter();
    let sockets: Vec<_> = files
        .filter_map(|file| match &file.kind {
            FileKind::Inet(socket) => Some(socket),
            _ => None,
        })
        .collect();
    let [listener, client, server, udp] = sockets[..] else {
        panic!("{sockets:#?}")
    };
    assert_eq!(listener.local.to_string(), "127.0.0.1:45123");
    assert!(server.is_peer_of(client) && client.is_peer_of(server));
    assert_eq!(udp.local.port(), 45124);
    assert_eq!(server.stream.received, b"in flight");
    assert_eq!(server.stream.receive_next, client.stream.send_next);
}

#[test]
fn the_deleted_file_of_menagerie_is_read() {
    let set = read(&sample("menagerie")).unwrap();
    let ghost = &set.snapshot.ghosts[0];
    assert_eq!((ghost.id, ghost.mode, ghost.size), (1, 0o100_644, 16));
    assert_eq!(ghost.times_us[1], 1_795_204_716_411_381);
    let data = ghost.data[0];
    let mut bytes = vec![0; data.len as usize];
    std::os::unix::fs::FileExt::read_exact_at(&set.ghosts[&1], &mut bytes, data.at).unwrap();
    assert_eq!(bytes, b"unlinked content");
}

#[test]
fn threads_timers_and_signals_of_menagerie() {
    let set = read(&sample("menagerie")).unwrap();
    let task = set.snapshot.root().unwrap();
    let tids: Vec<i32> = task.threads.iter().map(|thread| thread.tid).collect();
    assert_eq!(tids, [860, 861, 862, 863]);
    assert!(task.threads.iter().all(|thread| thread.blocked == 0x800));
    assert_eq!(task.threads[1].comm, b"worker");
    assert_eq!(task.threads[0].pending[0].number(), 12);
    assert_eq!(task.threads[0].altstack.unwrap().size, 16384);
    let usr1 = task.sigactions[9];
    assert_eq!((usr1.handler, usr1.flags), (0x5581_e15f_e439, 0x1c00_0000));
    let real = Interval {
        interval_ns: 3_000_000_000_000,
        value_ns: 2_999_321_808_000,
    };
    assert_eq!(task.interval_timers.real, real);
    let timer = task.posix_timers[0];
    assert_eq!(
        (timer.id, timer.clock, timer.notify),
        (0, 1, Notify::Signal(10))
    );
    assert_eq!(timer.spec.value_ns, 1_999_321_792_084);
}

#[test]
fn descriptors_of_menagerie() {
    let set = read(&sample("menagerie")).unwrap();
    let snapshot = &set.snapshot;
    let task = snapshot.root().unwrap();
    let kind = |fd: i32| {
        let entry = task.fds.iter().find(|entry| entry.fd == fd).unwrap();
        &snapshot.file(entry.file).unwrap().kind
    };
    assert!(matches!(kind(0), FileKind::Device(device) if device.node.path == b"/dev/null"));
    let FileKind::Pipe(end) = kind(3) else {
        panic!("{:?}", kind(3))
    };
    let pipe = snapshot
        .pipes
        .iter()
        .find(|pipe| pipe.pipe_id == end.pipe_id)
        .unwrap();
    assert_eq!(
        (pipe.data.as_slice(), pipe.capacity),
        (b"queued in a pipe".as_slice(), Some(65536))
    );
    assert!(matches!(kind(13), FileKind::EventFd(eventfd) if eventfd.counter == 7));
    let FileKind::Epoll(epoll) = kind(14) else {
        panic!("{:?}", kind(14))
    };
    let watches: Vec<_> = epoll
        .targets
        .iter()
        .map(|target| (target.fd, target.events, target.data))
        .collect();
    assert_eq!(watches, [(9, 25, 0x1234), (13, 25, 0x1234)]);
    assert!(matches!(kind(15), FileKind::TimerFd(timer) if timer.spec.value_ns == 999_322_731_114));
    assert!(matches!(kind(16), FileKind::SignalFd(signalfd) if signalfd.mask == 0x800));
    let FileKind::Memfd(memfd) = kind(18) else {
        panic!("{:?}", kind(18))
    };
    let inode = snapshot
        .memfds
        .iter()
        .find(|inode| inode.id == memfd.inode_id)
        .unwrap();
    assert_eq!(
        (inode.name.as_slice(), inode.size, inode.seals),
        (b"blob".as_slice(), 5, 4)
    );
    let FileKind::Terminal(tty) = kind(22) else {
        panic!("{:?}", kind(22))
    };
    assert_eq!(tty.node.path, b"/dev/pts/0");
    let info = snapshot
        .terminals
        .iter()
        .find(|info| info.id == tty.info_id)
        .unwrap();
    let termios = info.termios.as_ref().unwrap();
    assert_eq!(termios.chars[..8], [3, 28, 127, 21, 4, 0, 1, 0]);
}

#[test]
fn shared_anonymous_memory_is_not_taken_for_a_memfd() {
    let set = read(&sample("menagerie")).unwrap();
    let snapshot = &set.snapshot;
    let mm = snapshot.root().unwrap().mm.as_ref().unwrap();
    let vma = mm
        .vmas
        .iter()
        .find(|vma| vma.start == 0x7fc6_c0e0_7000)
        .unwrap();
    assert_eq!(vma.kind, VmaKind::SharedAnonymous(592));
    assert!(
        snapshot
            .memfds
            .iter()
            .all(|inode| inode.name != b"/dev/zero")
    );
    let memory = snapshot
        .shared
        .iter()
        .find(|memory| memory.id == 592)
        .unwrap();
    assert_eq!(
        (memory.size, memory.pages.len(), memory.pages[0].pages),
        (8192, 1, 1)
    );
}
