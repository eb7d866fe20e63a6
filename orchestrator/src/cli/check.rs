//! `orchestrator check`.

use super::args::CheckArgs;
use std::process::ExitCode;

/// Checks what the options say.
///
/// # Errors
/// A feature that is missing or unknown.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let _ = args;
    anyhow::bail!("not built yet")
}
