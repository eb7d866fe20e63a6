//! Objects of System V: found where they were left, made again where they are gone, and never those of others.

use integration_tests::victim::Link;
use integration_tests::{Images, Program, Victim, assert_refused, root, said, wait_until};
use std::process::Command;

fn start(name: &str, args: &[&str]) -> Option<Victim> {
    if !root() {
        return None;
    }
    Some(Program::compile(name, Link::Dynamic)?.start(args))
}

/// Ids of the segments that outlive the victim.
fn segments(victim: &Victim) -> Vec<String> {
    let text = victim.text();
    let lines = text.lines();
    lines
        .filter_map(|line| line.strip_prefix("segment "))
        .map(str::to_string)
        .collect()
}

fn remove(id: &str) {
    let status = Command::new("ipcrm").args(["-m", id]).status();
    assert!(status.is_ok_and(|status| status.success()), "ipcrm -m {id}");
}

fn exists(id: &str) -> bool {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").expect("the table");
    let mut rows = table.lines();
    rows.any(|row| row.split_whitespace().nth(1) == Some(id))
}

fn dump_and_reap(victim: &mut Victim, images: &Images) {
    let others = victim.descendants();
    images.dump(victim.pid, &[]);
    victim.reap_with(&others);
}

#[test]
fn segments_that_are_gone_are_made_again() {
    let Some(mut victim) = start("shm", &[]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    dump_and_reap(&mut victim, &images);
    segments(&victim).iter().for_each(|id| remove(id));
    images.restore();
    victim.check();
}

#[test]
fn a_segment_that_has_changed_since_gets_its_content_back() {
    let Some(mut victim) = start("shm", &[]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &["--leave-running"]);
    let others = victim.descendants();
    victim.kill_with(&others);
    images.restore();
    victim.check();
}

/// Others would lose a namespace that goes with the tree, or go on to change one that is dumped.
#[test]
fn an_ipc_namespace_that_another_is_in() {
    let Some(victim) = start("ipcns", &["outside"]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[]);
    assert_refused(&output, &["ipc namespace", "outside", "is in it too"]);
    victim.check();
}

#[test]
fn a_message_that_could_not_be_sent_any_more() {
    let Some(victim) = start("ipcns", &["large"]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[]);
    assert_refused(&output, &["message queue", "larger than kernel.msgmax"]);
    victim.check();
}

#[test]
fn what_is_not_kept_is_named() {
    let Some(victim) = start("shm", &[]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &["--leave-running"]);
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("times and processes of the last uses"),
        "{said}"
    );
    victim.check();
}

#[test]
fn shared_memory_that_another_has_attached() {
    let Some(victim) = start("shm", &[]) else {
        return;
    };
    let id = &segments(&victim)[0];
    let Some(other) = start("holder", &["attach", id]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[]);
    let name = format!("System V shared memory {id}");
    let holder = format!("process {}", other.pid);
    assert_refused(&output, &[&name, &holder, "attached too"]);
    other.check();
    victim.check();
}

/// What a restore has made, or found, is as it was before when it fails.
#[test]
fn a_key_that_another_segment_has() {
    let Some(mut victim) = start("shm", &[]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    dump_and_reap(&mut victim, &images);
    let ids = segments(&victim);
    ids.iter().for_each(|id| remove(id));
    let key = format!("{:#x}", 0x5e00_0000 | victim.pid);
    let Some(other) = start("holder", &["key", &key]) else {
        return;
    };
    let output = images.try_restore(&["-d"]);
    let theirs = &segments(&other)[0];
    let taken = format!("its key {key} is taken by segment {theirs}");
    assert_refused(&output, &[&taken]);
    assert!(exists(theirs), "the other segment is gone");
    assert!(!ids.iter().any(|id| exists(id)), "a segment is left");
    other.check();
    images.restore();
    victim.check();
}

#[test]
fn a_segment_that_another_has_attached_meanwhile() {
    let Some(mut victim) = start("shm", &[]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    dump_and_reap(&mut victim, &images);
    let id = &segments(&victim)[0];
    let Some(other) = start("holder", &["attach", id]) else {
        return;
    };
    let output = images.try_restore(&["-d"]);
    let name = format!("System V shared memory {id}");
    assert_refused(&output, &[&name, "attached 1 times by others"]);
    other.check();
    images.restore();
    victim.check();
}

#[test]
fn a_restore_that_fails_leaves_no_segment() {
    let Some(mut victim) = start("shm", &[]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    dump_and_reap(&mut victim, &images);
    let ids = segments(&victim);
    ids.iter().for_each(|id| remove(id));
    // What it maps last cannot be written there: it fails in the middle.
    let (dir, file) = (images.0.display(), victim.folder().join("mapped"));
    let file = file.display();
    let script = format!(
        "mount --bind {file} {file} && mount -o remount,bind,ro {file} && exec {} restore -d -D {dir}",
        integration_tests::orchestrator().display()
    );
    let mut unshare = Command::new("unshare");
    let output = unshare.args(["-m", "bash", "-c", &script]).output();
    let output = output.expect("unshare can be started");
    assert_refused(&output, &["mapping", "read-only"]);
    assert!(!ids.iter().any(|id| exists(id)), "a segment is left");
    // Whoever gets the orphans of that may not have collected them yet.
    let restored = || images.try_restore(&["-d"]).status.success();
    assert!(wait_until(restored), "it cannot be restored");
    victim.check();
}
