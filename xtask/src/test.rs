//! `cargo xtask test`: all tests; those that fail are run once more, alone, and at the end stands what was skipped and what
//! passed only alone. A test that freezes processes shares the machine with all the others: what fails beside them and passes
//! alone is no defect of the change, but it is never passed over without a word.

use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

/// What a test that is skipped writes to standard error.
const SKIPPED: &str = "skipped: ";

/// Most tests that are run once more: when more fail, they do not fail by chance.
const MOST_AGAIN: usize = 8;

/// Runs `cargo test --workspace` with more arguments, all of it also when a test fails.
///
/// # Errors
/// A test failed, and again alone.
pub fn run(more: &[String]) -> Result<()> {
    let mut first = vec!["test", "--workspace", "--no-fail-fast"];
    first.extend(more.iter().map(String::as_str));
    let outcome = run_cargo(&first)?;
    let again = match outcome.passed {
        true => Vec::new(),
        false => run_alone(&outcome)?,
    };
    let count: usize = outcome.skipped.values().map(Vec::len).sum();
    println!("\n{count} tests skipped");
    for (reason, tests) in outcome.skipped {
        println!("  {reason}: {}", tests.join(", "));
    }
    if !again.is_empty() {
        println!(
            "{} tests failed beside others and passed alone",
            again.len()
        );
        println!("  {}", again.join(", "));
    }
    Ok(())
}

/// What a run of cargo told.
#[derive(Debug, Default)]
struct Outcome {
    passed: bool,
    /// Tests by the reason for which they are skipped.
    skipped: BTreeMap<String, Vec<String>>,
    /// Names of the tests that failed.
    failed: Vec<String>,
    /// The words after `cargo test` that choose a binary of which a test failed, as cargo tells them.
    targets: Vec<Vec<String>>,
}

/// Runs the tests that failed once more, one after the other; returns their names.
fn run_alone(outcome: &Outcome) -> Result<Vec<String>> {
    let (failed, targets) = (&outcome.failed, &outcome.targets);
    let worth_it = !targets.is_empty() && !failed.is_empty() && failed.len() <= MOST_AGAIN;
    ensure!(worth_it, "tests failed: {}", failed.join(", "));
    for target in targets {
        let mut words = vec!["test"];
        words.extend(target.iter().map(String::as_str));
        words.extend(["--", "--exact", "--test-threads=1"]);
        words.extend(failed.iter().map(String::as_str));
        println!("\nonce more, alone: cargo {}", words.join(" "));
        let again = run_cargo(&words)?;
        ensure!(
            again.passed,
            "tests failed twice: {}",
            again.failed.join(", ")
        );
    }
    Ok(failed.clone())
}

/// Runs cargo, shows what it says, and notes what of it counts.
fn run_cargo(words: &[&str]) -> Result<Outcome> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tests = Command::new(cargo)
        .args(words)
        .current_dir(crate::sample::workspace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = tests.stdout.take().context("no standard output")?;
    let errors = tests.stderr.take().context("no standard error")?;
    let mut outcome = Outcome::default();
    let failed = std::thread::scope(|scope| {
        let results = scope.spawn(|| {
            let mut failed = Vec::new();
            each_line(output, |line| {
                println!("{line}");
                failed.extend(failed_test(line));
            })
            .map(|()| failed)
        });
        each_line(errors, |line| {
            eprintln!("{line}");
            outcome.note(line);
        })?;
        results.join().expect("nothing in there panics")
    })?;
    outcome.failed = failed;
    outcome.passed = tests.wait()?.success();
    Ok(outcome)
}

fn each_line(source: impl Read, mut take: impl FnMut(&str)) -> Result<()> {
    for line in BufReader::new(source).split(b'\n') {
        take(&String::from_utf8_lossy(&line?));
    }
    Ok(())
}

/// Returns the name in a line `test NAME ... FAILED`. What a test prints may stand before it on the line.
fn failed_test(line: &str) -> Option<String> {
    let rest = line.strip_suffix(" ... FAILED")?;
    let (_, name) = rest.rsplit_once("test ")?;
    Some(name.trim_end_matches(" - should panic").to_string())
}

impl Outcome {
    /// Takes a line of cargo's standard error, which has those of the tests among its own.
    fn note(&mut self, line: &str) {
        if let Some((_, rest)) = line.split_once(SKIPPED) {
            let (reason, test) = rest.rsplit_once(" (").unwrap_or((rest, "a test)"));
            let test = test.trim_end_matches(')').to_string();
            self.skipped
                .entry(reason.to_string())
                .or_default()
                .push(test);
        }
        // At its end cargo lists, each in backticks, the words that run again what failed: `-p PACKAGE --test NAME`.
        let chosen = line
            .trim()
            .strip_prefix("`-p ")
            .and_then(|rest| rest.strip_suffix('`'));
        if let Some(words) = chosen {
            let words = format!("-p {words}");
            self.targets
                .push(words.split(' ').map(String::from).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_failed_tests() {
        let name = failed_test("test files::keeps_locks ... FAILED");
        assert_eq!(name.as_deref(), Some("files::keeps_locks"));
        assert_eq!(failed_test("test files::keeps_locks ... ok"), None);
        assert_eq!(failed_test("test result: FAILED. 1 passed; 1 failed"), None);
    }

    #[test]
    fn what_cargo_tells() {
        let mut outcome = Outcome::default();
        outcome.note("error: 1 target failed:");
        outcome.note("    `-p integration-tests --test kills`");
        outcome.note("skipped: no node (node_goes_on)");
        assert_eq!(
            outcome.targets,
            [["-p", "integration-tests", "--test", "kills"]]
        );
        assert_eq!(outcome.skipped["no node"], ["node_goes_on"]);
    }
}
