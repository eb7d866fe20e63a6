//! What cannot be dumped yet is refused by name, with status 1, and goes on untouched.

use integration_tests::victim::Link;
use integration_tests::{Images, Program, assert_refused, root};
use std::io::Write as _;
use std::process::Stdio;

fn refused(kind: &str, words: &[&str]) {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("refused", Link::Dynamic) else {
        return;
    };
    let stdin = if kind == "pipe" {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    let mut victim = program.start_with(&[kind], stdin);
    let mut writer = victim.child.as_mut().and_then(|child| child.stdin.take());
    if let Some(writer) = &mut writer {
        writer.write_all(b"sent").expect("the pipe has room");
    }
    let maps = || std::fs::read_to_string(format!("/proc/{}/maps", victim.pid)).expect("its maps");
    let before = maps();
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[]);
    assert_refused(&output, words);
    assert_refused(&output, &[&victim.pid.to_string()]);
    assert_eq!(before, maps(), "a mapping changed");
    let left: Vec<_> = std::fs::read_dir(&images.0)
        .expect("the folder")
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().ends_with(".img"))
        .collect();
    assert!(left.is_empty(), "images left behind: {left:?}");
    victim.assert_free();
    victim.check();
}

#[test]
fn a_unix_socket() {
    refused("socket", &["descriptor 4", "socket"]);
}

#[test]
fn an_inotify_watch() {
    refused("inotify", &["descriptor 4", "inotify"]);
}

#[test]
fn a_child_process() {
    refused("child", &["child"]);
}

#[test]
fn a_deleted_file() {
    refused("deleted", &["descriptor 4", "deleted"]);
}

#[test]
fn a_pipe_whose_other_end_is_elsewhere() {
    refused("pipe", &["descriptor 0", "pipe"]);
}
