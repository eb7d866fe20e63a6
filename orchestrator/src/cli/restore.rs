//! `orchestrator restore`.

use super::args::RestoreArgs;
use std::process::ExitCode;

/// Restores as the options say.
///
/// # Errors
/// Whatever stands in the way.
pub fn run(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let _ = args;
    anyhow::bail!("not built yet")
}
