//! The command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    orchestrator::cli::run(std::env::args_os())
}
