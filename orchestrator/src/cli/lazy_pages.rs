//! `orchestrator lazy-pages`.

use super::args::LazyPagesArgs;
use super::log::work_dir;
use super::say;
use super::server::{Ready, go_on_in_background, reach};
use crate::image;
use crate::lazy::daemon::{self, Settings};
use crate::lazy::link;
use crate::sys::{fd, process};
use crate::wire::client::Server;
use anyhow::Context as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// Waits for a restore, and brings the memory of what it restored.
///
/// # Errors
/// Memory does not come; the tree is ended or stopped then.
pub fn run(args: &LazyPagesArgs) -> anyhow::Result<()> {
    let images = image::read(&args.common.images_dir)?;
    let server = match (args.page_server, args.daemon && args.listening_fd.is_none()) {
        (true, false) => Some(Server::connect(&reach(&args.server, "--page-server")?)?),
        _ => None,
    };
    let listener = match args.listening_fd {
        Some(number) => {
            let socket = fd::inherited(number)
                .with_context(|| format!("descriptor {number} is no socket"))?;
            process::start_session().context("cannot leave the session")?;
            UnixListener::from(socket)
        }
        None => link::listen(work_dir(&args.common))?,
    };
    let ready = Ready {
        common: &args.common,
        pidfile: args.pidfile.as_deref(),
        status_fd: args.status_fd,
    };
    if args.daemon && args.listening_fd.is_none() {
        return ready.tell(go_on_in_background(&listener)?);
    }
    if args.listening_fd.is_none() {
        ready.tell(std::process::id())?;
        say::line(format_args!(
            "waiting for orchestrator restore --lazy-pages"
        ));
    }
    let settings = Settings {
        on_failure: args.on_failure,
        pause: Duration::from_millis(args.pause),
    };
    let served = daemon::serve(listener, (images, server), settings);
    // Nobody is to find it, whatever came of it.
    let _ = std::fs::remove_file(work_dir(&args.common).join(link::SOCKET));
    let served = served?;
    tracing::info!(
        "all memory is there: {} address spaces, {} faults",
        served.spaces,
        served.faults
    );
    if args.listening_fd.is_none() {
        say::line(format_args!(
            "all memory is there: {} pages were read here, {} came from the source",
            served.brought.here, served.brought.source
        ));
    }
    Ok(())
}
