//! From the command line to one call, and from its outcome to an exit status: 0 done, 1 failed (the reason is on standard
//! error and in the log). Ambient things (arguments, files of options) are read here and nowhere else.

pub mod args;
pub mod check;
pub mod config;
pub mod convert;
pub mod dump;
pub mod lazy_pages;
pub mod log;
pub mod page_server;
pub mod restore;
pub mod rounds;
pub mod say;
pub mod server;
pub mod unlock;
pub mod working_set;

use anyhow::Context as _;
use args::{Cli, Command, CommonArgs};
use clap::Parser as _;
use std::ffi::OsString;
use std::process::ExitCode;

/// Version of the peer whose options and images this program takes and makes: callers ask for it.
const COMPATIBLE: &str = "4.2";

/// Runs the command line and returns the exit status.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    crate::sys::signal::outlive_file_limit();
    crate::sys::mem::give_back_freed();
    let args = match config::expand(args.into_iter().collect()) {
        Ok(args) => args,
        Err(error) => {
            say::error(format_args!("Error (orchestrator): {error}"));
            return ExitCode::FAILURE;
        }
    };
    let cli = match Cli::try_parse_from(args::normalise(args)) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    if cli.version {
        say::line(format_args!(
            "Version: {COMPATIBLE}\norchestrator {}",
            env!("CARGO_PKG_VERSION")
        ));
        return ExitCode::SUCCESS;
    }
    match cli.command {
        None => {
            say::error(format_args!(
                "Error (orchestrator): no command given; try: orchestrator dump PID -D DIR, orchestrator restore -D DIR, orchestrator --help"
            ));
            ExitCode::FAILURE
        }
        Some(Command::Dump(dump)) => finish(&dump.common, "dump", || {
            self::dump::run(&dump).map(|()| ExitCode::SUCCESS)
        }),
        Some(Command::PreDump(dump)) => finish(&dump.common, "pre-dump", || {
            self::rounds::pre_dump(&dump).map(|()| ExitCode::SUCCESS)
        }),
        Some(Command::Dedup(dedup)) => finish(&dedup.common, "dedup", || {
            self::rounds::dedup(&dedup).map(|()| ExitCode::SUCCESS)
        }),
        Some(Command::Untrack(untrack)) => finish(&untrack.common, "untrack", || {
            self::rounds::untrack(&untrack).map(|()| ExitCode::SUCCESS)
        }),
        Some(Command::WorkingSet(args)) => finish(&args.common, "working-set", || {
            self::working_set::run(&args).map(|()| ExitCode::SUCCESS)
        }),
        Some(Command::Unlock(unlock)) => finish(&unlock.common, "unlock", || {
            self::unlock::run(&unlock).map(|()| ExitCode::SUCCESS)
        }),
        Some(Command::Keeper(args)) => crate::keeper::run(args.pid, args.started, &args.keep),
        Some(Command::Restore(restore)) => {
            finish(&restore.common, "restore", || self::restore::run(&restore))
        }
        Some(Command::PageServer(server)) => finish(&server.common, "page-server", || {
            self::page_server::run(&server).map(|()| ExitCode::SUCCESS)
        }),
        Some(Command::LazyPages(lazy)) => finish(&lazy.common, "lazy-pages", || {
            self::lazy_pages::run(&lazy).map(|()| ExitCode::SUCCESS)
        }),
        Some(Command::LazyGuard(guard)) => crate::lazy::guard::run(guard.on_failure),
        Some(Command::Convert(convert)) => finish(&convert.common(), "convert", || {
            self::convert::run(&convert).map(|()| ExitCode::SUCCESS)
        }),
        Some(Command::Check(check)) => finish(&check.common, "check", || self::check::run(&check)),
    }
}

/// Help and version are no errors; anything else is one, in a line like all others, with the peer's exit status.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nothing is to be done where the terminal is gone.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let words = error.render().to_string();
    // The first paragraph says what is wrong; the others, what could be meant.
    let first = words.lines().take_while(|line| !line.is_empty());
    let first: Vec<&str> = first.map(str::trim).collect();
    let first = first.join(" ");
    let first = first.strip_prefix("error: ").unwrap_or(&first);
    say::error(format_args!(
        "Error (orchestrator): {}; orchestrator --help lists all options",
        say::printable(first)
    ));
    ExitCode::FAILURE
}

fn finish(
    common: &CommonArgs,
    command: &str,
    work: impl FnOnce() -> anyhow::Result<ExitCode>,
) -> ExitCode {
    let outcome = log::start(common)
        .context("cannot start the log")
        .and_then(|()| work());
    outcome.unwrap_or_else(|error| {
        log::failure(common, command, &crate::error::chain(error.as_ref()));
        ExitCode::FAILURE
    })
}
