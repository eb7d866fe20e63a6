//! Dumps with `--freeze-cgroup`, in both hierarchies: the cgroup stands still while all is seized and runs afterwards,
//! whatever becomes of the dump; and parents that nothing can stop.

use integration_tests::victim::Link;
use integration_tests::{
    Images, Program, Victim, assert_refused, orchestrator, root, skip, steadily, wait_until,
};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// A cgroup of this test's own. Removed when it goes, once it is empty.
struct Cgroup {
    path: PathBuf,
    control: PathBuf,
}

impl Cgroup {
    /// Makes one in the first or the unified hierarchy; says that the test is skipped where there is none.
    fn new(unified: bool) -> Option<Cgroup> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let at = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let is_it = match unified {
                true => fields[2] == "cgroup2",
                false => fields[2] == "cgroup" && fields[3].split(',').any(|o| o == "freezer"),
            };
            is_it.then(|| fields[1].to_string())
        });
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = at
            .map(|at| Path::new(&at).join(format!("freezer-test-{}-{number}", std::process::id())));
        let made = path.filter(|path| std::fs::create_dir(path).is_ok());
        let Some(path) = made else {
            skip("no cgroup with a freezer can be made");
            return None;
        };
        let name = if unified {
            "cgroup.freeze"
        } else {
            "freezer.state"
        };
        let control = path.join(name);
        Some(Cgroup { path, control })
    }

    fn take(&self, pid: u32) {
        std::fs::write(self.path.join("cgroup.procs"), pid.to_string()).expect("it joins");
    }

    fn state(&self) -> String {
        let state = std::fs::read_to_string(&self.control).expect("its state");
        state.trim().to_string()
    }

    fn runs(&self) -> bool {
        matches!(&*self.state(), "0" | "THAWED")
    }

    fn option(&self) -> [&str; 2] {
        ["--freeze-cgroup", self.path.to_str().expect("UTF-8")]
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for word in ["0", "THAWED"] {
            let _ = std::fs::write(&self.control, word);
        }
        wait_until(|| std::fs::remove_dir(&self.path).is_ok());
    }
}

/// Starts a victim in a cgroup, with `test` in each hierarchy.
fn in_both(name: &str, args: &[&str], test: impl Fn(&Cgroup, &mut Victim)) {
    if !root() {
        return;
    }
    orchestrator();
    for unified in [false, true] {
        let Some(program) = Program::compile(name, Link::Dynamic) else {
            return;
        };
        let Some(cgroup) = Cgroup::new(unified) else {
            continue;
        };
        let mut victim = program.start(args);
        cgroup.take(victim.pid);
        victim
            .descendants()
            .iter()
            .for_each(|&pid| cgroup.take(pid));
        test(&cgroup, &mut victim);
        drop(victim);
    }
}

#[test]
fn waits_outlive_the_freezer() {
    steadily(|| {
        in_both("threads", &["8", "sigwait"], |cgroup, victim| {
            let images = Images::new(victim, "running");
            images.dump(victim.pid, &[&cgroup.option()[..], &["-R"]].concat());
            assert!(cgroup.runs(), "it is left {}", cgroup.state());
            let images = Images::new(victim, "images");
            images.dump(victim.pid, &cgroup.option());
            victim.reap();
            assert!(cgroup.runs(), "it is left {}", cgroup.state());
            images.restore();
            victim.check();
        });
    });
}

#[test]
fn a_tree_partly_in_the_cgroup_is_dumped_whole() {
    in_both("tree", &[], |cgroup, victim| {
        let parent = cgroup.path.parent().expect("it has one");
        let descendants = victim.descendants();
        let one = descendants.first().expect("it has children");
        std::fs::write(parent.join("cgroup.procs"), one.to_string()).expect("it leaves");
        let images = Images::new(victim, "images");
        images.dump(victim.pid, &cgroup.option());
        victim.reap_with(&descendants);
        images.restore();
        victim.check();
    });
}

#[test]
fn the_cgroup_stands_still_meanwhile() {
    in_both("counter", &[], |cgroup, victim| {
        let (seen, over) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    seen.fetch_or(!cgroup.runs(), Ordering::Relaxed);
                }
            });
            let mut round = 0;
            let was = wait_until(|| {
                round += 1;
                let images = Images::new(victim, &format!("images-{round}"));
                let dumped = images.try_dump(victim.pid, &[&cgroup.option()[..], &["-R"]].concat());
                !dumped.status.success() || seen.load(Ordering::Relaxed)
            });
            over.store(true, Ordering::Relaxed);
            assert!(was && seen.load(Ordering::Relaxed), "never seen frozen");
        });
        victim.check();
    });
}

#[test]
fn it_is_thawed_when_the_dump_is_killed() {
    in_both("threads", &["20"], |cgroup, victim| {
        for round in 0..10 {
            let images = Images::new(victim, &format!("images-{round}"));
            let mut dump = dump(&images, victim.pid, cgroup);
            // At once when it is frozen, or once it has ended.
            while cgroup.runs() && matches!(dump.try_wait(), Ok(None)) {}
            let _ = dump.kill();
            let _ = dump.wait();
            assert!(
                wait_until(|| cgroup.runs()),
                "round {round}: left {}",
                cgroup.state()
            );
            victim.assert_free();
        }
        victim.assert_lives();
    });
}

fn dump(images: &Images, pid: u32, cgroup: &Cgroup) -> Child {
    Command::new(orchestrator())
        .args(["dump", &pid.to_string(), "-R", "-D"])
        .arg(&images.0)
        .args(cgroup.option())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the orchestrator can be started")
}

#[test]
fn what_cannot_be_frozen_is_refused() {
    in_both("counter", &[], |cgroup, victim| {
        let refused = |name: &str, path: &Path, words: &[&str]| {
            let option = ["--freeze-cgroup", path.to_str().expect("UTF-8")];
            let output = Images::new(victim, name).try_dump(victim.pid, &option);
            assert_refused(&output, words);
        };
        refused("no-cgroup", Path::new("/proc"), &["/proc", "no cgroup"]);
        let frozen = match cgroup.runs() && cgroup.state() == "0" {
            true => "1",
            false => "FROZEN",
        };
        std::fs::write(&cgroup.control, frozen).expect("it freezes");
        refused("frozen", &cgroup.path, &["frozen already"]);
        assert!(!cgroup.runs(), "it was thawed");
        let running = if frozen == "1" { "0" } else { "THAWED" };
        std::fs::write(&cgroup.control, running).expect("it thaws");
        // The dump is this process's child, and in the same cgroups.
        let mut inside = Command::new("bash");
        inside.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]);
        inside
            .arg(cgroup.path.join("cgroup.procs"))
            .arg(orchestrator());
        inside.args(["dump", &victim.pid.to_string(), "-D"]);
        inside.arg(victim.folder()).args(cgroup.option());
        let output = inside.output().expect("bash can be started");
        assert_refused(&output, &["this command is in it"]);
        victim.check();
    });
}

#[test]
fn a_parent_by_vfork_is_refused_by_name() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("vforked", Link::Dynamic) else {
        return;
    };
    let victim = program.start(&[]);
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &["--timeout", "0"]);
    assert_refused(&output, &["vfork", &victim.pid.to_string(), "untouched"]);
    victim.assert_free();
    // The child, which is the one that is asked, executes nothing and ends.
    victim.check();
}
