//! Lazy restores: trees that run before their memory is there.

use integration_tests::victim::Link;
use integration_tests::{
    Images, Place, Program, Source, Victim, assert_refused, has_lazy_memory, orchestrator, present,
    run, said, skip, wait_until,
};
use orchestrator::image;
use orchestrator::memory::dirty::Method;
use orchestrator::snapshot::PageLocation;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

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

/// Returns whether SIGSTOP waits for a process. In a system call that needs memory which does not come the kernel tries again and
/// again, and neither takes the signal nor goes back to the program.
fn has_stop_waiting(victim: &Victim) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", victim.pid));
    let status = status.unwrap_or_default();
    let mut waiting = status
        .lines()
        .filter_map(|line| line.strip_prefix("ShdPnd:"));
    let mask = waiting
        .next()
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << 18 != 0)
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
                let is_stopped =
                    wait_until(|| victim.state() == Some('T') || has_stop_waiting(&victim));
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

/// Post-copy alone, and after rounds of pre-copy: what they brought is not asked for again.
#[test]
fn memory_comes_from_where_it_was_dumped() {
    if !has_lazy_memory() || !present("unshare") {
        return;
    }
    for rounds in [0, 2] {
        let Some(program) = Program::compile("rounds", Link::Dynamic) else {
            return;
        };
        if rounds > 0 && Method::of_this_kernel().is_none() {
            return skip("no dirty tracking");
        }
        let mut victim = program.start(&["4"]);
        let mut more = Vec::new();
        for round in 0..rounds {
            let name = format!("round-{round}");
            let before = Images::new(&victim, &name);
            let (pid, dir) = (victim.pid.to_string(), before.0.to_str().expect("UTF-8"));
            let output = run(&[&["pre-dump", &pid, "-D", dir][..], &more].concat());
            assert!(output.status.success(), "pre-dump: {}", said(&output));
            more = match round {
                0 => vec!["--prev-images-dir", "../round-0"],
                _ => vec!["--prev-images-dir", "../round-1"],
            };
        }
        let images = Images::new(&victim, "images");
        let mut source = Source::start(&Place::default(), &victim, &images, &more);
        let set = image::read(&images.0).expect("images");
        let count = |is: fn(PageLocation) -> bool| {
            let spaces = set
                .snapshot
                .tasks
                .iter()
                .filter_map(|task| task.mm.as_ref());
            let runs = spaces.flat_map(|mm| &mm.pages).filter(|run| is(run.at));
            runs.map(|run| run.pages).sum::<u64>()
        };
        let left = count(|at| at == PageLocation::Source);
        let here = count(|at| at != PageLocation::Source);
        assert!(left > 100, "{left} pages were left, {here} are here");
        let output = source.restore(&Place::default(), &victim, &images, ("check", "2"));
        source.assert_passed(&output, &victim);
        victim.reap();
    }
}

/// Where the restored tree is lost, the dumped one runs on.
#[test]
fn a_source_outlives_a_broken_link() {
    if !has_lazy_memory() || !present("unshare") {
        return;
    }
    let Some(program) = Program::compile("rounds", Link::Dynamic) else {
        return;
    };
    let victim = program.start(&["5"]);
    let images = Images::new(&victim, "images");
    let mut source = Source::start(&Place::default(), &victim, &images, &[]);
    assert_refused(
        &images.try_restore(&["-d"]),
        &["left where", "--lazy-pages"],
    );
    let output = source.restore(&Place::default(), &victim, &images, ("kill", "100000"));
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(source.status(), Some(1));
    victim.assert_free();
    victim.check();
}
