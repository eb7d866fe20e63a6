//! Test support: victims, and the command line that dumps and restores them. A victim (`victims/*.c`) writes `READY` to its
//! output when it is set up, and `PASS` or `FAIL: reason` after SIGUSR1. Whatever a test starts is killed, by its id, when
//! the test ends; each test has a folder of its own.

pub mod binary;
pub mod clock;
pub mod seen;
pub mod server;
pub mod source;
pub mod victim;

use orchestrator::sys::uffd;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub use binary::orchestrator;
pub use clock::steadily;
pub use seen::Seen;
pub use server::Server;
pub use source::{Place, Source};
pub use victim::{Program, Victim};

/// Longest time that anything a test waits for may take.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Says on standard error that a test was skipped; one line each, so that they can be counted.
pub fn skip(reason: &str) {
    let name = std::thread::current()
        .name()
        .unwrap_or("a test")
        .to_string();
    // Straight to the descriptor: the test runner keeps what `eprintln!` says of a test that passes. In one write, so that
    // what the runner says meanwhile does not stand in the middle of the line.
    let line = format!("skipped: {reason} ({name})\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Returns whether this process is root; says that the test is skipped where it is not.
pub fn root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let root = field(&status, "Uid:").is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"));
    if !root {
        skip("needs root");
    }
    root
}

/// Returns whether this kernel and user have lazy memory; says that the test is skipped where they have not.
pub fn has_lazy_memory() -> bool {
    if !root() {
        return false;
    }
    let works = uffd::userfaultfd().is_ok_and(|uffd| uffd::enable_missing(uffd).is_ok());
    if !works {
        skip("no userfaultfd with events");
    }
    works
}

/// Returns whether `program` can be found; says that the test is skipped where it cannot.
pub fn present(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        skip(&format!("no {program}"));
    }
    found
}

/// Returns the rest of the line of a /proc file that starts with `name`.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

/// Waits until `done`, for at most [`PATIENCE`]; returns whether it came to pass.
pub fn wait_until(mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Runs the command line under test.
pub fn run(args: &[&str]) -> Output {
    Command::new(orchestrator())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the orchestrator can be started")
}

/// What a run said, for the message of a failing test.
pub fn said(output: &Output) -> String {
    format!(
        "{}, stdout [{}], stderr [{}]",
        output.status,
        String::from_utf8_lossy(&output.stdout).trim(),
        String::from_utf8_lossy(&output.stderr).trim()
    )
}

/// Asserts that a run failed as it should: status 1 and one line of error that holds each of `words`.
pub fn assert_refused(output: &Output, words: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(1), "status 1 wanted: {said}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("Error")).collect();
    assert_eq!(errors.len(), 1, "one line of error wanted: {said}");
    for word in words {
        assert!(
            errors[0].to_lowercase().contains(&word.to_lowercase()),
            "the error does not say {word:?}: {said}"
        );
    }
}

/// A folder of images of one test, and the commands on it.
#[derive(Debug)]
pub struct Images(pub PathBuf);

impl Images {
    /// Makes a folder `name` beside the victim's output.
    pub fn new(victim: &Victim, name: &str) -> Images {
        let dir = victim.folder().join(name);
        std::fs::create_dir(&dir).expect("a folder for the images");
        Images(dir)
    }

    /// Runs `dump` with `more` options; it may fail.
    pub fn try_dump(&self, pid: u32, more: &[&str]) -> Output {
        let pid = pid.to_string();
        let dir = self.0.to_str().expect("UTF-8");
        run(&[&["dump", &pid, "-D", dir], more].concat())
    }

    /// Runs `dump` with `more` options, which must succeed.
    pub fn dump(&self, pid: u32, more: &[&str]) {
        let output = self.try_dump(pid, more);
        assert!(output.status.success(), "dump {more:?}: {}", said(&output));
    }

    /// Copies all images to another folder, as one does to another machine.
    pub fn carry_over(&self, to: &Images) {
        for entry in std::fs::read_dir(&self.0).expect("the folder") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("UTF-8");
            if name.ends_with(".img") {
                std::fs::copy(entry.path(), to.0.join(name)).expect("copied");
            }
        }
    }

    /// Runs `restore` with `more` options; it may fail.
    pub fn try_restore(&self, more: &[&str]) -> Output {
        let dir = self.0.to_str().expect("UTF-8");
        run(&[&["restore", "-D", dir], more].concat())
    }

    /// Runs `restore -d`, which must succeed.
    pub fn restore(&self) {
        let output = self.try_restore(&["-d"]);
        assert!(output.status.success(), "restore: {}", said(&output));
    }
}
