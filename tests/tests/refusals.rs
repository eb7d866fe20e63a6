//! What cannot be dumped yet is refused by name, with status 1, and goes on untouched.

use integration_tests::victim::Link;
use integration_tests::{Images, Program, assert_refused, root, wait_until};
use std::io::Write as _;
use std::process::{Output, Stdio};

fn refused(kind: &str, words: &[&str]) {
    if let Some((pid, output)) = refused_somewhere(kind, words) {
        assert_refused(&output, &[&pid.to_string()]);
    }
}

/// The same, of any process of the tree. Returns the first one, and what the dump said.
fn refused_somewhere(kind: &str, words: &[&str]) -> Option<(u32, Output)> {
    if !root() {
        return None;
    }
    let program = Program::compile("refused", Link::Dynamic)?;
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
    Some((victim.pid, output))
}

#[test]
fn a_unix_socket() {
    refused("socket", &["descriptor 4", "SO_ATTACH_BPF"]);
}

/// A thread that has ended cannot be made in a process that lives.
#[test]
fn a_file_of_a_thread_that_has_ended() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("procfiles", Link::Dynamic) else {
        return;
    };
    let victim = program.start(&["ended"]);
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[]);
    assert_refused(&output, &["descriptor", "/proc/", "of thread", "has ended"]);
    victim.assert_free();
    victim.check();
}

#[test]
fn a_netlink_socket_with_an_answer() {
    let words = ["descriptor 4", "a message of the kernel waits"];
    refused("netlink", &words);
}

#[test]
fn a_socket_of_a_virtual_machine() {
    refused("vsock", &["descriptor 4", "is not kept"]);
}

#[test]
fn a_ring_of_packets_that_is_mapped() {
    refused("ring", &["memory", "a ring of a socket of packets"]);
}

#[test]
fn a_connection_of_tcp_that_waits() {
    let words = ["descriptor 4", "1 connections wait", "--skip-in-flight"];
    refused("queued", &words);
}

#[test]
fn a_corked_socket() {
    refused("corked", &["descriptor 4", "corked"]);
}

#[test]
fn an_mptcp_socket() {
    refused("mptcp", &["descriptor 4", "is not kept"]);
}

#[test]
fn a_connection_that_leaves_the_tree() {
    refused("leaving", &["descriptor 4", "outside", "--ext-unix-sk"]);
}

#[test]
fn words_on_a_connection_that_waits() {
    refused("waiting", &["descriptor 5", "accepts the connection"]);
}

#[test]
fn events_of_fanotify() {
    refused("fanotify", &["descriptor 4", "events wait", "answer"]);
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
fn a_ring_that_was_overwritten() {
    refused("aio", &["memory ", "io_setup", "overwritten"]);
}

#[test]
fn a_ring_of_the_parent() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("aio", Link::Dynamic) else {
        return;
    };
    let victim = program.start(&["forked"]);
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[]);
    let child = victim.descendants()[0].to_string();
    assert_refused(&output, &[&child, "/[aio]", "of another process"]);
    victim.check();
}

#[test]
fn memory_of_a_userfaultfd() {
    refused("userfaultfd", &["descriptor 4", "memory ", "userfaultfd"]);
}

#[test]
fn a_seccomp_filter_with_a_listener() {
    refused("seccomp", &["seccomp", "listener"]);
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
fn a_descriptor_of_a_process_outside() {
    refused("pidfd", &["descriptor 4", "pidfd", "outside"]);
}

#[test]
fn a_master_whose_slave_is_in_use_outside() {
    refused(
        "pty",
        &["descriptor 4", "/dev/ptmx", "outside", "uses its slave"],
    );
}

#[test]
fn a_slave_whose_master_is_outside() {
    refused("slave", &["descriptor 4", "/dev/pts/", "--shell-job"]);
}

#[test]
fn a_namespace_of_its_own() {
    refused("namespace", &["uts namespace"]);
}

#[test]
fn children_in_another_time_than_their_parent() {
    refused("children-time", &["time_for_children namespace"]);
    refused_somewhere(
        "child-time",
        &[": time namespace: it is not that of the root"],
    );
}

#[test]
fn a_descriptor_of_a_namespace() {
    refused("foreign", &["uts:[", "another uts namespace"]);
}

#[test]
fn a_process_whose_first_thread_has_ended() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("headless", Link::Dynamic) else {
        return;
    };
    let victim = program.start(&[]);
    assert!(
        wait_until(|| victim.state() == Some('Z')),
        "{:?}",
        victim.state()
    );
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[]);
    let words = ["its first thread has ended", &victim.pid.to_string()];
    assert_refused(&output, &words);
    victim.signal("USR1");
    assert!(wait_until(|| victim.verdict().is_some()));
    assert_eq!(victim.verdict().as_deref(), Some("PASS"));
}

#[test]
fn a_thread_with_descriptors_of_its_own() {
    refused("thread-files", &["descriptors of thread"]);
}

#[test]
fn a_thread_in_a_network_of_its_own() {
    refused("thread-network", &["net namespace of thread"]);
}

#[test]
fn members_of_a_leaderless_session_at_two_parents() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("leaderless", Link::Dynamic) else {
        return;
    };
    let victim = program.start(&[]);
    let output = Images::new(&victim, "images").try_dump(victim.pid, &[]);
    assert_refused(&output, &["session", "neither its parent", "untouched"]);
    victim.assert_free();
    victim.check();
}
