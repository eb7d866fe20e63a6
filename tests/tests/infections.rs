//! Two hundred dumps of one process under load: nothing of it changes, and nothing is left behind.

use integration_tests::victim::Link;
use integration_tests::{Images, Program, Victim, orchestrator, root, steadily};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

const INFECTIONS: usize = 200;

/// Every descriptor, every mapping by its address, protection and file, and the signal masks.
fn outside(victim: &Victim) -> BTreeSet<String> {
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    let pid = victim.pid;
    let maps = read(format!("/proc/{pid}/maps"));
    let mut all: BTreeSet<String> = maps.lines().map(str::to_string).collect();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors") {
        let entry = entry.expect("a descriptor");
        let link = std::fs::read_link(entry.path()).unwrap_or_default();
        all.insert(format!("{:?} -> {}", entry.file_name(), link.display()));
    }
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads") {
        let task = task.expect("a thread");
        let status = read(format!("{}/status", task.path().display()));
        let masks = status.lines().filter(|line| {
            [
                "SigPnd",
                "ShdPnd",
                "SigBlk",
                "SigIgn",
                "SigCgt",
                "Cap",
                "Seccomp",
                "TracerPid",
            ]
            .iter()
            .any(|name| line.starts_with(name))
        });
        all.extend(masks.map(|line| format!("{:?} {line}", task.file_name())));
    }
    all
}

fn infect(name: &str, args: &[&str]) {
    steadily(|| {
        if !root() {
            return;
        }
        let Some(program) = Program::compile(name, Link::Dynamic) else {
            return;
        };
        // Ready before the victim's waits begin.
        orchestrator();
        let victim = program.start(args);
        let before = outside(&victim);
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            for number in 0..INFECTIONS {
                let images = Images::new(&victim, &number.to_string());
                images.dump(victim.pid, &["--leave-running"]);
                std::fs::remove_dir_all(&images.0).expect("removed");
            }
            ended.store(true, Ordering::Relaxed);
        });
        let after = outside(&victim);
        let left: Vec<_> = after.difference(&before).collect();
        let gone: Vec<_> = before.difference(&after).collect();
        assert!(
            left.is_empty() && gone.is_empty(),
            "left {left:?}, gone {gone:?}"
        );
        victim.check();
    });
}

#[test]
fn registers_and_extended_state() {
    infect("fpu", &[]);
}

#[test]
fn signals_pending_masks_and_handlers() {
    infect("signals", &[]);
}

#[test]
fn timers_go_on() {
    infect("timers", &[]);
}

#[test]
fn sleeps_take_their_time() {
    // Seconds for which the threads wait: all dumps happen within, on a slow machine too.
    infect("threads", &["30"]);
}

/// Threads that come and go while the process is frozen.
#[test]
fn threads_that_begin_and_end() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("churn", Link::Dynamic) else {
        return;
    };
    let mut victim = program.start(&[]);
    for number in 0..INFECTIONS {
        let images = Images::new(&victim, &number.to_string());
        images.dump(victim.pid, &["--leave-running"]);
        std::fs::remove_dir_all(&images.0).expect("removed");
    }
    let images = Images::new(&victim, "last");
    images.dump(victim.pid, &[]);
    victim.reap();
    images.restore();
    victim.check();
}
