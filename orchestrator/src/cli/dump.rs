//! `orchestrator dump`.

use super::args::DumpArgs;
use super::say;
use crate::dump::{After, Settings, dump};
use crate::sys::Pid;
use anyhow::Context as _;
use std::time::Duration;

/// Dumps as the options say.
///
/// # Errors
/// Whatever stands in the way.
pub fn run(args: &DumpArgs) -> anyhow::Result<()> {
    let pid = args
        .tree
        .or(args.pid)
        .context("no process given: orchestrator dump PID")?;
    let settings = Settings {
        pid: Pid(pid),
        after: if args.leave_running {
            After::Run
        } else if args.leave_stopped {
            After::Stop
        } else {
            After::Kill
        },
        file_locks: args.permissions.file_locks,
        ghost_limit: args.ghost_limit,
        portable: args.portable,
        shell_job: args.common.shell_job,
        timeout: Duration::from_secs(args.timeout),
    };
    let stats = dump(&settings, &args.common.images_dir)?;
    if args.common.display_stats {
        say::line(format_args!("Displaying dump stats:"));
        say::line(format_args!("Freezing time: {} us", stats.freezing_us));
        say::line(format_args!("Frozen time: {} us", stats.frozen_us));
        say::line(format_args!("Memory dump time: {} us", stats.memdump_us));
        say::line(format_args!("Memory write time: {} us", stats.memwrite_us));
        say::line(format_args!(
            "Memory pages scanned: {}",
            stats.pages_scanned
        ));
        say::line(format_args!(
            "Memory pages written: {}",
            stats.pages_written
        ));
    }
    tracing::info!("Dumping finished successfully");
    Ok(())
}
