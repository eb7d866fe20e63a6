//! `cargo xtask bench`: how long dump and restore take, and how long the program stands still, for our binary alone or beside
//! another tool with the same command line.
//!
//! Only ratios of one run say anything, and only where both had the same: each round runs every tool once, and who begins
//! changes from round to round. All of it happens in a mount namespace of its own with an empty tmpfs on /run: images in
//! memory lie there, and a tool that keeps what it found out about the kernel there may do so, as on any machine. A first
//! round, which fills such caches, is not counted. Before each step memory is touched (see `sample.c`) and, where images go
//! to a disk, what is dirty is written out. A restore reads images that are still in the page cache.

use crate::sample::{self, Sample};
use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const USAGE: &str = "usage: cargo xtask bench [--beside PATH] [--work NAME,...] [-n ROUNDS]";

/// What is dumped.
struct Work {
    name: &'static str,
    what: &'static str,
    /// MiB of noise.
    mib: usize,
    /// Threads beside the first.
    threads: usize,
    /// Whether the images go to the disk of the target folder.
    to_disk: bool,
}

const WORKS: [Work; 4] = [
    Work {
        name: "small",
        what: "a small static program, to tmpfs",
        mib: 0,
        threads: 0,
        to_disk: false,
    },
    Work {
        name: "threads",
        what: "100 threads, to tmpfs",
        mib: 0,
        threads: 99,
        to_disk: false,
    },
    Work {
        name: "tmpfs",
        what: "1 GiB of noise, to tmpfs",
        mib: 1024,
        threads: 0,
        to_disk: false,
    },
    Work {
        name: "disk",
        what: "1 GiB of noise, to the disk of target/",
        mib: 1024,
        threads: 0,
        to_disk: true,
    },
];

/// What is measured of one round, in the order of [`FIGURES`].
type Round = [f64; FIGURES.len()];

const FIGURES: [&str; 6] = [
    "dump, ms",
    "standstill, ms",
    "restore, ms",
    "memory of dump, MiB",
    "memory of restore, MiB",
    "images, MiB",
];

/// What the command line says.
struct Settings {
    beside: Option<PathBuf>,
    works: Vec<&'static Work>,
    rounds: usize,
}

/// What all steps need: the programs and the two places of images.
struct Bench {
    tools: Vec<PathBuf>,
    sample: PathBuf,
    measure: PathBuf,
    disk: tempfile::TempDir,
    memory: tempfile::TempDir,
}

/// Measures, and prints the table.
///
/// # Errors
/// Wrong arguments, no root, or a tool that failed.
pub fn run(args: &[String]) -> Result<()> {
    let settings = parse(args)?;
    sample::need_root()?;
    let bench = Bench::set_up(settings.beside)?;
    let first = &WORKS[0];
    for tool in &bench.tools {
        bench.round(tool, first)?;
    }
    println!("{}; medians of {} rounds", machine(), settings.rounds);
    for work in settings.works {
        let mut seen = vec![Vec::new(); bench.tools.len()];
        for round in 0..settings.rounds {
            for turn in 0..bench.tools.len() {
                let tool = (turn + round) % bench.tools.len();
                seen[tool].push(bench.round(&bench.tools[tool], work)?);
            }
        }
        print(work, &seen);
    }
    Ok(())
}

fn parse(args: &[String]) -> Result<Settings> {
    let mut settings = Settings {
        beside: None,
        works: WORKS.iter().collect(),
        rounds: 5,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let value = args
            .next()
            .with_context(|| format!("{arg} wants a value\n{USAGE}"))?;
        match arg.as_str() {
            "--beside" => {
                let path = std::fs::canonicalize(value).with_context(|| value.clone())?;
                settings.beside = Some(path);
            }
            "--work" => settings.works = value.split(',').map(work).collect::<Result<_>>()?,
            "-n" => settings.rounds = value.parse().context("-n wants a number")?,
            _ => bail!("no option {arg}\n{USAGE}"),
        }
    }
    ensure!(settings.rounds > 0, "-n wants at least one round");
    Ok(settings)
}

fn work(name: &str) -> Result<&'static Work> {
    let names = WORKS.map(|work| work.name).join(", ");
    WORKS
        .iter()
        .find(|work| work.name == name)
        .with_context(|| format!("no work {name}; there are {names}"))
}

/// Returns the words about this machine without which figures say nothing.
fn machine() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unnamed processor", |(_, model)| model);
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("Linux {}, {count} of {model}", release.trim())
}

impl Bench {
    fn set_up(beside: Option<PathBuf>) -> Result<Self> {
        let mut tools = vec![sample::build_orchestrator()?];
        tools.extend(beside);
        let disk = tempfile::tempdir_in(sample::target()).context("no folder beside the build")?;
        let sample = sample::compile(disk.path(), "sample")?;
        let measure = sample::compile(disk.path(), "measure")?;
        unshare(CloneFlags::CLONE_NEWNS).context("no mount namespace of its own")?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .context("cannot make the mounts private")?;
        let options = Some("size=100%");
        mount(
            Some("tmpfs"),
            "/run",
            Some("tmpfs"),
            MsFlags::empty(),
            options,
        )
        .context("cannot mount a tmpfs")?;
        let memory = tempfile::tempdir_in("/run").context("no folder in memory")?;
        Ok(Self {
            tools,
            sample,
            measure,
            disk,
            memory,
        })
    }

    /// Dumps a program that runs on, for its standstill; then dumps it, and restores it.
    fn round(&self, tool: &Path, work: &Work) -> Result<Round> {
        let place = if work.to_disk {
            &self.disk
        } else {
            &self.memory
        };
        let images = tempfile::tempdir_in(place).context("no folder for the images")?;
        let (mib, threads) = (work.mib.to_string(), work.threads.to_string());
        let arguments = ["gaps", &mib, &threads];
        let mut program = Sample::start(&self.sample, self.disk.path(), &arguments)?;
        program.wait_for("its memory to be filled", |text| text.contains("ready"))?;
        let pid = program.pid.to_string();

        let aside = tempfile::tempdir_in(place)?;
        self.settle(work)?;
        gap_ms(&program)?;
        self.timed(tool, &["dump", "-R", "-t", &pid], aside.path())?;
        let standstill = gap_ms(&program)?;
        drop(aside);

        self.settle(work)?;
        let (dump_ms, dump_mib) = self.timed(tool, &["dump", "-t", &pid], images.path())?;
        program.reap();
        let images_mib = size_mib(images.path())?;

        self.settle(work)?;
        let (restore_ms, restore_mib) = self.timed(tool, &["restore", "-d"], images.path())?;
        ensure!(program.lives(), "{}: not restored", tool.display());
        gap_ms(&program).context("it does not answer after its restore")?;
        Ok([
            dump_ms,
            standstill,
            restore_ms,
            dump_mib,
            restore_mib,
            images_mib,
        ])
    }

    /// Gives the next step what it may need: memory that the host has given, and a disk that is not busy.
    fn settle(&self, work: &Work) -> Result<()> {
        if work.to_disk {
            nix::unistd::sync();
        }
        let mib = (64 + work.mib * 9 / 8).to_string();
        let status = Command::new(&self.sample)
            .args(["/dev/null", "warm", &mib])
            .status()
            .context("cannot touch memory")?;
        ensure!(status.success(), "there are no {mib} MiB of free memory");
        // What the kernel still does for the last step.
        std::thread::sleep(Duration::from_millis(20));
        Ok(())
    }

    /// Runs a tool and returns its wall time in milliseconds, and the most memory it had, in MiB.
    fn timed(&self, tool: &Path, args: &[&str], images: &Path) -> Result<(f64, f64)> {
        let result = self.disk.path().join("result");
        let output = Command::new(&self.measure)
            .arg(&result)
            .arg(tool)
            .args(args)
            .args(["-o", "log", "-D"])
            .arg(images)
            .stdin(Stdio::null())
            .output()
            .context("cannot start measure")?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            let log = std::fs::read_to_string(images.join("log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(3).collect();
            bail!("{} {}: {words}{last:?}", tool.display(), args.join(" "));
        }
        let text = std::fs::read_to_string(&result).context("nothing was measured")?;
        let numbers: Vec<f64> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [ns, kib] = numbers[..] else {
            bail!("nothing was measured: {text}");
        };
        Ok((ns / 1e6, kib / 1024.0))
    }
}

/// Returns the size of all files in a folder but the log.
fn size_mib(images: &Path) -> Result<f64> {
    let mut bytes = 0;
    for file in std::fs::read_dir(images)? {
        let file = file?;
        if file.file_name() != "log" {
            bytes += file.metadata()?.len();
        }
    }
    Ok(bytes as f64 / f64::from(1 << 20))
}

/// Asks the program for the longest time for which it could not look at the clock.
fn gap_ms(program: &Sample) -> Result<f64> {
    let known = program.text().matches("gap ").count();
    program.signal("USR1");
    let is_answer = |text: &str| text.ends_with('\n') && text.matches("gap ").count() > known;
    let text = program.wait_for("an answer", is_answer)?;
    let line = text.lines().last().unwrap_or_default();
    let ns: f64 = line
        .trim_start_matches("gap ")
        .parse()
        .context("no number")?;
    Ok(ns / 1e6)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

fn print(work: &Work, seen: &[Vec<Round>]) {
    let is_beside = seen.len() > 1;
    println!("\n{}: {}\n", work.name, work.what);
    let (heads, rule) = if is_beside {
        (" other      | ours/other |", "-----------:|-----------:|")
    } else {
        ("", "")
    };
    println!("| {:22} | {:10} |{heads}", "", "ours");
    println!("|{:-<24}|-----------:|{rule}", "");
    for (index, figure) in FIGURES.iter().enumerate() {
        let of = |tool: &Vec<Round>| median(tool.iter().map(|round| round[index]).collect());
        let ours = of(&seen[0]);
        print!("| {figure:22} | {ours:10.2} |");
        if is_beside {
            let other = of(&seen[1]);
            print!(" {other:10.2} | {:10.2} |", ours / other);
        }
        println!();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 9.0]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn arguments_are_known_or_refused() {
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let settings = parse(&words("--work disk,small -n 2")).expect("parses");
        let names: Vec<&str> = settings.works.iter().map(|work| work.name).collect();
        assert_eq!((names, settings.rounds), (vec!["disk", "small"], 2));
        for wrong in ["--work big", "-n 0", "-n", "--besides x", "--beside /none"] {
            assert!(parse(&words(wrong)).is_err(), "{wrong}");
        }
    }
}
