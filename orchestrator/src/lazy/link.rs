//! How a restore hands memory over to a daemon: through a Unix socket in the work folder, messages of 8 bytes.
//!
//! ```text
//! u32 1, i32 pid   with a userfaultfd: memory of this process; answered by a byte once daemon and guard have it
//! u32 2, i32 0     all were handed over, and run
//! ```

use super::error::{Doing, Error, Result};
use crate::sys::socket::{receive_with, send_with};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the socket.
pub const SOCKET: &str = "lazy-pages.socket";
const SPACE: u32 = 1;
const FINISHED: u32 = 2;
/// Bytes of a message.
const LEN: usize = 8;
/// How long a daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The restore's side.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
}

impl Link {
    /// Connects to the daemon that waits in a work folder.
    ///
    /// # Errors
    /// There is none.
    pub fn connect(work_dir: &Path) -> Result<Self> {
        let failed = |source| Error::NoDaemon {
            path: work_dir.join(SOCKET).display().to_string(),
            source,
        };
        let (_folder, path) = short_path(work_dir).map_err(failed)?;
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Self { stream })
    }

    /// Hands over the memory of a process.
    ///
    /// # Errors
    /// The daemon is gone.
    pub fn hand_over(&self, pid: i32, uffd: impl AsFd) -> Result<()> {
        let doing = "hand memory over to the lazy-pages daemon";
        send_with(&self.stream, &message(SPACE, pid), uffd).doing(doing)?;
        let mut answer = [0];
        let read = (&self.stream).read_exact(&mut answer);
        read.map_err(|_| {
            Error::Gone("the lazy-pages daemon does not take the memory: its log says why")
        })
    }

    /// Tells that all is handed over and runs.
    ///
    /// # Errors
    /// The daemon is gone.
    pub fn finish(&self) -> Result<()> {
        let sent = (&self.stream).write_all(&message(FINISHED, 0));
        sent.map_err(|_| Error::Gone("the lazy-pages daemon is gone"))
    }
}

fn message(kind: u32, pid: i32) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..4].copy_from_slice(&kind.to_ne_bytes());
    bytes[4..].copy_from_slice(&pid.to_ne_bytes());
    bytes
}

/// Returns a path of the socket that is short enough for one, and what it is valid with.
fn short_path(work_dir: &Path) -> std::io::Result<(File, PathBuf)> {
    let folder = File::open(work_dir)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
    Ok((folder, path.into()))
}

/// Waits in a work folder for a restore.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(work_dir: &Path) -> Result<UnixListener> {
    let failed = |source| Error::Listen {
        path: work_dir.join(SOCKET).display().to_string(),
        source,
    };
    let (_folder, path) = short_path(work_dir).map_err(failed)?;
    if UnixStream::connect(&path).is_err() {
        // That of a daemon that was killed.
        let _ = std::fs::remove_file(&path);
    }
    UnixListener::bind(path).map_err(failed)
}

/// What a restore says.
#[derive(Debug)]
pub enum Word {
    /// Memory of a process.
    Space(i32, OwnedFd),
    /// All runs.
    Finished,
    /// It is gone, or says what it cannot.
    Gone,
}

/// Takes the next word of a restore.
///
/// # Errors
/// The socket is in error.
pub fn receive(stream: &UnixStream) -> Result<Word> {
    let mut bytes = [0; LEN];
    let (len, mut fds) = receive_with(stream, &mut bytes).doing("hear from the restore")?;
    let [kind, pid] = [0, 4].map(|at| {
        let word = bytes[at..at + 4].try_into().expect("4 bytes");
        i32::from_ne_bytes(word)
    });
    Ok(match (len, kind as u32, fds.pop()) {
        (LEN, SPACE, Some(uffd)) => Word::Space(pid, uffd),
        (LEN, FINISHED, _) => Word::Finished,
        _ => Word::Gone,
    })
}

/// Tells a restore that its memory is in good hands.
///
/// # Errors
/// The restore is gone.
pub fn accept(mut stream: &UnixStream) -> Result<()> {
    let sent = stream.write_all(&[0]);
    sent.map_err(|_| Error::Gone("the restore is gone"))
}
