//! Jobs of a shell, and their terminals.

use integration_tests::{Images, Program, orchestrator, present, root, wait_until};
use std::process::{Command, Stdio};

/// Runs a script with the command line under test and a folder for images; it says PASS.
fn passes(script: &str) {
    if !root() || !present("python3") || !present("bash") {
        return;
    }
    let images = tempfile::TempDir::new().expect("a temporary folder");
    let output = Command::new("python3")
        .arg(format!("{}/scripts/{script}", env!("CARGO_MANIFEST_DIR")))
        .arg(orchestrator())
        .arg(images.path())
        .stdin(Stdio::null())
        .output()
        .expect("python3 can be started");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "PASS\n", "{words}");
}

/// `cat` reads a terminal that does not echo; restored in the foreground of another, it reads that, which does not echo then.
#[test]
fn a_job_goes_on_in_another_terminal() {
    passes("job.py");
}

/// A shell that leads the session of a terminal outside, with its jobs; restored, it takes the terminal of who restores it.
#[test]
fn a_login_shell_goes_on_in_another_terminal() {
    passes("login.py");
}

/// A daemon whose session has lost its leader by its second fork; ten times left running, killed and restored.
#[test]
fn a_daemon_that_has_forked_twice() {
    passes("daemon.py");
}

/// A server with two panes: what is typed to it after each cycle, and by a client that is attached at the end, arrives.
#[test]
fn a_tmux_server_with_vim_and_top() {
    if ["tmux", "vim", "top", "unshare"]
        .iter()
        .all(|program| present(program))
    {
        passes("tmux.py");
    }
}

/// A shell in a terminal whose master is in the tree: a pipeline of four stages in the foreground, and two jobs in the background.
#[test]
fn a_shell_in_a_terminal_of_the_tree() {
    if !root() || !present("python3") || !present("bash") {
        return;
    }
    let script = include_str!("../scripts/shell.py");
    let mut victim = Program::script("python3", script).start(&[]);
    Images::new(&victim, "running").dump(victim.pid, &["--leave-running"]);
    for cycle in ["first", "second", "third"] {
        let images = Images::new(&victim, cycle);
        images.dump(victim.pid, &[]);
        let set = orchestrator::image::read(&images.0).expect("images");
        let tasks = set.snapshot.tasks.iter();
        let pids: Vec<u32> = tasks.map(|task| task.pid as u32).collect();
        victim.reap_with(&pids);
        images.restore();
    }
    std::fs::write(victim.folder().join("go"), "").expect("written");
    wait_until(|| victim.verdict().is_some() || !victim.lives());
    assert_eq!(
        victim.verdict().as_deref(),
        Some("PASS"),
        "{}",
        victim.text()
    );
}
