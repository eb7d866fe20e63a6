//! Incremental dumps: rounds of pre-dumps of programs that change their memory all the time, and the dump after them.

use integration_tests::victim::Link;
use integration_tests::{
    Images, Program, Victim, assert_refused, orchestrator, root, run, said, skip,
};
use orchestrator::image::{self, ImageSet};
use orchestrator::memory::dirty::Method;
use orchestrator::snapshot::{Arch, Mm, PAGE_SIZE, PageLocation, PageRun, Task, Vma, VmaKind};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const ROUNDS: usize = 10;

/// How often the long test is done for each way to track: more by hand.
fn runs() -> u64 {
    let runs = std::env::var("ROUNDS_RUNS").ok();
    runs.and_then(|runs| runs.parse().ok()).unwrap_or(1)
}

/// Returns the ways to track that this kernel has; says that the test is skipped where there is none.
fn ways() -> Vec<Method> {
    let ways: Vec<Method> = Method::ALL.into_iter().filter(|way| way.works()).collect();
    if ways.is_empty() {
        skip("no dirty tracking");
    }
    ways
}

/// Folders of the rounds of one victim.
struct Chain<'a> {
    victim: &'a Victim,
    way: Method,
    folders: Vec<PathBuf>,
}

impl Chain<'_> {
    /// Runs `command` for the next round, with more options; returns its folder.
    fn round(&mut self, command: &str, more: &[&str]) -> Images {
        let name = format!("{}-{}", self.way.name(), self.folders.len());
        let images = Images::new(self.victim, &name);
        let previous = self.folders.last().and_then(|path| path.file_name());
        let previous = previous.map(|name| format!("../{}", name.to_str().expect("UTF-8")));
        let pid = self.victim.pid.to_string();
        let dir = images.0.to_str().expect("UTF-8");
        let mut args = vec![command, &pid, "-D", dir, "--track-by", self.way.name()];
        if let Some(previous) = &previous {
            args.extend(["--prev-images-dir", previous]);
        }
        args.extend(more);
        let output = run(&args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        self.folders.push(images.0.clone());
        images
    }
}

fn chain(victim: &Victim, way: Method) -> Chain<'_> {
    Chain {
        victim,
        way,
        folders: Vec::new(),
    }
}

/// Not one page is wrong: neither beside the memory of the stopped processes, nor for the restored ones themselves.
#[test]
fn not_one_page_is_wrong() {
    if !root() {
        return;
    }
    for way in ways() {
        for seed in 0..runs() {
            let Some(program) = Program::compile("rounds", Link::Dynamic) else {
                return;
            };
            let mut victim = program.start(&[&seed.to_string()]);
            let mut rounds = chain(&victim, way);
            for _ in 0..ROUNDS {
                rounds.round("pre-dump", &[]);
            }
            let images = rounds.round("dump", &["--leave-stopped"]);
            let set = image::read(&images.0).expect("images");
            let stored = compare(&set);
            let parents = set.pages.len() - own_files(&set).len();
            assert!(
                parents > 0 && stored > 0,
                "{parents} page files of parents, {stored} pages"
            );
            let all = victim.descendants();
            victim.kill_with(&all);
            restore(&images, &[]);
            victim.check();
        }
    }
}

/// Restores; kernels before 6.3 cannot give a program that is executed clocks of its own.
fn restore(images: &Images, more: &[&str]) {
    let output = images.try_restore(&[&["-d", "--host-clocks"], more].concat());
    assert!(output.status.success(), "restore: {}", said(&output));
}

fn own_files(set: &ImageSet) -> Vec<u32> {
    let ids = set.pages.keys().copied();
    ids.filter(|id| !set.snapshot.parent_files.contains_key(id))
        .collect()
}

/// Compares all private memory of stopped processes with what the images say of it, and returns how many pages that is.
fn compare(set: &ImageSet) -> u64 {
    let mut pages = 0;
    for task in &set.snapshot.tasks {
        let Some(mm) = &task.mm else {
            continue;
        };
        let memory = memory_of(task.pid);
        let parent = set
            .snapshot
            .tasks
            .iter()
            .any(|other| other.pid == task.ppid);
        let parents = parent.then(|| memory_of(task.ppid));
        let skipped = changing_pages(task);
        for vma in mm.vmas.iter().filter(|vma| is_compared(vma)) {
            let runs = runs_of(mm, vma);
            let mut at = vma.start;
            while at < vma.end {
                let mut now = [0; PAGE_SIZE as usize];
                // What cannot be read has no content.
                let is_there = memory.read_exact_at(&mut now, at).is_ok();
                if is_there && !skipped.contains(&at) {
                    let kept = content(set, &runs, at, parents.as_ref());
                    let kept = kept.unwrap_or_else(|| unstored(set, vma, at));
                    let from = dead_bytes(task, at);
                    assert!(
                        kept[from..] == now[from..],
                        "page {at:#x} of task {} ({:?}) is another from byte {} on",
                        task.pid,
                        vma.kind,
                        from + (from..kept.len())
                            .take_while(|&byte| kept[byte] == now[byte])
                            .count()
                    );
                    pages += 1;
                }
                at += PAGE_SIZE;
            }
        }
    }
    pages
}

fn memory_of(pid: i32) -> File {
    File::open(format!("/proc/{pid}/mem")).expect("memory")
}

fn is_compared(vma: &Vma) -> bool {
    let is_kind = matches!(
        vma.kind,
        VmaKind::Anonymous | VmaKind::Heap | VmaKind::Stack | VmaKind::FilePrivate(_)
    );
    // Reservations of gigabytes hold nothing.
    is_kind && vma.prot != 0
}

/// Where the kernel writes by itself when a thread goes on.
fn changing_pages(task: &Task) -> Vec<u64> {
    let areas = task
        .threads
        .iter()
        .filter_map(|thread| thread.rseq.as_ref());
    let ends = areas.flat_map(|rseq| [rseq.addr, rseq.addr + 31]);
    ends.map(|addr| addr / PAGE_SIZE * PAGE_SIZE).collect()
}

/// Returns how many bytes at the beginning of a page are none of the program's: below a thread's red zone a dump leaves what
/// brings the thread home should the dump be killed, and what is left of a timeout.
fn dead_bytes(task: &Task, at: u64) -> usize {
    const RED_ZONE: u64 = 128;
    const MOST: u64 = 32 << 10;
    let used = task.threads.iter().filter_map(|thread| match &thread.arch {
        Arch::X86_64 { regs, .. } => Some(regs.rsp - RED_ZONE),
        _ => None,
    });
    let dead = used.filter(|&used| (at..at + MOST).contains(&used));
    dead.map(|used| (used - at).min(PAGE_SIZE) as usize)
        .max()
        .unwrap_or(0)
}

fn runs_of<'a>(mm: &'a Mm, vma: &Vma) -> BTreeMap<u64, &'a PageRun> {
    let near = mm.pages.iter();
    near.filter(|run| run.start < vma.end && run.start + run.pages * PAGE_SIZE > vma.start)
        .map(|run| (run.start, run))
        .collect()
}

/// Returns what the images have of a page, by itself or as the parent task has it.
fn content(
    set: &ImageSet,
    runs: &BTreeMap<u64, &PageRun>,
    at: u64,
    parent: Option<&File>,
) -> Option<[u8; PAGE_SIZE as usize]> {
    let (_, run) = runs.range(..=at).next_back()?;
    if run.start + run.pages * PAGE_SIZE <= at {
        return None;
    }
    let mut bytes = [0; PAGE_SIZE as usize];
    let (file, offset) = match run.at {
        PageLocation::Here { pages_id, offset } => (&set.pages[&pages_id], offset + at - run.start),
        PageLocation::ParentTask => (parent.expect("a parent"), at),
        PageLocation::Parent | PageLocation::Source => panic!("it was to be resolved"),
    };
    file.read_exact_at(&mut bytes, offset).expect("stored");
    Some(bytes)
}

/// Returns what a page is of which nothing is stored: that of the file that is mapped, or zeros.
fn unstored(set: &ImageSet, vma: &Vma, at: u64) -> [u8; PAGE_SIZE as usize] {
    let mut bytes = [0; PAGE_SIZE as usize];
    if let VmaKind::FilePrivate(id) = vma.kind {
        let file = set.snapshot.file(id).expect("a file");
        let orchestrator::snapshot::FileKind::Regular(regular) = &file.kind else {
            panic!("no regular file: {file:?}");
        };
        let path = String::from_utf8_lossy(&regular.path).into_owned();
        let file = File::open(path).expect("the file that is mapped");
        let _ = file
            .read_at(&mut bytes, vma.offset + (at - vma.start))
            .expect("readable");
    }
    bytes
}

/// A round that follows another writes little of what rests, and all of it where nobody kept track.
#[test]
fn what_rests_is_not_written_again() {
    if !root() {
        return;
    }
    for way in ways() {
        let Some(program) = Program::compile("counter", Link::Dynamic) else {
            return;
        };
        let mut victim = program.start(&[]);
        let mut rounds = chain(&victim, way);
        let first = bytes_in(&rounds.round("pre-dump", &[]).0);
        let second = bytes_in(&rounds.round("pre-dump", &[]).0);
        assert!(second < first / 4, "{second} bytes after {first}");
        // The keeper is gone: nothing is known.
        let output = run(&["untrack", &victim.pid.to_string()]);
        assert!(output.status.success(), "untrack: {}", said(&output));
        let third = bytes_in(&rounds.round("pre-dump", &[]).0);
        assert!(third > first / 2, "{third} bytes where {first} are wanted");
        let output = run(&["untrack", &victim.pid.to_string()]);
        assert!(output.status.success(), "untrack: {}", said(&output));
        assert_refused(
            &run(&["untrack", &victim.pid.to_string()]),
            &["not tracked"],
        );
        assert_eq!(tracked_areas(victim.pid), 0, "areas are still registered");
        victim.assert_free();
        rounds.round("dump", &[]);
        victim.reap();
    }
}

fn page_files(dir: &Path) -> impl Iterator<Item = std::fs::Metadata> {
    let files = std::fs::read_dir(dir).expect("a folder").flatten();
    let pages = files.filter(|file| file.file_name().to_string_lossy().starts_with("pages-"));
    pages.map(|file| file.metadata().expect("a file"))
}

/// Space that the page files of a set take.
fn bytes_in(dir: &Path) -> u64 {
    page_files(dir).map(|file| file.blocks() * 512).sum()
}

fn size_of_pages(dir: &Path) -> u64 {
    page_files(dir).map(|file| file.len()).sum()
}

fn tracked_areas(pid: u32) -> usize {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).expect("smaps");
    let flags = smaps.lines().filter(|line| line.starts_with("VmFlags:"));
    flags
        .filter(|line| line.split_whitespace().any(|flag| flag == "uw"))
        .count()
}

/// A set that is not the one that tracking began with is no base: all pages are written.
#[test]
fn another_set_is_no_base() {
    if !root() {
        return;
    }
    for way in ways() {
        let Some(program) = Program::compile("rounds", Link::Dynamic) else {
            return;
        };
        let mut victim = program.start(&["7"]);
        let mut rounds = chain(&victim, way);
        rounds.round("pre-dump", &[]);
        rounds.round("pre-dump", &[]);
        // The first again, not the second.
        rounds.folders.pop();
        rounds.way = way;
        let images = Images::new(&victim, &format!("{}-last", way.name()));
        let all = victim.descendants();
        let first = format!("../{}-0", way.name());
        images.dump(victim.pid, &["--prev-images-dir", &first]);
        victim.reap_with(&all);
        let set = image::read(&images.0).expect("images");
        assert!(
            set.snapshot.parent_files.is_empty(),
            "{:?}",
            set.snapshot.parent_files
        );
        restore(&images, &[]);
        victim.check();
    }
}

/// Snapshots one after the other, each of what changed; pages that a later one supersedes are taken out of the earlier ones, and
/// those of the last once it is restored.
#[test]
fn snapshots_without_what_later_ones_have() {
    if !root() {
        return;
    }
    for way in ways() {
        let Some(program) = Program::compile("rounds", Link::Dynamic) else {
            return;
        };
        let mut victim = program.start(&["11"]);
        let mut rounds = chain(&victim, way);
        for _ in 0..3 {
            rounds.round("dump", &["--leave-running", "--track-mem", "--auto-dedup"]);
            std::thread::sleep(Duration::from_millis(20));
        }
        let all = victim.descendants();
        let images = rounds.round("dump", &[]);
        let [first, .., before_last, _] = &rounds.folders[..] else {
            panic!("four rounds were made");
        };
        let (first, before_last) = (first.clone(), before_last.clone());
        victim.reap_with(&all);
        assert!(bytes_in(&first) < size_of_pages(&first), "no hole");
        let before = bytes_in(&before_last);
        let dir = images.0.to_str().expect("UTF-8");
        let output = run(&["dedup", "-D", dir]);
        assert!(output.status.success(), "dedup: {}", said(&output));
        assert!(
            bytes_in(&before_last) < before,
            "{before} bytes, and no hole"
        );
        restore(&images, &["--auto-dedup"]);
        victim.check();
        let left = bytes_in(&images.0);
        assert!(left < 1 << 20, "{left} bytes were not taken out");
    }
}

/// Rounds that are killed leave the processes as they were, and later ones know what has changed.
#[test]
fn killed_rounds_leave_no_gap() {
    if !root() {
        return;
    }
    for way in ways() {
        let Some(program) = Program::compile("rounds", Link::Dynamic) else {
            return;
        };
        let mut victim = program.start(&["13"]);
        let mut rounds = chain(&victim, way);
        rounds.round("pre-dump", &[]);
        for kill in 0..6 {
            let images = Images::new(&victim, &format!("{}-killed-{kill}", way.name()));
            let previous = rounds.folders.last().expect("a round").clone();
            let mut killed = Command::new(orchestrator())
                .args(["pre-dump", &victim.pid.to_string(), "-D"])
                .arg(&images.0)
                .args(["--track-by", way.name(), "--prev-images-dir"])
                .arg(previous)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the orchestrator can be started");
            std::thread::sleep(Duration::from_millis(7 * kill));
            killed.kill().expect("killed");
            killed.wait().expect("its status");
            victim.assert_free();
            rounds.round("pre-dump", &[]);
        }
        assert_eq!(userfaultfds(victim.pid), 0, "descriptors of ours are left");
        let images = rounds.round("dump", &["--leave-stopped"]);
        let stored = compare(&image::read(&images.0).expect("images"));
        assert!(stored > 0);
        let all = victim.descendants();
        victim.kill_with(&all);
        restore(&images, &[]);
        victim.check();
    }
}

fn userfaultfds(pid: u32) -> usize {
    let all = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors");
    let links = all
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok());
    links
        .filter(|link| link.to_string_lossy().contains("userfaultfd"))
        .count()
}

/// What is no set to go on from is told, and what has memory alone is not restored.
#[test]
fn wrong_parents_are_refused() {
    if !root() || ways().is_empty() {
        return;
    }
    let Some(program) = Program::compile("counter", Link::Dynamic) else {
        return;
    };
    let victim = program.start(&[]);
    let images = Images::new(&victim, "images");
    let dir = images.0.to_str().expect("UTF-8").to_string();
    let pid = victim.pid.to_string();
    let round = |previous: &str| {
        let args = ["pre-dump", &pid, "-D", &dir, "--prev-images-dir", previous];
        run(&args)
    };
    assert_refused(&round("../nowhere"), &["cannot open", "nowhere"]);
    assert_refused(&round("."), &["no inventory.img"]);
    let output = run(&["pre-dump", &pid, "-D", &dir]);
    assert!(output.status.success(), "pre-dump: {}", said(&output));
    assert_refused(&round("."), &["cannot be its own parent"]);
    assert_refused(&images.try_restore(&["-d"]), &["pre-dump", "memory alone"]);
    assert_eq!(run(&["untrack", &pid]).status.code(), Some(0));
    victim.check();
}
