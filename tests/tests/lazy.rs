//! Lazy restores: trees that run before their memory is there.

use integration_tests::victim::Link;
use integration_tests::{
    Images, Program, Victim, assert_refused, orchestrator, present, root, run, said, skip,
    wait_until,
};
use orchestrator::image;
use orchestrator::memory::dirty::Method;
use orchestrator::snapshot::PageLocation;
use orchestrator::sys::uffd;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

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

/// What restores in a process namespace of its own: there the ids are free that the source has still.
const ELSEWHERE: &str = r#"
"$BIN" lazy-pages -D "$IMAGES" --page-server --address 127.0.0.1 --port "$PORT" --pause "$PAUSE" &
daemon=$!
while [ ! -S "$IMAGES/lazy-pages.socket" ]; do
    kill -0 $daemon || exit 2
    sleep 0.01
done
"$BIN" restore --lazy-pages -D "$IMAGES" -d --host-clocks || exit 3
if [ "$END" = kill ]; then
    kill -KILL $daemon
    while kill -0 "$VICTIM" 2>/dev/null; do sleep 0.01; done
    exit 0
fi
wait $daemon || exit 4
kill -USR1 "$VICTIM" || exit 5
while ! grep -q -e PASS -e FAIL "$OUTPUT"; do sleep 0.01; done
"#;

/// A dump that leaves the memory where it is, and waits to be asked for it.
struct Source {
    child: Child,
    port: String,
}

impl Source {
    fn start(victim: &Victim, images: &Images, more: &[&str]) -> Source {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("its number").port().to_string();
        drop(free);
        let mut child = Command::new(orchestrator())
            .args(["dump", &victim.pid.to_string(), "-D"])
            .arg(&images.0)
            .args(["--lazy-pages", "--address", "127.0.0.1", "--port", &port])
            .args(["--status-fd", "1"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the orchestrator can be started");
        let mut word = [1];
        let out = child.stdout.as_mut().expect("it is piped");
        let told = out.read(&mut word).expect("a word");
        assert_eq!((told, word), (1, [0]), "the dump is not ready");
        Source { child, port }
    }

    /// Restores from it, and does with it what `end` says; returns how that went.
    fn restore(&self, victim: &Victim, images: &Images, (end, pause): (&str, &str)) -> Output {
        Command::new("unshare")
            .args([
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "bash",
                "-c",
                ELSEWHERE,
            ])
            .env("BIN", orchestrator())
            .env("IMAGES", &images.0)
            .env("PORT", &self.port)
            .env("PAUSE", pause)
            .env("END", end)
            .env("VICTIM", victim.pid.to_string())
            .env("OUTPUT", victim.folder().join("output"))
            .stdin(Stdio::null())
            .output()
            .expect("unshare can be started")
    }

    fn status(&mut self) -> Option<i32> {
        let ended = wait_until(|| !matches!(self.child.try_wait(), Ok(None)));
        assert!(ended, "the dump does not end");
        self.child.wait().expect("its status").code()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
        let mut source = Source::start(&victim, &images, &more);
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
        let output = source.restore(&victim, &images, ("check", "2"));
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(
            victim.verdict().as_deref(),
            Some("PASS"),
            "{}",
            victim.text()
        );
        assert_eq!(source.status(), Some(0));
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
    let mut source = Source::start(&victim, &images, &[]);
    assert_refused(
        &images.try_restore(&["-d"]),
        &["left where", "--lazy-pages"],
    );
    let output = source.restore(&victim, &images, ("kill", "100000"));
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(source.status(), Some(1));
    victim.assert_free();
    victim.check();
}
