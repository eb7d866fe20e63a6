//! What a dump does not keep it names, in one line; of a program that has no such thing it says nothing.

use integration_tests::victim::Link;
use integration_tests::{Images, Program, Victim, root, said, skip};
use std::path::{Path, PathBuf};

fn start(kind: &str) -> Option<Victim> {
    if !root() {
        return None;
    }
    Some(Program::compile("lossy", Link::Dynamic)?.start(&[kind]))
}

/// Dumps and restores; the one line has to hold all of `words`, and there is none where there are no words.
fn named(mut victim: Victim, words: &[&str]) {
    let images = Images::new(&victim, "images");
    let others = victim.descendants();
    let output = images.try_dump(victim.pid, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("not kept:"))
        .collect();
    assert_eq!(
        lines.len(),
        usize::from(!words.is_empty()),
        "{}",
        said(&output)
    );
    for word in words {
        assert!(
            lines[0].contains(word),
            "no word of {word}: {}",
            said(&output)
        );
    }
    victim.reap_with(&others);
    images.restore();
    victim.check();
}

fn lossy(kind: &str, words: &[&str]) {
    if let Some(victim) = start(kind) {
        named(victim, words);
    }
}

#[test]
fn what_waits_in_a_socket_of_the_network() {
    if let Some(victim) = start("datagram") {
        named(
            victim,
            &["datagrams", "UDP socket", "another socket has the port"],
        );
    }
}

#[test]
fn nothing() {
    lossy("nothing", &[]);
}

#[test]
fn keyrings() {
    lossy("keyring", &["keyring of the process", "keyring of thread"]);
}

#[test]
fn a_watch_that_has_told_its_event() {
    lossy("watch", &["EPOLLONESHOT", "descriptor 4"]);
}

#[test]
fn events_of_fanotify() {
    lossy(
        "events",
        &["events that wait in a fanotify", "descriptor 4"],
    );
}

#[test]
fn a_write_hint() {
    lossy("hint", &["write hint", "memfd short-lived"]);
}

#[test]
fn times_of_messages() {
    lossy("stamp", &["times at which messages", "socket:["]);
}

#[test]
fn children_of_threads() {
    lossy("thread", &["thread that made a child", "by thread"]);
}

#[test]
fn semaphores_to_undo() {
    lossy("semaphore", &["SEM_UNDO"]);
}

#[test]
fn an_audit_session() {
    if Path::new("/proc/self/sessionid").exists() {
        lossy("login", &["audit session"]);
    } else {
        skip("no audit sessions");
    }
}

/// A control group of the test's own, which goes when this goes.
struct Group(PathBuf);

impl Group {
    /// Makes one in any hierarchy where this is allowed.
    fn make(pid: u32) -> Option<Group> {
        let mounts = std::fs::read_to_string("/proc/mounts").expect("the mounts");
        let mounts = mounts.lines().filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let path = words.next()?;
            words.next().filter(|kind| kind.starts_with("cgroup"))?;
            Some(PathBuf::from(path))
        });
        // A group of cpusets takes nobody before it is given processors.
        let mut hierarchies = mounts.filter(|path| !path.to_string_lossy().contains("cpuset"));
        hierarchies.find_map(|path| {
            let path = path.join(format!("orchestrator-test-{pid}"));
            std::fs::create_dir(&path).ok()?;
            let group = Group(path);
            std::fs::write(group.0.join("cgroup.procs"), pid.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_control_group() {
    let Some(victim) = start("cgroup") else {
        return;
    };
    match Group::make(victim.pid) {
        Some(group) => {
            let name = group
                .0
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            named(victim, &["cgroup", &name]);
        }
        None => skip("no control group can be made"),
    }
}
