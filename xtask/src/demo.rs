//! `cargo xtask demo`: the main job, shown. A program that counts is dumped, gone, restored, and counts on.

use crate::sample::{self, Sample};
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// Builds all, and dumps and restores the sample program.
///
/// # Errors
/// What is missing, or the step that failed.
pub fn run() -> Result<()> {
    sample::need_root()?;
    let orchestrator = sample::build_orchestrator()?;
    call(&orchestrator, &["check"])?;
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let binary = sample::compile(folder.path(), "sample")?;
    let images = folder.path().join("images");
    std::fs::create_dir(&images)?;

    let mut program = Sample::start(&binary, folder.path(), &["count"])?;
    let pid = program.pid.to_string();
    say(&format!("process {pid} counts and talks:"));
    let before = last(&program.wait_for("it to count to ten", |text| count(text) >= 10)?);
    println!("  {before}");

    let dir = images.to_str().context("a temporary folder of odd name")?;
    call(&orchestrator, &["dump", &pid, "-D", dir])?;
    program.reap();
    ensure!(!program.lives(), "it still runs after its dump");
    let at_dump = last(&program.text());
    say("dumped, and gone; the last it said was:");
    println!("  {at_dump}");
    show(&images)?;

    std::thread::sleep(std::time::Duration::from_secs(1));
    ensure!(last(&program.text()) == at_dump, "something still counts");
    call(&orchestrator, &["restore", "-d", "-D", dir])?;
    ensure!(program.lives(), "it does not run after its restore");
    let stood = count(&at_dump);
    let text = program.wait_for("it to count on", |text| count(text) >= stood + 10)?;
    say(&format!("restored as process {pid}; it counts on:"));
    let numbers: Vec<u32> = text.lines().map(count).collect();
    for line in text.lines().skip(stood as usize - 1).take(4) {
        println!("  {line}");
    }
    let right = numbers
        .iter()
        .zip(1..)
        .all(|(&number, wanted)| number == wanted);
    ensure!(right, "it counts wrongly: {numbers:?}");
    say("every number once, none left out. It is ended now.");
    Ok(())
}

fn say(text: &str) {
    println!("\n== {text}");
}

fn last(text: &str) -> String {
    text.lines().last().unwrap_or_default().to_string()
}

/// The number that the last line begins with.
fn count(text: &str) -> u32 {
    let line = text.lines().last().unwrap_or_default();
    let number = line.split(' ').next().unwrap_or_default();
    number.parse().unwrap_or(0)
}

fn call(orchestrator: &Path, args: &[&str]) -> Result<()> {
    say(&format!("orchestrator {}", args.join(" ")));
    let status = Command::new(orchestrator)
        .args(args)
        .stdin(Stdio::null())
        .status()
        .context("cannot start the orchestrator")?;
    ensure!(status.success(), "orchestrator {}: {status}", args[0]);
    Ok(())
}

fn show(images: &Path) -> Result<()> {
    say("the images:");
    let mut files: Vec<_> = std::fs::read_dir(images)?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let len = file.metadata()?.len();
        println!("  {len:>8} {}", file.file_name().to_string_lossy());
    }
    Ok(())
}
