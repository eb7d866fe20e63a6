//! `orchestrator page-server`.

use super::args::PageServerArgs;
use super::log::work_dir;
use super::say;
use crate::page_server::{listen, serve};
use crate::sys::{fd, process};
use crate::wire::client::inherited;
use anyhow::Context as _;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Command, Stdio};

/// Waits for a client and stores its pages.
///
/// # Errors
/// Whatever stands in the way, or went wrong with the client.
pub fn run(args: &PageServerArgs) -> anyhow::Result<()> {
    if let Some(fd) = args.server.ps_socket {
        let socket = inherited(fd).with_context(|| not_connected(fd))?;
        tell_ready(args, std::process::id())?;
        return receive(args, socket);
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
        return go_on_in_background(args, &listener);
    }
    if args.listening_fd.is_none() {
        tell_ready(args, std::process::id())?;
        tell_place(&listener);
    }
    let (socket, client) = listener.accept().context("cannot take a client")?;
    drop(listener);
    tracing::info!("serving {client}");
    receive(args, socket)
}

fn not_connected(fd: i32) -> String {
    format!("descriptor {fd} is no connected socket")
}

fn receive(args: &PageServerArgs, socket: TcpStream) -> anyhow::Result<()> {
    let received = serve(socket, &args.common.images_dir)?;
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

/// Tells whoever waits that clients can come.
fn tell_ready(args: &PageServerArgs, pid: u32) -> anyhow::Result<()> {
    if let Some(file) = &args.pidfile {
        let file = work_dir(&args.common).join(file);
        std::fs::write(&file, pid.to_string())
            .with_context(|| format!("cannot write the pid file {}", file.display()))?;
    }
    if let Some(number) = args.status_fd {
        let status: OwnedFd = fd::inherited(number)
            .with_context(|| format!("cannot tell descriptor {number} that it is ready"))?;
        std::fs::File::from(status)
            .write_all(&[0])
            .with_context(|| format!("cannot tell descriptor {number} that it is ready"))?;
        fd::close_inherited(number);
    }
    Ok(())
}

/// Starts this program anew, in the background, with the socket that is listened at.
fn go_on_in_background(args: &PageServerArgs, listener: &TcpListener) -> anyhow::Result<()> {
    let doing = "cannot go on in the background";
    fd::set_close_on_exec(listener, false).context(doing)?;
    let mut child = Command::new("/proc/self/exe");
    child
        .args(std::env::args_os().skip(1))
        .arg(format!("--listening-fd={}", listener.as_raw_fd()))
        // Whoever waits for the end of what we say would wait for the server's.
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = child.spawn().context(doing)?;
    tell_place(listener);
    tell_ready(args, child.id())
}
