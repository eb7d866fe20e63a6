//! `orchestrator dump`.

use super::args::DumpArgs;
use super::rounds::{rounds, tell};
use crate::dump::outlet::Destination;
use crate::dump::{After, Settings, dump};
use crate::external::External;
use crate::stages::Stages;
use crate::sys::Pid;
use crate::wire::batches::Packing;
use crate::wire::client::Place;
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
    let after = if args.leave_running {
        After::Run
    } else if args.leave_stopped {
        After::Stop
    } else {
        After::Kill
    };
    let settings = Settings {
        pid: Pid(pid),
        after,
        file_locks: args.permissions.file_locks,
        ghost_limit: args.ghost_limit,
        external_pipes: args
            .permissions
            .external
            .iter()
            .filter_map(External::pipe)
            .collect(),
        stages: Stages::new(&args.outside.action_script, &args.common.images_dir),
        sync: args.sync,
        irmap_paths: args.permissions.irmap_scan_path.clone(),
        link_remap: args.permissions.link_remap,
        portable: args.portable,
        page_server: page_server(args)?,
        packing: args.compress.or(args.checksum.then_some(Packing::Plain)),
        shell_job: args.common.shell_job,
        outside: args.permissions.outside()?,
        timeout: Duration::from_secs(args.timeout),
        freeze_cgroup: args.freeze_cgroup.clone(),
        rounds: rounds(&args.rounds, args.rounds.track_mem && after != After::Kill),
    };
    let stats = dump(&settings, destination(args)?)?;
    if args.common.display_stats {
        tell(&stats);
    }
    tracing::info!("Dumping finished successfully");
    Ok(())
}

/// Returns where the page server is that is to be used.
fn page_server(args: &DumpArgs) -> anyhow::Result<Option<Place>> {
    let server = &args.server;
    if !args.page_server {
        return Ok(None);
    }
    if let Some(fd) = server.ps_socket {
        return Ok(Some(Place::Socket(fd)));
    }
    let port = server
        .port
        .context("--page-server: no port given; use --port PORT")?;
    let host = server.address.clone().unwrap_or("127.0.0.1".into());
    Ok(Some(Place::Address(host, port)))
}

fn destination(args: &DumpArgs) -> anyhow::Result<Destination<'_>> {
    let Some(fd) = args.stream else {
        return Ok(Destination::Folder(&args.common.images_dir));
    };
    let to = crate::sys::fd::inherited(fd)
        .with_context(|| format!("cannot write a stream to descriptor {fd}"))?;
    if std::io::IsTerminal::is_terminal(&to) {
        anyhow::bail!(
            "a stream of images is nothing for a terminal; send it into a pipe or a file"
        );
    }
    Ok(Destination::Stream(to.into()))
}
