//! POSIX message queues: of the tree's own IPC namespace, and of the host's, where they outlive the tree.

use integration_tests::victim::Link;
use integration_tests::{Images, Program, Victim, assert_refused, root, said};

fn start(args: &[&str]) -> Option<Victim> {
    if !root() {
        return None;
    }
    Some(Program::compile("mqueue", Link::Dynamic)?.start(args))
}

/// Names of the queues, of which the second has none any more.
fn names(victim: &Victim) -> Vec<String> {
    let text = victim.text();
    let lines = text.lines();
    let names = lines.filter_map(|line| line.strip_prefix("queue "));
    names.map(str::to_string).collect()
}

fn dump_and_reap(victim: &mut Victim, images: &Images) {
    let others = victim.descendants();
    images.dump(victim.pid, &[]);
    victim.reap_with(&others);
}

#[test]
fn of_a_namespace_of_the_trees_own() {
    let Some(mut victim) = start(&["own"]) else {
        return;
    };
    for name in ["first", "second"] {
        let images = Images::new(&victim, name);
        dump_and_reap(&mut victim, &images);
        images.restore();
    }
    victim.check();
}

#[test]
fn of_a_namespace_of_its_own_left_running() {
    let Some(victim) = start(&["own"]) else {
        return;
    };
    Images::new(&victim, "images").dump(victim.pid, &["--leave-running"]);
    victim.check();
}

#[test]
fn queues_that_are_gone_are_made_again() {
    let Some(mut victim) = start(&[]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    dump_and_reap(&mut victim, &images);
    let names = names(&victim);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(victim.helper("remove", &names));
    images.restore();
    victim.check();
}

/// Messages that came since are gone, and the restore says so.
#[test]
fn a_queue_that_has_changed_since_gets_its_messages_back() {
    let Some(mut victim) = start(&[]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    dump_and_reap(&mut victim, &images);
    let name = &names(&victim)[0];
    assert!(victim.helper("send", &[name]));
    let output = images.try_restore(&["-d"]);
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains(&format!("{name} had changed since")),
        "{said}"
    );
    victim.check();
}

#[test]
fn a_queue_that_another_has_open() {
    let Some(victim) = start(&[]) else {
        return;
    };
    let name = names(&victim)[0].clone();
    let Some(other) = start(&["hold", &name]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[]);
    let holder = format!("process {}", other.pid);
    assert_refused(
        &output,
        &["POSIX message queue", &name, &holder, "open too"],
    );
    other.check();
    victim.check();
}

#[test]
fn a_queue_that_another_has_open_meanwhile() {
    let Some(mut victim) = start(&[]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    dump_and_reap(&mut victim, &images);
    let name = names(&victim)[0].clone();
    let Some(other) = start(&["hold", &name]) else {
        return;
    };
    let output = images.try_restore(&["-d"]);
    let holder = format!("process {} has it open", other.pid);
    assert_refused(&output, &[&name, &holder]);
    other.check();
    drop(other);
    images.restore();
    victim.check();
}

/// To put messages back would tell of them.
#[test]
fn a_queue_with_messages_whose_next_one_is_told() {
    let Some(victim) = start(&["full"]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[]);
    assert_refused(&output, &["POSIX message queue", "put back"]);
    victim.check();
}

#[test]
fn in_a_portable_set() {
    let Some(victim) = start(&[]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &["--portable"]);
    assert_refused(&output, &["POSIX message queue", "--portable"]);
    victim.check();
}

#[test]
fn the_value_of_a_signal_is_named_as_lost() {
    let Some(victim) = start(&[]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &["--leave-running"]);
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("value of the signal that tells of a message"),
        "{said}"
    );
    victim.check();
}
