//! `orchestrator dump`.

use super::args::DumpArgs;
use super::rounds::{rounds, tell};
use super::server::{reach, tls};
use crate::dump::outlet::Destination;
use crate::dump::source::{Door, Source};
use crate::dump::{After, Settings, dump};
use crate::page_server::listen;
use crate::stages::Stages;
use crate::sys::Pid;
use crate::wire::batches::Packing;
use anyhow::Context as _;
use std::sync::Arc;
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
    let after = if args.leave_running || args.live {
        After::Run
    } else if args.leave_stopped {
        After::Stop
    } else {
        After::Kill
    };
    let settings = Settings {
        pid: Pid(pid),
        after,
        live: args.live,
        file_locks: args.permissions.file_locks,
        ghost_limit: args.ghost_limit,
        external: args.permissions.external.clone(),
        stages: Stages::new(&args.outside.action_script, &args.common.images_dir),
        sync: args.sync,
        irmap_paths: args.permissions.irmap_scan_path.clone(),
        link_remap: args.permissions.link_remap,
        portable: args.portable,
        page_server: args
            .page_server
            .then(|| reach(&args.server, "--page-server"))
            .transpose()?,
        lazy: source(args)?,
        packing: args.compress.or(args.checksum.then_some(Packing::Plain)),
        shell_job: args.common.shell_job,
        outside: args.permissions.outside()?,
        connections: args.permissions.connections(),
        network_lock: args.permissions.network_lock(),
        empty_network: args.permissions.namespaces.is_network_empty(),
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

/// Listens where pages of the frozen tree can be asked for, if they are to be left to it.
fn source(args: &DumpArgs) -> anyhow::Result<Option<Source>> {
    if !args.lazy_pages {
        return Ok(None);
    }
    let door = match (args.server.ps_socket, args.server.port) {
        (Some(fd), _) => Door::Socket(fd),
        (None, port) => {
            let address = args.server.address.as_deref().unwrap_or("0.0.0.0");
            let port = port.context("--lazy-pages: no port given; use --port PORT")?;
            Door::Listener(Arc::new(listen(address, port)?))
        }
    };
    Ok(Some(Source {
        door,
        tls: tls(&args.server)?,
        status_fd: args.status_fd,
    }))
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
