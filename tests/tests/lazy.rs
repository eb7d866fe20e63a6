//! Lazy restores: trees that run before their memory is there.

use integration_tests::victim::Link;
use integration_tests::{
    Images, Program, Victim, assert_refused, orchestrator, root, said, skip, wait_until,
};
use orchestrator::sys::uffd;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

/// Returns whether this kernel and user have lazy memory; says that the test is skipped where they have not.
fn has_lazy_memory() -> bool {
    if !root() {
        return false;
    }
    let works = uffd::userfaultfd().is_ok_and(|uffd| uffd::enable_missing(uffd).is_ok());
    if !works {
        skip("no userfaultfd with events");
    }
    works
}

/// A daemon that brings memory. Killed when it goes.
struct Daemon(Child);

impl Daemon {
    /// Starts one for a set, and waits until a restore can come.
    fn start(images: &Images, more: &[&str]) -> Daemon {
        let mut child = Command::new(orchestrator())
            .args(["lazy-pages", "-D"])
            .arg(&images.0)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the orchestrator can be started");
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        assert!(line.starts_with("waiting"), "it says [{line}]");
        Daemon(child)
    }

    /// Waits until all memory is there.
    fn finish(mut self) {
        let ended = wait_until(|| !matches!(self.0.try_wait(), Ok(None)));
        assert!(ended, "memory does not come");
        let status = self.0.wait().expect("its status");
        assert!(status.success(), "{status}, it says [{}]", self.errors());
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        let read = self
            .0
            .stderr
            .take()
            .map(|mut errors| errors.read_to_string(&mut text));
        read.transpose().expect("what it says");
        text
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Dumps a victim away, and returns its images.
fn dumped(victim: &mut Victim, name: &str, more: &[&str]) -> Images {
    let images = Images::new(victim, name);
    let all = victim.descendants();
    images.dump(victim.pid, more);
    victim.reap_with(&all);
    images
}

fn restore(images: &Images) {
    let output = images.try_restore(&["-d", "--host-clocks", "--lazy-pages"]);
    assert!(output.status.success(), "restore: {}", said(&output));
}

/// A program that maps, unmaps, moves, discards and writes memory and forks, at full rate, all while it comes.
#[test]
fn memory_comes_while_everything_is_done_with_it() {
    if !has_lazy_memory() {
        return;
    }
    for (seed, pause, more) in [("1", "0", &[][..]), ("2", "2", &["--portable"])] {
        let Some(program) = Program::compile("rounds", Link::Dynamic) else {
            return;
        };
        let mut victim = program.start(&[seed]);
        let images = dumped(&mut victim, "images", more);
        let daemon = Daemon::start(&images, &["--pause", pause]);
        restore(&images);
        daemon.finish();
        victim.check();
    }
}

/// Programs of other kinds: threads that end, a tree, areas of all kinds, what is shared.
#[test]
fn other_programs_run_before_their_memory_is_there() {
    if !has_lazy_memory() {
        return;
    }
    for name in ["threads", "sessions", "maps", "joint", "huge"] {
        let Some(program) = Program::compile(name, Link::Dynamic) else {
            return;
        };
        let mut victim = program.start(&[]);
        let images = dumped(&mut victim, "images", &[]);
        let daemon = Daemon::start(&images, &["--pause", "20"]);
        restore(&images);
        victim.check();
        daemon.finish();
    }
}

/// Nobody runs on with zeros for memory.
#[test]
fn a_tree_ends_with_its_daemon() {
    if !has_lazy_memory() {
        return;
    }
    for how in ["kill", "stop"] {
        let Some(program) = Program::compile("rounds", Link::Dynamic) else {
            return;
        };
        let mut victim = program.start(&["3"]);
        let images = dumped(&mut victim, "images", &[]);
        let mut daemon = Daemon::start(&images, &["--pause", "100000", "--on-failure", how]);
        restore(&images);
        let all = victim.descendants();
        daemon.0.kill().expect("killed");
        match how {
            "kill" => {
                victim.reap_with(&all);
                let errors = daemon.errors();
                let word = format!("process {} was killed", victim.pid);
                assert!(errors.contains(&word), "it says [{errors}]");
            }
            _ => {
                let is_stopped = wait_until(|| victim.state() == Some('T'));
                assert!(is_stopped, "state {:?}", victim.state());
                victim.kill_with(&all);
            }
        }
    }
}

#[test]
fn what_cannot_be_lazy_is_refused() {
    if !has_lazy_memory() {
        return;
    }
    let Some(program) = Program::compile("counter", Link::Dynamic) else {
        return;
    };
    let mut victim = program.start(&[]);
    let images = dumped(&mut victim, "images", &[]);
    let output = images.try_restore(&["-d", "--lazy-pages"]);
    assert_refused(
        &output,
        &["no lazy-pages daemon waits", "lazy-pages.socket"],
    );
    for option in ["--auto-dedup", "--stream"] {
        let output = images.try_restore(&["-d", "--lazy-pages", option]);
        assert_refused(&output, &["--lazy-pages", "cannot be used with"]);
    }
    // A daemon whose restore fails ends too.
    let mut daemon = Daemon::start(&images, &[]);
    let output = images.try_restore(&["-d", "--lazy-pages", "--inherit-fd", "fd[0]:pipe[1]"]);
    assert!(!output.status.success(), "{}", said(&output));
    let status = daemon.0.wait().expect("its status");
    assert!(!status.success(), "it says [{}]", daemon.errors());
    images.restore();
    victim.check();
}
