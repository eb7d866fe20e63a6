//! The machine against real processes: dumped by the peer (`CRIU=path`), restored here. Without the peer or root there is
//! nothing to run.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use orchestrator::restore::{self, Error, Options};
use orchestrator::sys::signal::kill;
use orchestrator::sys::wait::wait_tid;
use orchestrator::sys::{Pid, file};

/// How long a process may take to show a change.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the peer's program, where it can be used; says that the test is skipped where it cannot.
fn peer() -> Option<PathBuf> {
    let path = std::env::var_os("CRIU").map(PathBuf::from);
    let is_root = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.contains("\nUid:\t0\t0"));
    let path = path.filter(|path| path.exists() && is_root);
    if path.is_none() {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a test");
        // Straight to the descriptor, and in one write: the test runner keeps what `eprintln!` says of a test that passes.
        let line = format!("skipped: needs root and CRIU=path of the peer ({name})\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    path
}

/// Starts a session of its own and returns its leader.
#[expect(
    clippy::zombie_processes,
    reason = "dumps and restores change whose child it is: it is waited for by its number"
)]
fn start(program: &str, args: &[&str], output: &Path) -> Pid {
    let output = std::fs::File::create(output).expect("create");
    let child = Command::new("setsid")
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
        .expect("setsid starts");
    Pid(child.id() as i32)
}

/// Dumps a process by the peer, which ends it, and takes its status.
fn dump(peer: &Path, pid: Pid, dir: &Path) {
    let images = dir.join("images");
    std::fs::create_dir(&images).expect("create");
    let out = Command::new(peer)
        .args([
            "dump",
            "-t",
            &pid.to_string(),
            "-v4",
            "-o",
            "dump.log",
            "-D",
        ])
        .arg(&images)
        .output()
        .expect("the peer starts");
    let log = std::fs::read_to_string(images.join("dump.log")).unwrap_or_default();
    assert!(out.status.success(), "{log}");
    wait_tid(pid.leader()).expect("it was our child");
}

fn end(pid: Pid) {
    kill(pid, libc::SIGKILL).expect("kill");
    wait_tid(pid.leader()).expect("reap");
}

/// Returns the areas of a process. Private anonymous neighbours alike count as one: the kernel keeps those apart that
/// were written while they were not yet neighbours (`anon_vma`), and new ones it merges.
fn maps(pid: Pid) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let mut areas: Vec<(String, String, String)> = Vec::new();
    for line in text.lines() {
        let (range, rest) = line.split_once(' ').expect("a range");
        let (start, end) = range.split_once('-').expect("two addresses");
        let is_anonymous = rest.trim_end().ends_with("p 00000000 00:00 0");
        match areas.last_mut() {
            Some((_, before, what)) if is_anonymous && before == start && what == rest => {
                *before = end.into();
            }
            _ => areas.push((start.into(), end.into(), rest.into())),
        }
    }
    let line = |(start, end, rest)| format!("{start}-{end} {rest}");
    areas.into_iter().map(line).collect()
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}

fn proc_file(pid: Pid, name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default()
}

/// Runs `script` in a shell that counts into a file, through a dump and a restore.
fn counts_on(program: &str, args: &[&str]) {
    let Some(peer) = peer() else {
        return;
    };
    let dir = tempfile::tempdir().expect("tempdir");
    let output = dir.path().join("output");
    let pid = start(program, args, &output);
    wait_for("it counts", || size(&output) > 20);
    let before = maps(pid);
    dump(&peer, pid, dir.path());
    let counted = size(&output);
    let restored = restore::restore_images(&dir.path().join("images"), &Options::default());
    let restored = restored.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(restored.pid, pid);
    wait_for("it counts on", || size(&output) > counted + 20);
    assert_eq!(maps(pid), before);
    end(pid);
    let text = std::fs::read_to_string(&output).expect("output");
    let numbers = text.lines().map(|line| line.parse().expect("a number"));
    let numbers: Vec<u64> = numbers.collect();
    assert!(
        numbers.iter().copied().eq(0..numbers.len() as u64),
        "{text}"
    );
}

#[test]
fn a_sleeping_program_sleeps_on() {
    let Some(peer) = peer() else {
        return;
    };
    let dir = tempfile::tempdir().expect("tempdir");
    let pid = start("sleep", &["1000"], &dir.path().join("output"));
    wait_for("it sleeps", || proc_file(pid, "comm") == "sleep\n");
    wait_for("it sleeps", || {
        proc_file(pid, "wchan").contains("nanosleep")
    });
    let before = maps(pid);
    dump(&peer, pid, dir.path());
    let images = dir.path().join("images");
    let options = Options {
        leave_stopped: true,
        ..Options::default()
    };
    let restored = restore::restore_images(&images, &options);
    let restored = restored.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(restored.pid, pid);
    wait_for("it stands", || proc_file(pid, "stat").contains(" T "));
    let taken = restore::restore_images(&images, &Options::default());
    match taken {
        Err(Error::PidTaken { pid: of, name }) => assert_eq!((of, &*name), (pid.0, "sleep")),
        other => panic!("{other:?}"),
    }
    kill(pid, libc::SIGCONT).expect("continue");
    wait_for("it sleeps on", || {
        proc_file(pid, "wchan").contains("nanosleep")
    });
    assert_eq!(maps(pid), before);
    assert_eq!(proc_file(pid, "cmdline"), "sleep\x001000\0");
    let link = std::fs::read_link(format!("/proc/{pid}/exe")).expect("exe");
    assert!(file::statx_path(&path(&link)).is_ok());
    end(pid);
}

fn path(path: &Path) -> std::ffi::CString {
    std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("a path has no zero")
}

#[test]
fn a_shell_counts_on() {
    let script = "i=0; while :; do echo $i; i=$((i+1)); read -t 0.01 x </dev/zero; done";
    counts_on("bash", &["-c", script]);
}

#[test]
fn an_interpreter_with_threads_counts_on() {
    let script = "\
import threading, time, sys
def spin():
    while True:
        time.sleep(0.003)
threads = [threading.Thread(target=spin, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
n = 0
block = bytes(range(256)) * 65536
while True:
    print(n, flush=True)
    n += 1
    assert block == bytes(range(256)) * 65536
    time.sleep(0.001)
";
    counts_on("python3", &["-c", script]);
}

#[test]
fn a_failure_leaves_nothing() {
    let Some(peer) = peer() else {
        return;
    };
    let dir = tempfile::tempdir().expect("tempdir");
    let output = dir.path().join("output");
    let pid = start("sleep", &["1000"], &output);
    wait_for("it sleeps", || {
        proc_file(pid, "wchan").contains("nanosleep")
    });
    dump(&peer, pid, dir.path());
    std::fs::remove_file(&output).expect("remove");
    let failed = restore::restore_images(&dir.path().join("images"), &Options::default());
    let words = failed.expect_err("a file is gone").to_string();
    assert!(words.contains(output.to_str().expect("UTF-8")), "{words}");
    assert!(words.contains("cannot be found here"), "{words}");
    assert!(kill(pid, 0).is_err(), "nothing is left");
}

/// Returns the largest step between neighbouring lines, which are times in seconds, over a dump and a restore with a
/// second between them.
fn largest_step(peer: &Path, options: &Options) -> f64 {
    let script = "\
import time
while True:
    print(time.monotonic(), flush=True)
    time.sleep(0.01)
";
    let dir = tempfile::tempdir().expect("tempdir");
    let output = dir.path().join("output");
    let pid = start("python3", &["-c", script], &output);
    wait_for("it tells the time", || size(&output) > 100);
    dump(peer, pid, dir.path());
    std::thread::sleep(Duration::from_secs(1));
    let told = size(&output);
    let restored = restore::restore_images(&dir.path().join("images"), options);
    assert_eq!(restored.expect("restored").pid, pid);
    wait_for("it tells the time again", || size(&output) > told + 100);
    end(pid);
    let text = std::fs::read_to_string(&output).expect("output");
    let times: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let steps = times.windows(2).map(|two| two[1] - two[0]);
    steps.fold(0.0, f64::max)
}

#[test]
fn the_clock_goes_on_unless_it_is_the_hosts() {
    let Some(peer) = peer() else {
        return;
    };
    let own = largest_step(&peer, &Options::default());
    assert!((0.0..1.0).contains(&own), "{own}");
    let hosts = Options {
        host_clocks: true,
        ..Options::default()
    };
    let host = largest_step(&peer, &hosts);
    assert!(host >= 1.0, "{host}");
}

#[test]
fn a_process_that_is_killed_while_it_is_restored_is_told_of() {
    let Some(peer) = peer() else {
        return;
    };
    let dir = tempfile::tempdir().expect("tempdir");
    let script = "\
import time
block = bytes(range(256)) * (1 << 20)
print('ready', flush=True)
time.sleep(1000)
";
    let output = dir.path().join("output");
    let pid = start("python3", &["-c", script], &output);
    wait_for("it is ready", || size(&output) > 0);
    dump(&peer, pid, dir.path());
    let killer = std::thread::spawn(move || {
        let start = Instant::now();
        while kill(pid, libc::SIGKILL).is_err() {
            assert!(start.elapsed() < PATIENCE, "it begins");
        }
    });
    let images = dir.path().join("images");
    match restore::restore_images(&images, &Options::default()) {
        Err(Error::Ended { pid: of, cause, .. }) => assert_eq!((of, &*cause), (pid.0, "signal 9")),
        other => panic!("{other:?}"),
    }
    killer.join().expect("killed");
    assert!(kill(pid, 0).is_err(), "nothing is left");
}
