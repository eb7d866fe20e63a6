//! Trees in a network namespace of their own: the victims check from inside that all of it is as it was.

use integration_tests::{Images, Program, Victim, assert_refused, present, root, run, said, skip};

const KEEP: &str = "--tcp-established";

/// Starts a victim that makes itself a namespace with these things.
fn start(ways: &[&str]) -> Option<Victim> {
    if !root() || !present("ip") || !present("python3") {
        return None;
    }
    if !run(&["check", "--feature", "network_lock_nftables"])
        .status
        .success()
    {
        skip("no nftables");
        return None;
    }
    let script = include_str!("../scripts/netns.py");
    Some(Program::script("python3", script).start(ways))
}

fn restore(images: &Images) {
    let output = images.try_restore(&["-d", KEEP]);
    assert!(output.status.success(), "{}", said(&output));
}

/// Returns the name of the namespace that a process is in.
fn namespace(pid: u32) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/net"));
    link.expect("a process").display().to_string()
}

#[test]
fn a_namespace_with_loopback() {
    let Some(mut victim) = start(&["lo"]) else {
        return;
    };
    for round in ["first", "second"] {
        let images = Images::new(&victim, round);
        images.dump(victim.pid, &[KEEP]);
        victim.reap();
        restore(&images);
    }
    assert_ne!(namespace(victim.pid), namespace(std::process::id()));
    victim.check();
}

#[test]
fn left_running_in_its_namespace() {
    let Some(victim) = start(&["lo"]) else {
        return;
    };
    let before = namespace(victim.pid);
    Images::new(&victim, "images").dump(victim.pid, &[KEEP, "--leave-running"]);
    assert_eq!(namespace(victim.pid), before);
    victim.check();
}

/// What is not known is named, and the target is as it was.
#[test]
fn what_is_not_kept_of_a_namespace() {
    let Some(victim) = start(&["lo", "queue"]) else {
        return;
    };
    let output = Images::new(&victim, "images").try_dump(victim.pid, &[KEEP]);
    assert_refused(&output, &["network device lo", "queueing discipline tbf"]);
    victim.check();
}
