//! seccomp: filters of threads and children, and strict mode, through a dump and a restore.

use integration_tests::victim::Link;
use integration_tests::{Images, Program, Victim, root};

fn start(args: &[&str]) -> Option<Victim> {
    if !root() {
        return None;
    }
    Some(Program::compile("confined", Link::Dynamic)?.start(args))
}

fn cycles(args: &[&str], count: u32) {
    let Some(mut victim) = start(args) else {
        return;
    };
    for number in 0..count {
        let images = Images::new(&victim, &number.to_string());
        let others = victim.descendants();
        images.dump(victim.pid, &[]);
        victim.reap_with(&others);
        images.restore();
        victim.assert_free();
    }
    victim.check();
}

#[test]
fn filters_are_in_force_after_a_restore() {
    cycles(&[], 1);
}

#[test]
fn filters_without_privileges_are_in_force_after_three() {
    cycles(&["new"], 3);
}

#[test]
fn threads_have_their_filters_in_common() {
    cycles(&["together"], 1);
}

#[test]
fn nothing_forbidden_is_done_while_it_is_dumped() {
    let Some(victim) = start(&[]) else {
        return;
    };
    for number in 0..5 {
        let images = Images::new(&victim, &number.to_string());
        images.dump(victim.pid, &["--leave-running"]);
    }
    victim.assert_free();
    victim.check();
}

/// A program is stored once, however many have it.
#[test]
fn equal_filters_are_stored_once() {
    let Some(victim) = start(&[]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &["--leave-running"]);
    let set = orchestrator::image::read(&images.0).expect("images");
    let filters = &set.snapshot.seccomp;
    assert_eq!(filters.len(), 2, "{filters:?}");
    assert_eq!(filters[1].prev, Some(0));
    assert_eq!(filters[0].flags, 2, "SECCOMP_FILTER_FLAG_LOG");
    victim.check();
}
