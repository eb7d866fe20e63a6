//! The command line: the peer's commands and options under the peer's names, so that habits and scripts carry over.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Checkpoint and restore for Linux.
#[derive(Debug, Parser)]
#[command(
    name = "orchestrator",
    disable_version_flag = true,
    max_term_width = 120
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Print the version and end.
    #[arg(long, short = 'V')]
    pub version: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Freeze a process, write all of it to image files, and kill it or let it run on.
    Dump(DumpArgs),
    /// Bring a dumped process back.
    Restore(RestoreArgs),
    /// Say what this kernel and this user can do.
    Check(CheckArgs),
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// Folder of the image files.
    #[arg(short = 'D', long, value_name = "DIR", default_value = ".")]
    pub images_dir: PathBuf,
    /// Folder for logs, pid files and statistics; the images folder unless given.
    #[arg(short = 'W', long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// Log file, in the work folder unless absolute; standard error unless given.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// How much to log: 0 nothing, 1 errors, 2 warnings, 3 what is done, 4 everything. Also -v, -vv, -v4.
    #[arg(
        long,
        value_name = "N",
        default_value = "2",
        overrides_with = "verbosity"
    )]
    pub verbosity: String,
    /// Put the process id before each log line.
    #[arg(long)]
    pub log_pid: bool,
    /// Read options from this file too: a name and value on each line, without the dashes.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Read no default configuration files.
    #[arg(long)]
    pub no_default_config: bool,
    /// Print the statistics of this run.
    #[arg(long)]
    pub display_stats: bool,
    /// Let a task keep its terminal and session that lie outside of what is dumped.
    #[arg(short = 'j', long)]
    pub shell_job: bool,
}

/// Options that allow what a task may hold and what is not kept yet: they are taken, as scripts pass them for all tasks, and
/// change nothing; a task that holds such an object is refused by the object's name.
#[derive(Debug, Args)]
pub struct Permissions {
    #[arg(long, hide = true)]
    tcp_established: bool,
    #[arg(short = 'x', long, hide = true, num_args = 0..=1, require_equals = true, value_name = "INODE")]
    ext_unix_sk: Vec<String>,
    #[arg(long, hide = true)]
    link_remap: bool,
    /// With `dump`: keep locks on files.
    #[arg(short = 'l', long)]
    pub file_locks: bool,
    #[arg(long, hide = true)]
    skip_in_flight: bool,
    #[arg(long, hide = true)]
    evasive_devices: bool,
    #[arg(long, hide = true)]
    force_irmap: bool,
    #[arg(long, hide = true, value_name = "MODE")]
    pre_dump_mode: Option<String>,
    /// Holes of deleted files are found by `SEEK_DATA`.
    #[arg(long, hide = true)]
    ghost_fiemap: bool,
    #[arg(long, hide = true)]
    no_ghost_fiemap: bool,
}

/// Options of `restore` that are taken, without effect, with the other commands too: scripts pass one list to all.
#[derive(Debug, Args)]
pub struct OfRestore {
    #[arg(short = 'd', long = "restore-detached", hide = true)]
    detached: bool,
    #[arg(short = 'S', long = "restore-sibling", hide = true)]
    sibling: bool,
    #[arg(long, hide = true, value_name = "FILE")]
    pidfile: Option<PathBuf>,
}

/// Options of `dump` that are taken, without effect, with the other commands too.
#[derive(Debug, Args)]
pub struct OfDump {
    #[arg(short = 't', long, hide = true, value_name = "PID", value_parser = parse_pid)]
    tree: Option<i32>,
    #[arg(short = 'R', long = "leave-running", hide = true)]
    running: bool,
    #[arg(long, hide = true, value_name = "SECONDS")]
    timeout: Option<u64>,
    #[arg(long, hide = true, value_name = "SIZE")]
    ghost_limit: Option<String>,
}

/// Options of `dump`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct DumpArgs {
    /// Process to dump.
    #[arg(value_name = "PID", conflicts_with = "tree", required_unless_present = "tree", value_parser = parse_pid)]
    pub pid: Option<i32>,
    /// Process to dump, with all that is below it.
    #[arg(short = 't', long, value_name = "PID", value_parser = parse_pid)]
    pub tree: Option<i32>,
    /// Let it run on afterwards.
    #[arg(short = 'R', long, conflicts_with = "leave_stopped")]
    pub leave_running: bool,
    /// Leave it stopped afterwards (SIGSTOP).
    #[arg(short = 's', long)]
    pub leave_stopped: bool,
    /// Write images that CRIU restores too: pages that a child shares with its parent are stored once for each.
    #[arg(long)]
    pub portable: bool,
    /// Seconds after which an attempt to freeze is given up; 0 never.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub timeout: u64,
    /// Most bytes of a deleted file to keep in the images, with K, M or G.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_size)]
    pub ghost_limit: u64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub common: CommonArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "without effect")]
    pub of_restore: OfRestore,
    #[command(flatten)]
    #[expect(missing_docs, reason = "without effect")]
    pub permissions: Permissions,
}

/// Options of `restore`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct RestoreArgs {
    /// End once it runs, and leave it to init; else wait and end with its status.
    #[arg(short = 'd', long)]
    pub restore_detached: bool,
    /// Make it a sibling of this command: a child of the caller.
    #[arg(short = 'S', long)]
    pub restore_sibling: bool,
    /// Leave it stopped.
    #[arg(short = 's', long)]
    pub leave_stopped: bool,
    /// Write its process id to this file.
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Print the programs that would run, and run none.
    #[arg(long)]
    pub plan: bool,
    /// Keep the clocks of this machine instead of the ones the process knew.
    #[arg(long)]
    pub host_clocks: bool,
    /// Become the command after `--` once it runs.
    #[arg(long)]
    pub exec_cmd: bool,
    /// Command of --exec-cmd with its arguments.
    #[arg(last = true, value_name = "CMD", requires = "exec_cmd")]
    pub cmd: Vec<std::ffi::OsString>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub common: CommonArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "without effect")]
    pub of_dump: OfDump,
    #[command(flatten)]
    #[expect(missing_docs, reason = "without effect")]
    pub permissions: Permissions,
}

/// Options of `check`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct CheckArgs {
    /// Check the required and the extra features.
    #[arg(long)]
    pub all: bool,
    /// Check what some programs need.
    #[arg(long)]
    pub extra: bool,
    /// Check one feature; `list` names them.
    #[arg(long, value_name = "NAME")]
    pub feature: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub common: CommonArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "without effect")]
    pub of_dump: OfDump,
    #[command(flatten)]
    #[expect(missing_docs, reason = "without effect")]
    pub of_restore: OfRestore,
}

fn parse_pid(text: &str) -> Result<i32, String> {
    match text.parse::<i32>() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(format!(
            "{text:?} is no process id: a positive number is wanted"
        )),
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.chars().last() {
        Some('K' | 'k') => (&text[..text.len() - 1], 1 << 10),
        Some('M' | 'm') => (&text[..text.len() - 1], 1 << 20),
        Some('G' | 'g') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let size = digits.parse::<u64>().ok();
    let size = size.and_then(|size| size.checked_mul(unit));
    size.ok_or_else(|| format!("{text:?} is no size: a number is wanted, or one with K, M or G"))
}

/// Brings the peer's spellings of `-v` to one form: `-v` and `-vv` count up from nothing, `-v4` sets, and anything else
/// that follows the letter is ignored (scripts write `-verbosity=0`).
pub fn normalise(args: impl IntoIterator<Item = std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    let mut out = Vec::new();
    let mut past_end = false;
    for arg in args {
        past_end |= arg == "--";
        match arg.to_str().and_then(|text| text.strip_prefix("-v")) {
            Some(rest) if !past_end => {
                out.push(format!("--verbosity={}", short_verbosity(rest)).into())
            }
            _ => out.push(arg),
        }
    }
    out
}

fn short_verbosity(rest: &str) -> usize {
    if let Ok(level) = rest.parse::<usize>() {
        level
    } else if rest.chars().all(|c| c == 'v') {
        rest.len() + 1
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn verbosity(args: &[&str]) -> String {
        let all = ["orchestrator", "check"]
            .iter()
            .chain(args)
            .map(OsString::from);
        match Cli::try_parse_from(normalise(all)).expect("parses").command {
            Some(Command::Check(check)) => check.common.verbosity,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn verbosity_has_all_the_peers_spellings() {
        assert_eq!(verbosity(&["-v"]), "1");
        assert_eq!(verbosity(&["-vvv"]), "3");
        assert_eq!(verbosity(&["-v4"]), "4");
        assert_eq!(verbosity(&["--verbosity=3"]), "3");
        assert_eq!(verbosity(&["-verbosity=0", "--feature", "x"]), "1");
        assert_eq!(verbosity(&["--verbosity=3", "-v4"]), "4");
    }

    #[test]
    fn a_command_after_two_dashes_keeps_its_own_v() {
        let args = normalise(["restore", "--exec-cmd", "--", "cat", "-v"].map(OsString::from));
        assert_eq!(args.last(), Some(&OsString::from("-v")));
    }

    #[test]
    fn pids_are_positive_numbers() {
        for bad in ["0", "-5", "x", "99999999999"] {
            assert!(parse_pid(bad).is_err(), "{bad}");
        }
    }
}
