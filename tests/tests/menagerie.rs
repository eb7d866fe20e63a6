//! A tree that owns one of nearly every object: it goes on after a restore, and its images state what a set of the peer's
//! states of such a tree (`proto/testdata/menagerie`, whose network sockets are left out).

use integration_tests::victim::Link;
use integration_tests::{Images, Program, root};
use orchestrator::snapshot::{FileKind, FileLock, OpenFile, RegularFile, Snapshot, Task};
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn it_goes_on_and_its_images_state_what_the_peers_state() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("menagerie", Link::Dynamic) else {
        return;
    };
    let mut victim = program.start(&[]);
    let images = Images::new(&victim, "images");
    let others = victim.descendants();
    images.dump(victim.pid, &["--file-locks"]);
    victim.reap_with(&others);
    let ours = facts(&images.0);
    let peers = facts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/testdata/menagerie"));
    assert_eq!(ours, peers);
    images.restore();
    victim.check();
}

/// Returns what an image set states of its tree, but for numbers that are others in each run.
fn facts(dir: &Path) -> Vec<String> {
    let set = orchestrator::image::read(dir).expect("images");
    let snapshot = &set.snapshot;
    let mut facts: Vec<String> = snapshot.tasks.iter().flat_map(of_task).collect();
    let held: BTreeSet<_> = snapshot
        .tasks
        .iter()
        .flat_map(|task| task.fds.iter().map(|entry| entry.file))
        .collect();
    let files = held.into_iter().filter_map(|id| snapshot.file(id));
    facts.extend(files.filter_map(|file| of_file(file, snapshot)));
    facts.extend(snapshot.locks.iter().map(of_lock));
    facts.extend(snapshot.terminals.iter().filter_map(|terminal| {
        let termios = terminal.termios.as_ref()?;
        let (side, flags) = (terminal.is_master(), termios.flags);
        Some(format!(
            "terminal, master {side}, {flags:?}, {:?}",
            terminal.winsize
        ))
    }));
    let contents = [("pipe", &snapshot.pipes), ("named pipe", &snapshot.fifos)];
    for (what, buffers) in contents {
        facts.extend(
            buffers
                .iter()
                .filter(|buffer| !buffer.data.is_empty())
                .map(|buffer| {
                    let (data, capacity) = (text(&buffer.data), buffer.capacity);
                    format!("{what} of {capacity:?} bytes holds {data}")
                }),
        );
    }
    facts.extend(snapshot.ghosts.iter().map(|ghost| {
        format!(
            "deleted file of mode {:o}, {} bytes",
            ghost.mode, ghost.size
        )
    }));
    facts.sort();
    facts
}

const SIGUSR2: u32 = 12;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn of_task(task: &Task) -> Vec<String> {
    let name = text(&task.comm);
    let leads = (task.pgid == task.pid, task.sid == task.pid);
    let mut facts = vec![format!(
        "{name}: {:?}, status {}, leads {leads:?}",
        task.state, task.exit_code
    )];
    let Some(fs) = &task.fs else {
        return facts;
    };
    facts.push(format!("{name}: umask {:o}", fs.umask));
    for thread in &task.threads {
        let pending: Vec<_> = thread
            .pending
            .iter()
            .map(|signal| signal.number())
            .collect();
        facts.push(format!(
            "{name}: thread {}, SIGUSR2 blocked {}, pending {pending:?}, stack for signals {:?}",
            text(&thread.comm),
            thread.blocked & 1 << (SIGUSR2 - 1) != 0,
            thread.altstack.map(|stack| stack.size)
        ));
    }
    // A handler on the stack for signals that has calls made again.
    let is_special = |flags: u64| flags & 0x1800_0000 == 0x1800_0000;
    let handlers = task.sigactions.iter();
    let handlers = handlers.filter(|action| is_special(action.flags)).count();
    facts.push(format!(
        "{name}: {handlers} handlers on a stack of their own"
    ));
    let timers = &task.interval_timers;
    facts.push(format!(
        "{name}: an alarm every {} ns",
        timers.real.interval_ns
    ));
    facts.extend(task.posix_timers.iter().map(|timer| {
        let (clock, spec) = (timer.clock, timer.spec);
        format!(
            "{name}: timer {} of clock {clock} every {} ns",
            timer.id, spec.interval_ns
        )
    }));
    let areas = task.mm.iter().flat_map(|mm| &mm.vmas);
    let shared = areas.filter(|area| {
        matches!(
            area.kind,
            orchestrator::snapshot::VmaKind::SharedAnonymous(_)
        )
    });
    facts.extend(shared.map(|area| format!("{name}: shared memory of {} bytes", area.len())));
    facts
}

/// Returns the last part of a path.
fn base(file: &RegularFile) -> String {
    let path = text(&file.path);
    path.rsplit('/').next().unwrap_or_default().to_string()
}

/// Returns what is stated of a file; nothing of input, output, and sockets of the network.
fn of_file(file: &OpenFile, snapshot: &Snapshot) -> Option<String> {
    const APPEND: u32 = 0o2000;
    const NONBLOCK: u32 = 0o4000;
    let flags = file.flags & (3 | APPEND | NONBLOCK);
    let what = match &file.kind {
        FileKind::Regular(regular) if regular.ghost.is_some() => {
            format!("deleted {}, at {}", base(regular), regular.pos)
        }
        FileKind::Regular(regular) if base(regular) == "locked" => "locked".into(),
        FileKind::Pipe(_) => "end of a pipe".into(),
        FileKind::Fifo(fifo) => format!("named pipe {}", base(&fifo.node)),
        FileKind::Unix(socket) => {
            let name = socket.name.as_ref().map(|name| text(&name.bytes));
            let queue: Vec<_> = socket
                .queue
                .iter()
                .map(|message| text(&message.data))
                .collect();
            let (kind, state) = (socket.kind, socket.state);
            format!("Unix socket of kind {kind}, {state:?}, {name:?}, {queue:?}")
        }
        FileKind::EventFd(eventfd) => format!("{eventfd:?}"),
        FileKind::Epoll(epoll) => {
            let is_event = |fd: i32| {
                let entries = snapshot.tasks.iter().flat_map(|task| &task.fds);
                let mut files = entries
                    .filter(|entry| entry.fd == fd)
                    .map(|entry| entry.file);
                let file = files.next().and_then(|id| snapshot.file(id));
                file.is_some_and(|file| matches!(file.kind, FileKind::EventFd(_)))
            };
            let targets = epoll.targets.iter().filter(|target| is_event(target.fd));
            let targets: Vec<_> = targets.map(|target| (target.events, target.data)).collect();
            format!("epoll of {targets:?}")
        }
        FileKind::TimerFd(timer) => {
            format!(
                "timerfd of clock {} every {} ns",
                timer.clock, timer.spec.interval_ns
            )
        }
        FileKind::SignalFd(signalfd) => format!("signalfd {:x}", signalfd.mask),
        FileKind::Inotify(inotify) => {
            let watches: Vec<_> = inotify
                .watches
                .iter()
                .map(|watch| (watch.wd, watch.mask))
                .collect();
            format!("inotify of {watches:?}")
        }
        FileKind::Memfd(memfd) => {
            let mut inodes = snapshot.memfds.iter();
            let inode = inodes.find(|inode| inode.id == memfd.inode_id)?;
            let (name, size, seals) = (text(&inode.name), inode.size, inode.seals);
            format!(
                "memfd {name}, at {}, {size} bytes, seals {seals:x}",
                memfd.pos
            )
        }
        FileKind::Terminal(_) => "side of a terminal".into(),
        _ => return None,
    };
    Some(format!("{what}, flags {flags:o}"))
}

fn of_lock(lock: &FileLock) -> String {
    let (start, len) = (lock.start, lock.len);
    format!(
        "lock {:?}, for writing {}, {start}+{len}",
        lock.kind, lock.is_write
    )
}
