//! What servers have in common: telling that clients can come, and going on in the background.

use super::args::CommonArgs;
use super::log::work_dir;
use crate::sys::fd;
use anyhow::Context as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

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
