//! Wrong arguments and broken images: status 1, one clear line, and nothing left behind.

use integration_tests::victim::Link;
use integration_tests::{
    Images, Program, Victim, assert_refused, orchestrator, root, run, said, wait_until,
};
use std::path::Path;
use std::process::{Command, Stdio};

fn counter() -> Option<Victim> {
    if !root() {
        return None;
    }
    Some(Program::compile("counter", Link::Dynamic)?.start(&[]))
}

/// A dumped counter, gone, with its images.
fn dumped() -> Option<(Victim, Images)> {
    let mut victim = counter()?;
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[]);
    victim.reap();
    Some((victim, images))
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .expect("the folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Returns where the records of an image end, but for the last, if it is made of records alone.
fn ends_of_records(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4) {
        ends.push(at);
        at += 4 + u32::from_le_bytes(length.try_into().expect("4 bytes")) as usize;
    }
    assert_eq!(at, bytes.len(), "records do not end where the file does");
    ends
}

fn dump_of(pid: &str) -> (std::process::Output, Vec<String>) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = run(&["dump", pid, "-D", dir.path().to_str().expect("UTF-8")]);
    let left = entries(dir.path());
    (output, left)
}

#[test]
fn no_such_process() {
    if !root() {
        return;
    }
    // Above the largest id that the kernel gives out (PID_MAX_LIMIT).
    let (output, left) = dump_of("4194305");
    assert_refused(&output, &["4194305"]);
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn process_id_zero_and_words() {
    for bad in ["0", "-1", "pid", "99999999999"] {
        let (output, left) = dump_of(bad);
        assert!(!output.status.success(), "{bad}: {}", said(&output));
        assert_ne!(output.status.code(), None, "{bad}: {}", said(&output));
        assert!(!output.stderr.is_empty(), "{bad}: no words");
        assert!(left.is_empty(), "{bad}: left behind: {left:?}");
    }
    let (output, _) = dump_of("0");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

#[test]
fn a_kernel_thread() {
    if !root() {
        return;
    }
    let stat = std::fs::read_to_string("/proc/2/stat").unwrap_or_default();
    if !stat.contains("(kthreadd)") {
        return integration_tests::skip("no kernel thread to be seen");
    }
    let (output, left) = dump_of("2");
    assert_refused(&output, &["kernel thread"]);
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn no_folder_for_the_images() {
    let Some(victim) = counter() else {
        return;
    };
    let missing = Images(victim.folder().join("missing"));
    assert_refused(&missing.try_dump(victim.pid, &[]), &["missing"]);
    assert!(!missing.0.exists(), "made a folder");
    assert_refused(&missing.try_restore(&["-d"]), &["missing"]);
    victim.assert_free();
    victim.check();
}

#[test]
fn a_folder_without_images() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("letter.txt"), "no image").expect("written");
    let output = Images(dir.path().to_owned()).try_restore(&["-d"]);
    assert_refused(&output, &["inventory.img"]);
    assert_eq!(entries(dir.path()), ["letter.txt"]);
}

/// Cuts each image in half in turn, and once to nothing: none is restored, none panics.
#[test]
fn truncated_images() {
    let Some((mut victim, images)) = dumped() else {
        return;
    };
    let mut wrong = Vec::new();
    let names: Vec<String> = entries(&images.0)
        .into_iter()
        .filter(|name| name.ends_with(".img"))
        .collect();
    assert!(names.len() > 4, "images: {names:?}");
    for name in names {
        let path = images.0.join(&name);
        let whole = std::fs::read(&path).expect("an image");
        for length in [
            whole.len() / 2,
            whole.len().saturating_sub(1),
            3.min(whole.len()),
        ] {
            // An image without entries ends with its magic.
            if length == whole.len() {
                continue;
            }
            std::fs::write(&path, &whole[..length]).expect("written");
            let output = images.try_restore(&["-d"]);
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.code() != Some(1)
                || words.lines().count() != 1
                || !words.contains(&name)
            {
                wrong.push(format!(
                    "{name} cut from {} to {length}: {}",
                    whole.len(),
                    said(&output)
                ));
            }
            if victim.lives() {
                victim.kill();
            }
        }
        std::fs::write(&path, &whole).expect("written");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    images.restore();
    victim.check();
}

#[test]
fn a_process_id_that_is_taken() {
    let Some(victim) = counter() else {
        return;
    };
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &["--leave-running"]);
    let output = images.try_restore(&["-d"]);
    assert_refused(&output, &[&victim.pid.to_string()]);
    victim.assert_free();
    victim.check();
}

#[test]
fn nothing_is_left_of_a_restore_that_fails() {
    let Some((victim, images)) = dumped() else {
        return;
    };
    let pages = images.0.join("pages-1.img");
    let whole = std::fs::read(&pages).expect("the pages");
    std::fs::write(&pages, &whole[..whole.len() / 2]).expect("written");
    let before = entries(&images.0);
    let pidfile = victim.folder().join("pid");
    let output = images.try_restore(&["-d", "--pidfile", pidfile.to_str().expect("UTF-8")]);
    assert_refused(&output, &[]);
    assert!(!pidfile.exists(), "a pid file is left");
    assert_eq!(before, entries(&images.0), "files are left");
    assert!(
        wait_until(|| victim.state().is_none()),
        "a process is left: {:?}",
        victim.state()
    );
}

/// The program itself, replaced by another build of the same size: only the build id tells.
#[test]
fn a_program_that_changed_on_disk() {
    let Some((victim, images)) = dumped() else {
        return;
    };
    let binary = victim.folder().join("counter");
    let whole = std::fs::read(&binary).expect("the program");
    let note = b"GNU\0";
    let at = whole
        .windows(note.len())
        .enumerate()
        .filter(|(_, window)| window == note)
        .map(|(at, _)| at)
        // The type before the name is that of a build id (`NT_GNU_BUILD_ID`).
        .find(|at| whole[at - 4..*at] == 3_u32.to_le_bytes());
    let Some(at) = at else {
        return integration_tests::skip("the compiler makes no build ids");
    };
    let mut other = whole.clone();
    other[at + note.len()] ^= 0xff;
    std::fs::write(&binary, other).expect("written");
    assert_refused(&images.try_restore(&["-d"]), &["counter", "build id"]);
    std::fs::write(&binary, [whole.as_slice(), b"more"].concat()).expect("written");
    assert_refused(&images.try_restore(&["-d"]), &["counter", "bytes now"]);
    std::fs::remove_file(&binary).expect("removed");
    assert_refused(
        &images.try_restore(&["-d"]),
        &["counter", "cannot be found"],
    );
    assert!(victim.state().is_none(), "a process is left");
}

/// A dump that fails leaves an older set in its folder as it was.
#[test]
fn an_older_set_survives_a_dump_that_fails() {
    let Some(mut victim) = counter() else {
        return;
    };
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[]);
    victim.reap();
    assert_refused(&images.try_dump(4_194_305, &[]), &["no process"]);
    images.restore();
    victim.check();
}

/// Whether anybody listens changes nothing.
#[test]
fn words_that_nobody_takes_are_lost_and_nothing_else() {
    let Some(mut victim) = counter() else {
        return;
    };
    let images = Images::new(&victim, "images");
    let dir = images.0.to_str().expect("UTF-8").to_string();
    let full = || {
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .expect("/dev/full")
    };
    let pid = victim.pid.to_string();
    let works = |args: &[&str]| {
        let status = Command::new(orchestrator())
            .args(args)
            .stdin(Stdio::null())
            .stdout(full())
            .stderr(full())
            .status();
        status.expect("the orchestrator can be started").success()
    };
    assert!(works(&["dump", &pid, "-D", &dir, "-v4", "--display-stats"]));
    victim.reap();
    assert!(works(&["restore", "-D", &dir, "--plan"]));
    assert!(works(&[
        "restore",
        "-d",
        "-D",
        &dir,
        "-v4",
        "--display-stats"
    ]));
    victim.check();
}

/// A log that was asked for and cannot be written is an error, before anything is changed.
#[test]
fn a_log_on_a_full_disk() {
    let Some(victim) = counter() else {
        return;
    };
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &["-o", "/dev/full"]);
    assert_refused(&output, &["log file /dev/full", "No space left"]);
    victim.assert_free();
    victim.check();
}

/// Threads, ourselves and those we descend from are told as what they are.
#[test]
fn processes_that_cannot_be_meant_are_named() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("threads", Link::Dynamic) else {
        return;
    };
    let victim = program.start(&[]);
    let images = Images::new(&victim, "images");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", victim.pid)).expect("threads");
    let mut tids = tasks
        .flatten()
        .filter_map(|task| task.file_name().to_str()?.parse().ok());
    let thread = tids.find(|&tid: &u32| tid != victim.pid).expect("a thread");
    let process = format!("a thread of process {}", victim.pid);
    assert_refused(&images.try_dump(thread, &[]), &[&process]);
    assert_refused(
        &images.try_dump(std::process::id(), &[]),
        &["this command is in its tree"],
    );
}

/// A target that ends in the middle is missed at once, and called ended.
#[test]
fn a_target_that_ends_in_the_middle_is_told_of_soon() {
    // Whoever asks first builds it, which is not to count.
    let program = orchestrator();
    for moment in 0..12 {
        let Some(mut victim) = counter() else {
            return;
        };
        let images = Images::new(&victim, "images");
        let begin = std::time::Instant::now();
        let dump = Command::new(program)
            .args(["dump", &victim.pid.to_string(), "-R", "-D"])
            .arg(&images.0)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the orchestrator can be started");
        std::thread::sleep(std::time::Duration::from_micros(2000 + moment * 1500));
        victim.kill();
        let output = dump.wait_with_output().expect("a child of ours");
        assert!(
            begin.elapsed().as_secs() < 10,
            "it waited for one that had ended"
        );
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() || !words.contains("runs on"),
            "{words}"
        );
    }
}

/// A file that is cut where a record ends looks whole: it is known by the number of its records.
#[test]
fn images_that_are_cut_between_two_records() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("pipes", Link::Dynamic) else {
        return;
    };
    let mut victim = program.start(&[]);
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[]);
    victim.reap();
    let mut tried = 0;
    for name in entries(&images.0) {
        let begins = ["pstree", "files", "fdinfo-", "pagemap-", "memfd", "fs-"];
        if !begins.iter().any(|begin| name.starts_with(begin)) {
            continue;
        }
        let path = images.0.join(&name);
        let whole = std::fs::read(&path).expect("an image");
        let ends = ends_of_records(&whole);
        // The first, one in the middle, and the last.
        let some = [ends.first(), ends.get(ends.len() / 2), ends.last()];
        for &end in some.into_iter().flatten() {
            std::fs::write(&path, &whole[..end]).expect("a cut image");
            let output = images.try_restore(&["-d"]);
            assert_refused(&output, &[&name]);
            tried += 1;
        }
        std::fs::remove_file(&path).expect("no image");
        assert_refused(&images.try_restore(&["-d"]), &[&name]);
        std::fs::write(&path, &whole).expect("the whole image");
    }
    assert!(tried > 10, "only {tried} cuts");
    images.restore();
    victim.check();
}

fn run_id(images: &Images) -> String {
    let set = ::orchestrator::image::read(&images.0).expect("an image set");
    set.snapshot.origin.run_id.expect("the id of the dump")
}

/// A dump that is killed while its set takes the place of an older one leaves the new one, whichever of its files have moved.
#[test]
fn a_set_on_its_way_to_its_place_is_whole() {
    let Some(mut victim) = counter() else {
        return;
    };
    let [older, newer] = ["older", "newer"].map(|name| Images::new(&victim, name));
    older.dump(victim.pid, &["--leave-running"]);
    newer.dump(victim.pid, &["--leave-running"]);
    let wanted = run_id(&newer);
    assert_ne!(run_id(&older), wanted);
    let files = entries(&newer.0);
    let way = older.0.join(".orchestrator-complete");
    std::fs::create_dir(&way).expect("a folder");
    for name in &files {
        std::fs::copy(newer.0.join(name), way.join(name)).expect("a copy");
    }
    // Of the older one, and not of this.
    std::fs::write(older.0.join("remap-fpath.img"), "not of this set").expect("an image");
    std::fs::remove_file(older.0.join("inventory.img")).expect("the inventory goes first");
    for name in files.iter().filter(|name| *name != "inventory.img") {
        assert_eq!(run_id(&older), wanted, "before {name} moves");
        std::fs::rename(way.join(name), older.0.join(name)).expect("a move");
    }
    assert_eq!(run_id(&older), wanted, "before the inventory moves");
    older.dump(victim.pid, &[]);
    victim.reap();
    assert_ne!(run_id(&older), wanted);
    let left = entries(&older.0);
    assert!(
        !left
            .iter()
            .any(|name| name.starts_with('.') || name == "remap-fpath.img"),
        "{left:?}"
    );
    older.restore();
    victim.check();
}

#[test]
fn objects_outside_that_cannot_be_meant() {
    for bad in ["pipes[7]", "pipe[x]", "pipe", "file[1]", "dev[1/3]:null"] {
        // What stands after the brackets is for a restore, and is not said again.
        let object = bad.trim_end_matches(":null");
        let refused = run(&["dump", "1", "--external", bad]);
        assert_refused(&refused, &["--external", object]);
    }
    for bad in ["fd[7]", "7:pipe[1]", "fd[12345]:pipe[1]"] {
        assert_refused(
            &run(&["restore", "--inherit-fd", bad]),
            &["--inherit-fd", bad],
        );
    }
}
