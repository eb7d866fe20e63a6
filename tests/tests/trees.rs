//! Trees that do not stand still, and restores of trees that are killed.

use integration_tests::victim::Link;
use integration_tests::{Images, Program, orchestrator as binary, root, wait_until};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const DUMPS: usize = 60;
const KILLS: u64 = 12;

/// Children and threads that live for a moment are all found, or have ended: nobody is lost, nobody comes twice.
#[test]
fn a_storm_of_children() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("storm", Link::Dynamic) else {
        return;
    };
    let mut victim = program.start(&[]);
    for number in 0..DUMPS {
        let images = Images::new(&victim, &number.to_string());
        images.dump(victim.pid, &["--leave-running"]);
        std::fs::remove_dir_all(&images.0).expect("removed");
        victim.assert_lives();
    }
    for number in 0..5 {
        let images = Images::new(&victim, &format!("cycle-{number}"));
        images.dump(victim.pid, &[]);
        victim.reap();
        let set = orchestrator::image::read(&images.0).expect("images");
        let pids: Vec<u32> = set
            .snapshot
            .tasks
            .iter()
            .map(|task| task.pid as u32)
            .collect();
        assert!(
            wait_until(|| pids.iter().all(is_free)),
            "pids of {pids:?} are not free"
        );
        images.restore();
    }
    victim.check();
}

fn is_free(pid: &u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

/// Returns whether a process is there and has nothing of the restorer mapped any more.
fn is_restored(pid: &u32) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"));
    maps.is_ok_and(|maps| !maps.contains("/memfd:restore"))
}

/// Whenever a restore is killed, nothing of the tree is left.
#[test]
fn a_restore_that_is_killed_leaves_nothing() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("tree", Link::Dynamic) else {
        return;
    };
    let mut victim = program.start(&[]);
    let images = Images::new(&victim, "images");
    let mut all = victim.descendants();
    images.dump(victim.pid, &[]);
    victim.reap_with(&all);
    all.push(victim.pid);
    let dir = images.0.to_str().expect("UTF-8");
    for number in 0..KILLS {
        let mut restore = Command::new(binary())
            .args(["restore", "-d", "-D", dir])
            .stdin(Stdio::null())
            .spawn()
            .expect("the orchestrator can be started");
        std::thread::sleep(Duration::from_micros(1000 + number * 3000));
        restore.kill().expect("a child of ours");
        restore.wait().expect("a child of ours");
        // It may have been faster: then all of the tree is there, and nothing of the restorer in it.
        let settled = wait_until(|| all.iter().all(is_free) || all.iter().all(is_restored));
        assert!(settled, "of {all:?} there is one after kill {number}");
        if !all.iter().all(is_free) {
            victim.kill_with(&all);
        }
    }
    images.restore();
    victim.check();
}
