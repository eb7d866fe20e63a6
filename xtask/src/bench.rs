//! `cargo xtask bench`: how long dump and restore take, and how long the program stands still, for our binary alone or beside
//! another tool with the same command line. Each round runs every tool once, in turn; figures are medians of the rounds, and
//! only ratios of one run say anything.

use crate::sample::{self, Sample};
use anyhow::{Context as _, Result, bail, ensure};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is dumped: name, MiB of noise, threads beside the first, folder of the images (`None`: the target folder's disk).
struct Work {
    name: &'static str,
    mib: &'static str,
    threads: &'static str,
    memory: bool,
}

const WORKS: [Work; 4] = [
    Work {
        name: "small",
        mib: "0",
        threads: "0",
        memory: true,
    },
    Work {
        name: "100 threads",
        mib: "0",
        threads: "100",
        memory: true,
    },
    Work {
        name: "1 GiB to tmpfs",
        mib: "1024",
        threads: "0",
        memory: true,
    },
    Work {
        name: "1 GiB to disk",
        mib: "1024",
        threads: "0",
        memory: false,
    },
];

/// What is measured of one round, in the order of [`FIGURES`].
type Round = [f64; FIGURES.len()];

const FIGURES: [&str; 6] = [
    "dump ms",
    "standstill ms",
    "restore ms",
    "dump MiB of memory",
    "restore MiB of memory",
    "images MiB",
];

/// Measures, and prints the table.
///
/// # Errors
/// Wrong arguments, no root, or a tool that failed.
pub fn run(args: &[String]) -> Result<()> {
    let (beside, rounds) = parse(args)?;
    sample::need_root()?;
    let mut tools = vec![sample::build_orchestrator()?];
    tools.extend(beside);
    let folder = tempfile::tempdir_in(sample::workspace().join("target"))
        .context("no folder beside the build")?;
    let binary = sample::compile(folder.path())?;
    for work in &WORKS {
        let mut seen = vec![Vec::new(); tools.len()];
        for round in 0..rounds {
            for turn in 0..tools.len() {
                let tool = (turn + round) % tools.len();
                seen[tool].push(measure(&tools[tool], work, &binary, folder.path())?);
            }
        }
        print(work.name, rounds, &seen);
    }
    Ok(())
}

fn parse(args: &[String]) -> Result<(Option<PathBuf>, usize)> {
    let (mut beside, mut rounds) = (None, 5);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let value = args
            .next()
            .with_context(|| format!("{arg} wants a value"))?;
        match arg.as_str() {
            "--beside" => beside = Some(PathBuf::from(value)),
            "-n" => rounds = value.parse().context("-n wants a number")?,
            _ => bail!("usage: cargo xtask bench [--beside PATH] [-n ROUNDS]"),
        }
    }
    ensure!(rounds > 0, "-n wants at least one round");
    Ok((beside, rounds))
}

fn measure(tool: &Path, work: &Work, binary: &Path, folder: &Path) -> Result<Round> {
    let place = if work.memory {
        Path::new("/dev/shm")
    } else {
        folder
    };
    let images = tempfile::tempdir_in(place).context("no folder for the images")?;
    let mut program = Sample::start(binary, folder, &["gaps", work.mib, work.threads])?;
    program.wait_for("its memory to be filled", |text| text.contains("ready"))?;
    std::thread::sleep(Duration::from_millis(20));
    gap_ms(&program)?;
    let pid = program.pid.to_string();
    let aside = tempfile::tempdir_in(place)?;
    timed(tool, &["dump", "-R", "-t", &pid], aside.path())?;
    let standstill = gap_ms(&program)?;
    drop(aside);
    let (dump_ms, dump_mib) = timed(tool, &["dump", "-t", &pid], images.path())?;
    program.reap();
    let bytes: u64 = std::fs::read_dir(images.path())?
        .flatten()
        .filter_map(|file| file.metadata().ok())
        .map(|meta| meta.len())
        .sum();
    let (restore_ms, restore_mib) = timed(tool, &["restore", "-d"], images.path())?;
    ensure!(program.lives(), "{}: not restored", tool.display());
    gap_ms(&program)?;
    let images_mib = bytes as f64 / f64::from(1 << 20);
    Ok([
        dump_ms,
        standstill,
        restore_ms,
        dump_mib,
        restore_mib,
        images_mib,
    ])
}

/// Asks the program for the longest time for which it could not look at the clock.
fn gap_ms(program: &Sample) -> Result<f64> {
    let known = program.text().matches("gap ").count();
    program.signal("USR1");
    let text = program.wait_for("an answer", |text| text.matches("gap ").count() > known)?;
    let line = text.lines().last().unwrap_or_default();
    let ns: f64 = line
        .trim_start_matches("gap ")
        .parse()
        .context("no number")?;
    Ok(ns / 1e6)
}

/// Runs a tool and returns its wall time in milliseconds, and the most memory it had, in MiB.
fn timed(tool: &Path, args: &[&str], images: &Path) -> Result<(f64, f64)> {
    let log = images.join("log");
    let begin = Instant::now();
    // `time` tells the memory: the standard library does not.
    let output = Command::new("/usr/bin/time")
        .args(["-f", "%M"])
        .arg(tool)
        .args(args)
        .args(["-o", "log", "-D"])
        .arg(images)
        .stdin(Stdio::null())
        .output()
        .context("cannot start /usr/bin/time (install the package time)")?;
    let ms = begin.elapsed().as_secs_f64() * 1e3;
    let words = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || output.status.signal().is_some() {
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(3).collect();
        bail!("{} {}: {words}{tail:?}", tool.display(), args.join(" "));
    }
    let kib: f64 = words
        .lines()
        .last()
        .and_then(|line| line.parse().ok())
        .unwrap_or(0.0);
    Ok((ms, kib / 1024.0))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(name: &str, rounds: usize, seen: &[Vec<Round>]) {
    println!("\n{name} (medians of {rounds})");
    for (index, figure) in FIGURES.iter().enumerate() {
        let medians: Vec<f64> = seen
            .iter()
            .map(|tool| median(tool.iter().map(|round| round[index]).collect()))
            .collect();
        print!("  {figure:24} ours {:10.2}", medians[0]);
        if let Some(other) = medians.get(1) {
            print!(
                "   other {other:10.2}   ours/other {:5.2}",
                medians[0] / other
            );
        }
        println!();
    }
}
