//! Every victim through a dump and a restore: killed and brought back, left running, and three times in a row.

use integration_tests::victim::Link;
use integration_tests::{Images, Program, Seen, Victim, root, skip, steadily, wait_until};
use std::thread::sleep;
use std::time::Duration;

/// Time for a victim to get on with what it does.
const A_WHILE: Duration = Duration::from_millis(400);

/// Time between a dump and its restore, which no clock of the victim may show.
const AWAY: Duration = Duration::from_secs(2);

fn start(name: &str, link: Link) -> Option<Victim> {
    if !root() || !has_what_it_needs(name) {
        return None;
    }
    let victim = Program::compile(name, link)?.start(&[]);
    sleep(A_WHILE);
    Some(victim)
}

/// Returns whether the processor has what a victim is about.
fn has_what_it_needs(name: &str) -> bool {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = name != "keys" || processor.contains(" ospke");
    if !has {
        skip("no protection keys");
    }
    has
}

/// Options that a victim's objects need.
const OPTIONS: [&str; 1] = ["--file-locks"];

fn cycle(victim: &mut Victim, name: &str, away: Duration) {
    let images = Images::new(victim, name);
    let others = victim.descendants();
    images.dump(victim.pid, &OPTIONS);
    victim.reap_with(&others);
    sleep(away);
    images.restore();
    sleep(A_WHILE);
    victim.assert_free();
}

fn killed_and_restored(name: &str, link: Link) {
    steadily(|| {
        let Some(mut victim) = start(name, link) else {
            return;
        };
        cycle(&mut victim, "images", AWAY);
        victim.check();
    });
}

fn left_running(name: &str, link: Link) {
    steadily(|| {
        let Some(victim) = start(name, link) else {
            return;
        };
        Images::new(&victim, "images")
            .dump(victim.pid, &[&OPTIONS[..], &["--leave-running"]].concat());
        victim.assert_free();
        victim.check();
    });
}

fn three_cycles(name: &str, link: Link) {
    steadily(|| {
        let Some(mut victim) = start(name, link) else {
            return;
        };
        for round in ["first", "second", "third"] {
            cycle(&mut victim, round, A_WHILE);
        }
        victim.check();
    });
}

/// How often a victim is compared with what it was: `CYCLES` in the environment asks for more.
fn cycles() -> u32 {
    let asked = std::env::var("CYCLES").ok();
    asked.and_then(|count| count.parse().ok()).unwrap_or(2)
}

/// Returns whether a process stands still, with all of its threads, or is dead.
fn stands(pid: &u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let mut tasks = tasks.into_iter().flatten().flatten().peekable();
    tasks.peek().is_some()
        && tasks.all(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let state = integration_tests::field(&status, "State:").unwrap_or_default();
            state.starts_with(['T', 'Z'])
        })
}

/// Waits until all stand still.
fn await_stop(all: &[u32]) {
    let still = wait_until(|| all.iter().all(stands));
    assert!(still, "one of {all:?} does not stop");
}

/// Descriptors, areas and tree are the same in /proc after each of some cycles, each of which leaves the victim running
/// once, then kills and restores it. Both times it stands still when it is looked at, and nothing has moved in between. It
/// does not check itself: to be stopped and continued is something that a program can tell.
fn the_same_in_proc(name: &str, link: Link) {
    let Some(mut victim) = start(name, link) else {
        return;
    };
    for number in 0..cycles() {
        // What waits in its sockets is looked at by a dump, which a second one refuses.
        if name != "unix" {
            let running = Images::new(&victim, &format!("running-{number}"));
            running.dump(victim.pid, &[&OPTIONS[..], &["--leave-running"]].concat());
            victim.assert_free();
        }
        let mut stood = victim.descendants();
        stood.retain(stands);
        let images = Images::new(&victim, &format!("stopped-{number}"));
        images.dump(victim.pid, &[&OPTIONS[..], &["--leave-stopped"]].concat());
        let descendants = victim.descendants();
        let all = [&[victim.pid], &descendants[..]].concat();
        await_stop(&all);
        let before = Seen::of(victim.pid, &descendants);
        victim.kill_with(&descendants);
        let output = images.try_restore(&["-d", "--leave-stopped"]);
        assert!(
            output.status.success(),
            "restore: {}",
            integration_tests::said(&output)
        );
        await_stop(&all);
        let differences = before.differences(&Seen::of(victim.pid, &victim.descendants()));
        assert!(differences.is_empty(), "cycle {number}:\n{differences}");
        for pid in all.iter().filter(|pid| !stood.contains(pid)) {
            integration_tests::victim::send("CONT", *pid);
        }
        sleep(A_WHILE);
        victim.assert_lives();
    }
}

macro_rules! victims {
    ($($test:ident: $name:literal $link:ident,)*) => {$(
        mod $test {
            use super::*;

            #[test]
            fn killed_and_restored() {
                super::killed_and_restored($name, Link::$link);
            }

            #[test]
            fn left_running() {
                super::left_running($name, Link::$link);
            }

            #[test]
            fn three_cycles() {
                super::three_cycles($name, Link::$link);
            }

            #[test]
            fn the_same_in_proc() {
                super::the_same_in_proc($name, Link::$link);
            }
        }
    )*};
}

victims! {
    counter: "counter" Dynamic,
    counter_static: "counter" Static,
    threads: "threads" Dynamic,
    threadfs: "threadfs" Dynamic,
    timers: "timers" Dynamic,
    signals: "signals" Dynamic,
    files: "files" Dynamic,
    pipes: "pipes" Dynamic,
    maps: "maps" Dynamic,
    execonly: "execonly" Dynamic,
    keys: "keys" Dynamic,
    attributes: "attributes" Dynamic,
    settings: "settings" Dynamic,
    fpu: "fpu" Dynamic,
    tiles: "tiles" Dynamic,
    blocked: "blocked" Dynamic,
    tree: "tree" Dynamic,
    sessions: "sessions" Dynamic,
    stopped: "stopped" Dynamic,
    joint: "joint" Dynamic,
    huge: "huge" Dynamic,
    ghosts: "ghosts" Dynamic,
    locks: "locks" Dynamic,
    sockets: "sockets" Dynamic,
    sockopts: "sockopts" Dynamic,
    procfiles: "procfiles" Dynamic,
    names: "names" Dynamic,
    inet: "inet" Dynamic,
    datagrams: "datagrams" Dynamic,
    packets: "packets" Dynamic,
    pidfds: "pidfds" Dynamic,
    shm: "shm" Dynamic,
    ptys: "ptys" Dynamic,
    unix: "unix" Dynamic,
    bpf: "bpf" Dynamic,
    namespaces: "namespaces" Dynamic,
    aio: "aio" Dynamic,
    ipcns: "ipcns" Dynamic,
    mqueue: "mqueue" Dynamic,
}

/// The counter misses no number and repeats none, whatever is done to it.
#[test]
fn the_count_goes_on_from_where_it_stood() {
    let Some(mut victim) = start("counter", Link::Dynamic) else {
        return;
    };
    cycle(&mut victim, "images", A_WHILE);
    victim.check();
    let text = victim.text();
    let counts: Vec<u64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("count ")?.parse().ok())
        .collect();
    let wanted: Vec<u64> = (1..=counts.len() as u64).collect();
    assert_eq!(counts, wanted);
}

#[test]
fn left_stopped_until_it_is_continued() {
    let Some(victim) = start("counter", Link::Dynamic) else {
        return;
    };
    Images::new(&victim, "images").dump(victim.pid, &["--leave-stopped"]);
    // It is stopped by the time that the dump ends.
    assert_eq!(victim.state(), Some('T'));
    let before = victim.text();
    sleep(A_WHILE);
    assert_eq!(before, victim.text(), "it counts although it is stopped");
    victim.signal("CONT");
    victim.check();
}

/// Starts a program with threads in waits that a stop does not end, and stops it.
fn stopped_with_threads() -> Option<Victim> {
    let program = root().then(|| Program::compile("threads", Link::Dynamic));
    let victim = program.flatten()?.start(&["8", "sigwait"]);
    victim.signal("STOP");
    assert_stopped(&victim);
    Some(victim)
}

fn assert_stopped(victim: &Victim) {
    let is_stopped = integration_tests::wait_until(|| victim.state() == Some('T'));
    assert!(is_stopped, "state {:?}", victim.state());
}

/// Lets it go on, and asks it once its threads have had time to wait again.
fn go_on(victim: &Victim) {
    victim.signal("CONT");
    sleep(Duration::from_secs(1));
    victim.check();
}

#[test]
fn threads_of_a_stopped_process_are_left_stopped() {
    steadily(|| {
        let Some(victim) = stopped_with_threads() else {
            return;
        };
        Images::new(&victim, "images").dump(victim.pid, &["--leave-running"]);
        assert_stopped(&victim);
        go_on(&victim);
    });
}

#[test]
fn threads_of_a_stopped_process_go_on_with_their_waits() {
    steadily(|| {
        let Some(mut victim) = stopped_with_threads() else {
            return;
        };
        let images = Images::new(&victim, "images");
        images.dump(victim.pid, &[]);
        victim.reap();
        images.restore();
        assert_stopped(&victim);
        go_on(&victim);
    });
}

/// The kernel goes on with a sleep that was stopped by a call that does not tell which it was.
#[test]
fn sleeps_that_were_stopped_before() {
    steadily(|| {
        let program = root().then(|| Program::compile("threads", Link::Dynamic));
        let Some(program) = program.flatten() else {
            return;
        };
        // The kernel ends a plain sigtimedwait by the stop itself.
        let mut victim = program.start(&["4", "sigwait"]);
        victim.signal("STOP");
        assert!(wait_until(|| victim.state() == Some('T')));
        victim.signal("CONT");
        victim.assert_free();
        cycle(&mut victim, "images", A_WHILE);
        victim.check();
    });
}

#[test]
fn in_the_foreground_a_restore_ends_with_the_status_of_the_program() {
    let Some(mut victim) = start("counter", Link::Dynamic) else {
        return;
    };
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[]);
    victim.reap();
    let pidfile = victim.folder().join("pid");
    let output = std::thread::scope(|scope| {
        let restore =
            scope.spawn(|| images.try_restore(&["--pidfile", pidfile.to_str().expect("UTF-8")]));
        let came = wait_until(|| victim.lives() || restore.is_finished());
        sleep(A_WHILE);
        let pid = std::fs::read_to_string(&pidfile).unwrap_or_default();
        victim.signal("USR1");
        let output = restore.join().expect("no panic");
        assert!(came, "nothing came: {}", integration_tests::said(&output));
        assert_eq!(
            pid.trim(),
            victim.pid.to_string(),
            "{}",
            integration_tests::said(&output)
        );
        output
    });
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        integration_tests::said(&output)
    );
    assert_eq!(victim.verdict().as_deref(), Some("PASS"));
}

fn special(kind: &str) {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("widowed", Link::Dynamic) else {
        return;
    };
    let mut victim = program.start(&[kind]);
    cycle(&mut victim, "images", A_WHILE);
    victim.check();
}

#[test]
fn a_root_of_its_own() {
    special("rooted");
}

#[test]
fn a_pipe_without_a_writer() {
    special("widowed");
}

#[test]
fn a_pipe_in_packet_mode() {
    special("packets");
}

#[test]
fn an_eventfd_that_is_a_semaphore() {
    special("semaphore");
}

/// An interrupted call is undone in the images, for whoever restores them: the kernel's private errors (-512 and below) mean
/// something only on the way out of the call that made them.
#[test]
fn interrupted_calls_are_undone_in_the_images() {
    let Some(victim) = start("blocked", Link::Dynamic) else {
        return;
    };
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &["--leave-running"]);
    let set = orchestrator::image::read(&images.0).expect("images");
    let threads = &set.snapshot.root().expect("a task").threads;
    assert!(threads.len() > 5);
    for thread in threads {
        let orchestrator::snapshot::Arch::X86_64 { regs, .. } = &thread.arch else {
            panic!("no registers");
        };
        let result = regs.rax as i64;
        assert!(
            !(-516..=-512).contains(&result),
            "thread {}: {result}",
            thread.tid
        );
    }
    victim.check();
}

/// CRIU restores no keys, so what has one is refused where it is to.
#[test]
fn keys_in_a_portable_set() {
    if let Some(victim) = start("keys", Link::Dynamic) {
        let images = Images::new(&victim, "images");
        let output = images.try_dump(victim.pid, &["--portable"]);
        integration_tests::assert_refused(&output, &["protection key", "--portable"]);
        victim.check();
    }
}
