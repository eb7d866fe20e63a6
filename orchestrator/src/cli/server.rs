//! What servers have in common: telling that clients can come, and going on in the background.

use super::args::{CommonArgs, ServerArgs};
use super::log::work_dir;
use crate::sys::fd;
use crate::wire::client::{Place, Reach};
use crate::wire::tls::{Files, Tls};
use anyhow::Context as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where certificates lie that no option names: the peer's places.
const AUTHORITY: &str = "/etc/pki/CA/cacert.pem";
const REVOKED: &str = "/etc/pki/CA/cacrl.pem";
const CERTIFICATE: &str = "/etc/pki/criu/cert.pem";
const KEY: &str = "/etc/pki/criu/private/key.pem";

/// Returns where and how the page server is reached that `option` names.
///
/// # Errors
/// No port is given, or certificates cannot be used.
pub fn reach(server: &ServerArgs, option: &str) -> anyhow::Result<Reach> {
    let host = server.address.clone();
    let (place, name) = match (server.ps_socket, server.port) {
        (Some(fd), _) => (Place::Socket(fd), host),
        (None, port) => {
            let port = port.with_context(|| format!("{option}: no port given; use --port PORT"))?;
            let host = host.unwrap_or("127.0.0.1".into());
            (Place::Address(host.clone(), port), Some(host))
        }
    };
    Ok(Reach {
        place,
        name,
        tls: tls(server)?,
    })
}

/// Reads the certificates, where TLS is wanted.
///
/// # Errors
/// They cannot be used.
pub fn tls(server: &ServerArgs) -> anyhow::Result<Option<Tls>> {
    if !server.tls {
        return Ok(None);
    }
    let or = |given: &Option<PathBuf>, usual: &str| given.clone().unwrap_or(usual.into());
    let usual = Path::new(REVOKED);
    let files = Files {
        authority: or(&server.tls_cacert, AUTHORITY),
        revoked: (server.tls_cacrl.clone()).or(usual.exists().then(|| usual.into())),
        certificate: or(&server.tls_cert, CERTIFICATE),
        key: or(&server.tls_key, KEY),
    };
    Ok(Some(Tls::load(&files, !server.tls_no_cn_verify)?))
}

/// Who waits for a server.
#[derive(Debug, Clone, Copy)]
pub struct Ready<'a> {
    /// Where the work folder is.
    pub common: &'a CommonArgs,
    /// The file that gets its process id.
    pub pidfile: Option<&'a Path>,
    /// The descriptor that gets a zero byte.
    pub status_fd: Option<i32>,
}

impl Ready<'_> {
    /// Tells that clients of the server `pid` can come.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn tell(&self, pid: u32) -> anyhow::Result<()> {
        if let Some(file) = self.pidfile {
            let file = work_dir(self.common).join(file);
            std::fs::write(&file, pid.to_string())
                .with_context(|| format!("cannot write the pid file {}", file.display()))?;
        }
        if let Some(number) = self.status_fd {
            let words = || format!("cannot tell descriptor {number} that it is ready");
            let status: OwnedFd = fd::inherited(number).with_context(words)?;
            File::from(status).write_all(&[0]).with_context(words)?;
            fd::close_inherited(number);
        }
        Ok(())
    }
}

/// Starts this program anew, in the background, with the socket that is listened at, and returns its process id.
///
/// # Errors
/// It cannot be started.
pub fn go_on_in_background(listener: impl AsFd) -> anyhow::Result<u32> {
    let doing = "cannot go on in the background";
    let listener = listener.as_fd();
    fd::set_close_on_exec(listener, false).context(doing)?;
    let mut child = Command::new("/proc/self/exe");
    child
        .args(std::env::args_os().skip(1))
        .arg(format!("--listening-fd={}", listener.as_raw_fd()))
        // Whoever waits for the end of what we say would wait for the server's.
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(child.spawn().context(doing)?.id())
}
