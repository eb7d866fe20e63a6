//! `cargo xtask test`: all tests, and at the end which were skipped and why.

use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// What a test that is skipped writes to standard error.
const SKIPPED: &str = "skipped: ";

/// Runs `cargo test --workspace` with more arguments, all of it also when a test fails.
///
/// # Errors
/// A test failed.
pub fn run(more: &[String]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tests = Command::new(cargo)
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(more)
        .current_dir(crate::sample::workspace())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let errors = tests.stderr.take().context("no standard error")?;
    let mut skipped = BTreeMap::<String, Vec<String>>::new();
    for line in BufReader::new(errors).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        if let Some((_, rest)) = line.split_once(SKIPPED) {
            let (reason, test) = rest.rsplit_once(" (").unwrap_or((rest, "a test)"));
            let test = test.trim_end_matches(')').to_string();
            skipped.entry(reason.to_string()).or_default().push(test);
        }
    }
    let status = tests.wait()?;
    let count: usize = skipped.values().map(Vec::len).sum();
    println!("\n{count} tests skipped");
    for (reason, tests) in skipped {
        println!("  {reason}: {}", tests.join(", "));
    }
    ensure!(status.success(), "tests failed: {status}");
    Ok(())
}
