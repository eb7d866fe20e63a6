//! Files that have lost their names, or what they had to do with: kept, and nothing of ours left in the file system.

use integration_tests::victim::Link;
use integration_tests::{Images, Program, Victim, assert_refused, orchestrator, root, said, skip};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

fn start(name: &str) -> Option<Victim> {
    if !root() {
        return None;
    }
    Some(Program::compile(name, Link::Dynamic)?.start(&[]))
}

/// Returns the names beside the victim that a dump has made.
fn links(victim: &Victim) -> Vec<String> {
    let entries = std::fs::read_dir(victim.folder()).expect("its folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with("link_remap"))
        .collect()
}

fn cycle(victim: &mut Victim, name: &str, options: &[&str]) {
    let images = Images::new(victim, name);
    let others = victim.descendants();
    images.dump(victim.pid, options);
    victim.reap_with(&others);
    images.restore();
}

#[test]
fn deleted_files_with_other_names() {
    let Some(mut victim) = start("links") else {
        return;
    };
    for round in ["images-1", "images-2", "images-3"] {
        cycle(&mut victim, round, &["--link-remap"]);
        assert_eq!(links(&victim), Vec::<String>::new(), "after a restore");
    }
    victim.check();
}

#[test]
fn links_go_when_the_target_runs_on() {
    let Some(victim) = start("links") else {
        return;
    };
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &["--link-remap", "--leave-running"]);
    assert_eq!(links(&victim), Vec::<String>::new());
    victim.check();
}

#[test]
fn links_go_when_the_dump_fails_and_stay_when_the_restore_does() {
    let Some(mut victim) = start("links") else {
        return;
    };
    let images = Images::new(&victim, "images");
    // There is no room for an image where a folder has its name.
    std::fs::create_dir(images.0.join("inventory.img")).expect("a folder");
    let output = images.try_dump(victim.pid, &["--link-remap"]);
    assert_refused(&output, &["inventory.img"]);
    assert_eq!(links(&victim), Vec::<String>::new(), "after a failed dump");
    std::fs::remove_dir(images.0.join("inventory.img")).expect("the folder goes");
    images.dump(victim.pid, &["--link-remap"]);
    victim.reap();
    let made = links(&victim);
    assert!(!made.is_empty(), "no link was made");
    let [after, away] = ["after", "away"].map(|name| victim.folder().join(name));
    std::fs::rename(&after, &away).expect("a file of the victim");
    let output = images.try_restore(&["-d"]);
    assert_refused(&output, &["after", "cannot be found"]);
    assert_eq!(links(&victim), made, "after a failed restore");
    std::fs::rename(&away, &after).expect("it comes back");
    images.restore();
    victim.check();
}

fn watchers(kind: &[&str]) {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("watchers", Link::Dynamic) else {
        return;
    };
    let mut victim = program.start(kind);
    cycle(&mut victim, "images", &["--link-remap"]);
    victim.check();
}

#[test]
fn watches_of_files_tell_what_happens_after_the_restore_and_nothing_of_it() {
    watchers(&[]);
}

#[test]
fn events_that_waited_are_told_to_be_lost() {
    watchers(&["queued"]);
}

#[test]
fn epolls_that_watch_epolls_and_what_was_closed() {
    let Some(mut victim) = start("nested") else {
        return;
    };
    for round in ["images-1", "images-2"] {
        cycle(&mut victim, round, &[]);
    }
    victim.check();
}

/// What the program was sent before the dump comes first, then what whoever restored it sends.
#[test]
fn a_pipe_from_outside_is_given_to_the_restored_program() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("refused", Link::Dynamic) else {
        return;
    };
    let mut victim = program.start_with(&["pipe"], Stdio::piped());
    let child = victim.child.as_mut().expect("a child");
    let mut writer = child.stdin.take().expect("a pipe");
    writer.write_all(b"sent").expect("the pipe has room");
    let link = std::fs::read_link(format!("/proc/{}/fd/0", victim.pid)).expect("its input");
    let pipe = link.to_str().expect("UTF-8").to_string();
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &["--external", &pipe]);
    victim.reap();
    let output = images.try_restore(&["-d", "--inherit-fd", &format!("fd[777]:{pipe}")]);
    assert_refused(&output, &["777"]);
    let fifo = victim.folder().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo").success());
    let restore = |key: &str, mode: &str| {
        let script = format!("exec \"$@\" --inherit-fd 'fd[7]:{key}' 7{mode}\"$FIFO\"");
        Command::new("bash")
            .args(["-c", &script, "bash"])
            .arg(orchestrator())
            .args(["restore", "-d", "-D"])
            .arg(&images.0)
            .env("FIFO", &fifo)
            .stdin(Stdio::null())
            .output()
            .expect("bash can be started")
    };
    assert_refused(&restore("pipe[1]", "<>"), &["pipe[1]", "nothing"]);
    let output = restore(&pipe, "<>");
    assert!(output.status.success(), "{}", said(&output));
    victim.check();
    drop(writer);
}

/// A file system of huge pages, mounted while the test runs.
struct HugePages(tempfile::TempDir);

impl HugePages {
    /// Mounts one; says that the test is skipped where there is none, or no page of it is free.
    fn mount() -> Option<Self> {
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let free = integration_tests::field(&memory, "HugePages_Free:");
        let free: u32 = free.and_then(|free| free.parse().ok()).unwrap_or(0);
        if free < 2 || integration_tests::field(&memory, "Hugepagesize:") != Some("2048 kB") {
            integration_tests::skip("no huge pages of 2 MiB are free");
            return None;
        }
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let mut mount = Command::new("mount");
        let mounted = mount
            .args(["-t", "hugetlbfs", "none"])
            .arg(folder.path())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            integration_tests::skip("no hugetlbfs can be mounted");
            return None;
        }
        Some(Self(folder))
    }

    fn start(&self, more: &[&str]) -> Option<Victim> {
        let folder = self.0.path().to_str().expect("UTF-8");
        let program = Program::compile("hugefile", Link::Dynamic)?;
        Some(program.start(&[&[folder], more].concat()))
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        let _ = unmount.arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_file_of_huge_pages() {
    of_huge_pages(&[]);
}

fn of_huge_pages(more: &[&str]) {
    if !root() {
        return;
    }
    let Some(pages) = HugePages::mount() else {
        return;
    };
    let Some(mut victim) = pages.start(more) else {
        return;
    };
    for round in ["images-1", "images-2"] {
        cycle(&mut victim, round, &[]);
    }
    victim.check();
}

fn refused_of_huge_pages(kind: &str, words: &[&str]) {
    if !root() {
        return;
    }
    let Some(pages) = HugePages::mount() else {
        return;
    };
    let Some(victim) = pages.start(&[kind]) else {
        return;
    };
    if victim.text().contains("without") {
        return integration_tests::skip("no huge pages are free");
    }
    let images = Images::new(&victim, "images");
    assert_refused(&images.try_dump(victim.pid, &[]), words);
    victim.check();
}

#[test]
fn a_deleted_file_of_huge_pages() {
    refused_of_huge_pages("deleted", &["hugetlbfs", "deleted"]);
}

#[test]
fn a_private_mapping_of_a_file_of_huge_pages() {
    of_huge_pages(&["private"]);
}

/// Mounts of the test's own, which go when this goes.
struct Mounts(Vec<std::path::PathBuf>);

impl Drop for Mounts {
    fn drop(&mut self) {
        for place in self.0.iter().rev() {
            let _ = Command::new("umount").arg("-l").arg(place).status();
        }
    }
}

/// A file that was deleted, and is open by a mount that is read-only: it is made again in another mount of its file system.
#[test]
fn a_deleted_file_of_a_mount_that_is_read_only() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("names", Link::Dynamic) else {
        return;
    };
    let folder = tempfile::TempDir::new().expect("a folder");
    let [writable, other] = ["writable", "other"].map(|name| folder.path().join(name));
    let mut mounts = Mounts(Vec::new());
    for place in [&writable, &other] {
        std::fs::create_dir(place).expect("a folder");
    }
    let mut mount = |args: &[&str], place: &std::path::Path| {
        let status = Command::new("mount").args(args).arg(place).status();
        let is_done = status.is_ok_and(|status| status.success());
        if is_done && !mounts.0.iter().any(|known| known == place) {
            mounts.0.push(place.to_path_buf());
        }
        is_done
    };
    let from = writable.to_str().expect("UTF-8");
    let are_there = mount(&["-t", "tmpfs", "none"], &writable)
        && mount(&["--bind", from], &other)
        && mount(&["-o", "remount,bind,ro"], &other);
    if !are_there {
        return skip("nothing can be mounted");
    }
    let file = writable.join("file");
    std::fs::write(&file, "content").expect("a file");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).expect("its mode");
    let seen = other.join("file");
    let [seen, file] = [&seen, &file].map(|path| path.to_str().expect("UTF-8"));
    let mut victim = program.start(&["readonly", seen, file]);
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[]);
    victim.reap();
    images.restore();
    let left = std::fs::read_dir(&writable).expect("the folder").count();
    assert_eq!(left, 0, "a name is left");
    victim.check();
}

/// A file of /proc of a process outside is opened again as long as that is the one that it was.
#[test]
fn a_file_of_a_process_outside() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("procfiles", Link::Dynamic) else {
        return;
    };
    let mut outside = Command::new("sleep").arg("60").spawn().expect("sleep");
    let mut victim = program.start(&[&outside.id().to_string()]);
    cycle(&mut victim, "images-1", &[]);
    let images = Images::new(&victim, "images-2");
    let others = victim.descendants();
    images.dump(victim.pid, &[]);
    victim.reap_with(&others);
    outside.kill().expect("it is ours");
    outside.wait().expect("it ends");
    let output = images.try_restore(&["-d"]);
    let name = format!("/proc/{}/stat", outside.id());
    assert_refused(&output, &[&name, "of a process outside, which has ended"]);
}
