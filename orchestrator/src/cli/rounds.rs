//! `orchestrator pre-dump`, `orchestrator dedup` and `orchestrator untrack`.

use super::args::{DedupArgs, PreDumpArgs, RoundArgs, UntrackArgs};
use super::say;
use super::server::reach;
use crate::dump::rounds::pre_dump as pre_dump_tree;
use crate::dump::tracking::Rounds;
use crate::dump::{After, Settings};
use crate::image::{self, DumpStats, PreDumpMode};
use crate::keeper;
use crate::memory::dirty::Method;
use crate::stages::Stages;
use crate::sys::Pid;
use anyhow::Context as _;
use std::time::Duration;

/// Returns what the options say of rounds; `track` = there is to be a next one.
pub fn rounds(args: &RoundArgs, track: bool) -> Rounds {
    Rounds {
        previous: args.prev_images_dir.clone(),
        track,
        dedup: args.auto_dedup,
        method: args.track_by.as_deref().and_then(Method::named),
    }
}

/// Pre-dumps as the options say.
///
/// # Errors
/// Whatever stands in the way.
pub fn pre_dump(args: &PreDumpArgs) -> anyhow::Result<()> {
    let pid = args
        .tree
        .or(args.pid)
        .context("no process given: orchestrator pre-dump PID")?;
    args.permissions.check_external()?;
    let settings = Settings {
        pid: Pid(pid),
        after: After::Run,
        live: false,
        file_locks: false,
        ghost_limit: 0,
        link_remap: false,
        irmap_paths: Vec::new(),
        external: Vec::new(),
        stages: Stages::new(&args.outside.action_script, &args.common.images_dir),
        sync: false,
        portable: args.portable,
        page_server: args
            .page_server
            .then(|| reach(&args.server, "--page-server"))
            .transpose()?,
        lazy: None,
        packing: None,
        shell_job: true,
        outside: Default::default(),
        connections: Default::default(),
        empty_network: false,
        network_lock: Default::default(),
        timeout: Duration::from_secs(args.timeout),
        freeze_cgroup: args.freeze_cgroup.clone(),
        rounds: rounds(&args.rounds, true),
    };
    let mode = match args.permissions.pre_dump_mode.as_deref() {
        Some("read") => PreDumpMode::Read,
        _ => PreDumpMode::Splice,
    };
    let stats = pre_dump_tree(&settings, mode, &args.common.images_dir)?;
    if args.common.display_stats {
        tell(&stats);
    }
    tracing::info!("Pre-dumping finished successfully");
    Ok(())
}

/// Says what a dump measured.
pub fn tell(stats: &DumpStats) {
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
        "Memory pages skipped from parent: {}",
        stats.pages_skipped_parent
    ));
    say::line(format_args!(
        "Memory pages written: {}",
        stats.pages_written
    ));
    if let Some(live) = stats.live {
        say::line(format_args!(
            "Memory pages written while it ran: {}",
            live.pages_copied
        ));
        say::line(format_args!(
            "Memory pages written while frozen: {}, and {} of shared memory",
            live.pages_frozen, stats.shared_pages_written
        ));
    }
}

/// Takes superseded pages out of the parents of a set.
///
/// # Errors
/// The set is damaged, or holes cannot be made.
pub fn dedup(args: &DedupArgs) -> anyhow::Result<()> {
    let pages = image::dedup(&args.common.images_dir)?;
    tracing::info!("{pages} pages were superseded");
    Ok(())
}

/// Ends the tracking of a process tree.
///
/// # Errors
/// There is none.
pub fn untrack(args: &UntrackArgs) -> anyhow::Result<()> {
    let kept = keeper::find(Pid(args.pid)).with_context(|| format!("process {}", args.pid))?;
    let kept = kept.with_context(|| format!("changes of process {} are not tracked", args.pid))?;
    kept.end()?;
    Ok(())
}
