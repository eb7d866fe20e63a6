//! `orchestrator page-server`.

use super::args::PageServerArgs;
use super::say;
use super::server::{Ready, go_on_in_background, tls};
use crate::image;
use crate::page_server::{Shelf, StoredPages, greet, hand_out, listen, serve};
use crate::sys::{fd, process};
use crate::wire::client::inherited;
use crate::wire::tls::Tls;
use anyhow::Context as _;
use std::net::{TcpListener, TcpStream};

/// Waits for a client and stores its pages.
///
/// # Errors
/// Whatever stands in the way, or went wrong with the client.
pub fn run(args: &PageServerArgs) -> anyhow::Result<()> {
    let tls = tls(&args.server)?;
    let tls = tls.as_ref();
    if let Some(fd) = args.server.ps_socket {
        let socket = inherited(fd).with_context(|| not_connected(fd))?;
        ready(args).tell(std::process::id())?;
        return receive(args, socket, tls);
    }
    let listener = match args.listening_fd {
        Some(number) => {
            let copy = fd::inherited(number).with_context(|| not_connected(number))?;
            process::start_session().context("cannot leave the session")?;
            TcpListener::from(copy)
        }
        None => {
            let address = args.server.address.as_deref().unwrap_or("0.0.0.0");
            listen(address, args.server.port.unwrap_or(0))?
        }
    };
    if args.daemon && args.listening_fd.is_none() {
        let pid = go_on_in_background(&listener)?;
        tell_place(&listener);
        return ready(args).tell(pid);
    }
    if args.listening_fd.is_none() {
        ready(args).tell(std::process::id())?;
        tell_place(&listener);
    }
    let (socket, client) = listener.accept().context("cannot take a client")?;
    drop(listener);
    tracing::info!("serving {client}");
    receive(args, socket, tls)
}

fn not_connected(fd: i32) -> String {
    format!("descriptor {fd} is no connected socket")
}

fn receive(args: &PageServerArgs, socket: TcpStream, tls: Option<&Tls>) -> anyhow::Result<()> {
    if args.lazy_pages {
        let mut pages = StoredPages::of(image::read(&args.common.images_dir)?)?;
        let sent = hand_out(greet(socket, tls)?, &mut pages)?;
        tracing::info!("handed out {sent} pages");
        return Ok(());
    }
    let shelf = Shelf {
        dir: &args.common.images_dir,
        parent: args.prev_images_dir.as_deref(),
        dedup: args.auto_dedup,
    };
    let received = serve(greet(socket, tls)?, shelf)?;
    tracing::info!(
        "stored {} pages of {} processes and shared segments",
        received.pages,
        received.holders
    );
    Ok(())
}

/// Says where it waits: a port that was left to the kernel is not known before.
fn tell_place(listener: &TcpListener) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!("waiting for a client at {address}");
        say::line(format_args!("page server at {address}"));
    }
}

fn ready(args: &PageServerArgs) -> Ready<'_> {
    Ready {
        common: &args.common,
        pidfile: args.pidfile.as_deref(),
        status_fd: args.status_fd,
    }
}
