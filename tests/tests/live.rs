//! Dumps of trees that run on while a copy of their memory is written: of one instant, and without a trace.

use integration_tests::victim::Link;
use integration_tests::{
    Images, Program, Victim, assert_refused, orchestrator, root, said, wait_until,
};
use orchestrator::image;
use orchestrator::snapshot::{Arch, PAGE_SIZE, PageLocation, Thread, VmaKind};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const CYCLES: usize = 3;
const KILLS: u32 = 20;

fn start(mode: &str) -> Option<Victim> {
    if !root() {
        return None;
    }
    Some(Program::compile("live", Link::Dynamic)?.start(&[mode]))
}

/// Dumps, and returns what it said.
fn dump(images: &Images, victim: &Victim, more: &[&str]) -> Output {
    let more = [&["--live", "--display-stats"], more].concat();
    let output = images.try_dump(victim.pid, &more);
    assert!(output.status.success(), "dump {more:?}: {}", said(&output));
    output
}

/// Returns a number that was said with these words before it.
fn number(output: &Output, words: &str) -> Option<u64> {
    let text = said(output);
    let (_, after) = text.split_once(words)?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Returns the processes of a victim's program that are not of its tree.
fn copies(victim: &Victim) -> Vec<u32> {
    let known = [vec![victim.pid], victim.descendants()].concat();
    let program = exe(victim.pid);
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| !known.contains(pid) && program.is_some() && exe(*pid) == program)
        .collect()
}

fn exe(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}

fn assert_no_copies(victim: &Victim) {
    let gone = wait_until(|| copies(victim).is_empty());
    assert!(gone, "copies stay: {:?}", copies(victim));
}

/// Restores a set in the place of a running victim, and has it look at itself.
fn restore_and_check(images: &Images, victim: &mut Victim) {
    // It would see the end of its children, and say so.
    victim.signal("STOP");
    assert!(wait_until(|| victim.state() == Some('T')));
    victim.kill_with(&victim.descendants());
    images.restore();
    victim.check();
}

/// What is dumped is of one instant, whatever kind of memory it lies in; the victim runs on, and sees nothing of it.
#[test]
fn all_memory_is_of_one_instant() {
    cycle("plain", &[]);
}

#[test]
fn all_memory_of_a_tree_is_of_one_instant() {
    cycle("tree", &[]);
}

/// Packed pages come by another way from the copy.
#[test]
fn a_packed_set_is_of_one_instant() {
    cycle("copied", &["--compress", "lz4"]);
}

#[test]
fn a_portable_set_is_of_one_instant() {
    cycle("copied", &["--portable"]);
}

fn cycle(mode: &str, more: &[&str]) {
    let Some(mut victim) = start(mode) else {
        return;
    };
    let mut last = None;
    for number_of in 0..CYCLES {
        let images = Images::new(&victim, &number_of.to_string());
        let output = dump(&images, &victim, more);
        victim.assert_lives();
        victim.assert_free();
        assert_eq!(victim.verdict(), None, "it saw something of the dump");
        assert_no_copies(&victim);
        let [copied, frozen] = ["while it ran: ", "while frozen: "]
            .map(|words| number(&output, words).expect("it is counted"));
        let least = if mode == "copied" { 0 } else { 2 * 640 };
        assert!(copied > 640 && frozen >= least, "{}", said(&output));
        let shared = number(&output, &format!("while frozen: {frozen}, and "));
        assert!(shared.is_some_and(|pages| pages >= 2 * 640));
        last = Some(images);
    }
    restore_and_check(&last.expect("a dump"), &mut victim);
}

/// The next round knows what was written since the moment of the copy.
#[test]
fn rounds_go_on_from_the_moment_of_the_copy() {
    let Some(mut victim) = start("plain") else {
        return;
    };
    let first = Images::new(&victim, "first");
    dump(&first, &victim, &["--track-mem"]);
    let second = Images::new(&victim, "second");
    let previous = ["--track-mem", "--prev-images-dir", "../first"];
    dump(&second, &victim, &previous);
    restore_and_check(&second, &mut victim);
}

/// A set that another tool is to read has its pages in order: what is not copied keeps the whole tree still.
#[test]
fn a_portable_set_of_memory_that_is_not_copied_is_written_while_frozen() {
    let Some(mut victim) = start("plain") else {
        return;
    };
    let images = Images::new(&victim, "images");
    let output = dump(&images, &victim, &["--portable"]);
    let text = said(&output);
    assert!(text.contains("stands still until all is written"), "{text}");
    assert!(!text.contains("while it ran"), "{text}");
    restore_and_check(&images, &mut victim);
}

/// Where there may be no more processes, the tree stands still, and a word says so.
#[test]
fn a_tree_that_may_not_fork_is_written_while_frozen() {
    let Some(mut victim) = start("limited") else {
        return;
    };
    let images = Images::new(&victim, "images");
    let output = dump(&images, &victim, &[]);
    let text = said(&output);
    assert!(text.contains("cannot be copied"), "{text}");
    victim.assert_lives();
    victim.check();
    victim.reap();
}

/// A stopped process does not change: what the images have of it is what it has, byte for byte.
#[test]
fn images_have_what_a_stopped_process_has() {
    let Some(mut victim) = start("plain") else {
        return;
    };
    victim.signal("STOP");
    assert!(wait_until(|| victim.state() == Some('T')));
    let images = Images::new(&victim, "images");
    dump(&images, &victim, &[]);
    assert_eq!(victim.state(), Some('T'));
    let set = image::read(&images.0).expect("images");
    let memory = File::open(format!("/proc/{}/mem", victim.pid)).expect("memory");
    let task = &set.snapshot.tasks[0];
    let mm = task.mm.as_ref().expect("memory");
    let mut compared = 0;
    for run in &mm.pages {
        let vma = mm
            .vmas
            .iter()
            .find(|vma| (vma.start..vma.end).contains(&run.start));
        let PageLocation::Here { pages_id, offset } = run.at else {
            panic!("a page is elsewhere: {run:?}");
        };
        if vma.is_none_or(|vma| vma.kind == VmaKind::Vdso) {
            continue;
        }
        for page in 0..run.pages {
            let at = page * PAGE_SIZE;
            if task
                .threads
                .iter()
                .any(|thread| is_changed(thread, run.start + at))
            {
                continue;
            }
            let read = |file: &File, from| {
                let mut bytes = vec![0; PAGE_SIZE as usize];
                file.read_exact_at(&mut bytes, from).expect("read");
                bytes
            };
            let kept = read(&set.pages[&pages_id], offset + at);
            let has = read(&memory, run.start + at);
            assert!(kept == has, "page {:#x} is another", run.start + at);
            compared += 1;
        }
    }
    assert!(compared > 4 * 640, "{compared} pages compared");
    victim.signal("CONT");
    victim.check();
    victim.reap();
}

/// Returns whether a dump or the kernel may change a page where a thread goes on: below its stack pointer lies what brings it home,
/// and its area of restartable sequences tells where it runs.
fn is_changed(thread: &Thread, page: u64) -> bool {
    const MOST: u64 = 40 << 10;
    let end = page + PAGE_SIZE;
    let is_below = match &thread.arch {
        Arch::X86_64 { regs, .. } => page < regs.rsp && regs.rsp < end + MOST,
        _ => false,
    };
    let rseq = thread.rseq.as_ref().map(|rseq| rseq.addr);
    is_below || rseq.is_some_and(|addr| page < addr + 32 && addr < end)
}

/// Whenever the orchestrator is killed, the victim knows nothing of it, and no copy stays.
#[test]
fn a_killed_dump_leaves_no_copy() {
    let Some(mut victim) = start("tree") else {
        return;
    };
    orchestrator();
    let begin = Instant::now();
    let whole = Images::new(&victim, "whole");
    dump(&whole, &victim, &[]);
    let lasts = begin.elapsed();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = now.map_or(1, |now| now.subsec_nanos());
    for kill in 0..KILLS {
        // Spread over the whole of it, and a little apart from run to run.
        let part = f64::from(kill) + f64::from(seed % 1000) / 1000.0;
        let moment = lasts.mul_f64(part / f64::from(KILLS));
        let images = Images::new(&victim, &format!("killed-{kill}"));
        killed_dump(&images.0, victim.pid, moment);
        victim.assert_free();
        victim.assert_lives();
        assert_eq!(victim.verdict(), None, "it saw something of the dump");
        assert_no_copies(&victim);
    }
    let last = Images::new(&victim, "last");
    dump(&last, &victim, &[]);
    victim.check();
}

fn killed_dump(images: &Path, pid: u32, moment: Duration) {
    let mut dump = Command::new(orchestrator())
        .args(["dump", &pid.to_string(), "--live", "-D"])
        .arg(images)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the orchestrator can be started");
    sleep(moment);
    // One that has ended already is as good.
    let _ = dump.kill();
    let _ = dump.wait();
}

/// What makes no sense beside it is refused by one line.
#[test]
fn what_contradicts_it_is_refused() {
    if !root() {
        return;
    }
    for more in [
        vec!["--leave-stopped"],
        vec!["--lazy-pages", "--port", "1"],
        vec!["--page-server", "--port", "1"],
        vec!["--stream"],
    ] {
        let args = [vec!["dump", "1", "--live"], more].concat();
        assert_refused(
            &integration_tests::run(&args),
            &["--live", "cannot be used"],
        );
    }
}
