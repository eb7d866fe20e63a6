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
    refused("socket", &["descriptor 4", "listening socket"]);
}

#[test]
fn an_inotify_watch() {
    refused("inotify", &["descriptor 4", "inotify"]);
}

#[test]
fn a_child_with_the_working_directory_of_its_parent() {
    refused("child", &["working directory", "shares it with process"]);
}

#[test]
fn a_deleted_file_with_other_names() {
    refused("deleted", &["descriptor 4", "deleted", "has others"]);
}

#[test]
fn a_deleted_file_above_the_limit() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("ghosts", Link::Dynamic) else {
        return;
    };
    let victim = program.start(&[]);
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &["--ghost-limit", "64K"]);
    assert_refused(&output, &["plain (deleted)", "--ghost-limit 102400"]);
    victim.assert_free();
    victim.check();
}

#[test]
fn a_pipe_whose_other_end_is_elsewhere() {
    refused("pipe", &["descriptor 0", "pipe"]);
}

#[test]
fn a_deleted_file_with_other_names_that_is_mapped() {
    refused("deleted-mapping", &["memory ", "deleted"]);
}

#[test]
fn a_file_lock() {
    refused("lock", &["descriptor 4", "lock", "--file-locks"]);
}

#[test]
fn a_lease() {
    refused("lease", &["descriptor 4", "lease"]);
}

#[test]
fn shared_memory_of_system_v() {
    refused("shared-memory", &["memory ", "System V"]);
}

#[test]
fn a_ring_of_asynchronous_io() {
    refused("aio", &["memory ", "io_setup"]);
}

#[test]
fn memory_of_a_userfaultfd() {
    refused("userfaultfd", &["descriptor 4", "memory ", "userfaultfd"]);
}

#[test]
fn a_seccomp_filter() {
    refused("seccomp", &["seccomp"]);
}

#[test]
fn an_io_uring() {
    refused("io_uring", &["descriptor 4", "io_uring"]);
}

#[test]
fn a_performance_counter() {
    refused("perf", &["descriptor 4", "perf_event"]);
}

#[test]
fn a_descriptor_of_a_process() {
    refused("pidfd", &["descriptor 4"]);
}

#[test]
fn a_message_queue() {
    refused("queue", &["descriptor 4"]);
}

#[test]
fn a_pseudo_terminal() {
    refused("pty", &["descriptor 4", "pseudo-terminal"]);
}

#[test]
fn a_namespace_of_its_own() {
    refused("namespace", &["uts namespace"]);
}

#[test]
fn a_thread_with_descriptors_of_its_own() {
    refused("thread-files", &["descriptors of thread"]);
}

#[test]
fn a_thread_with_a_working_directory_of_its_own() {
    refused("thread-fs", &["working directory of thread"]);
}

#[test]
fn a_thread_in_a_network_of_its_own() {
    refused("thread-network", &["net namespace of thread"]);
}
