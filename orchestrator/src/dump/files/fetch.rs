//! Fetching descriptors: what is asked of each by itself. It is system calls and nothing else, seven for each descriptor, and
//! the target stands still meanwhile: two threads share them where there are many.

use super::before::Before;
use super::{Owner, owner_of, terminated};
use crate::dump::Error;
use crate::objects::unix::collect as unix;
use crate::procfs::{self, fdinfo};
use crate::sys::{self, Pid, RemoteFd, fd as kernel, file, socket};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

/// Descriptors that are fetched before they are looked at: ours are open for so long.
pub(super) const WINDOW: usize = 512;
/// From this many on a second thread is worth its making.
const WORTH_A_THREAD: usize = 64;

/// A descriptor that was fetched.
pub(super) struct Fetched {
    /// Its number in the target.
    pub(super) fd: RemoteFd,
    /// The same open file description, as ours.
    pub(super) own: OwnedFd,
    /// What the file is.
    pub(super) stat: file::FileStat,
    /// What `fdinfo` says.
    pub(super) info: fdinfo::FdInfo,
    /// Whether it is closed by `execve`; `None` = the target has to be asked.
    pub(super) cloexec: Option<bool>,
    /// What the kernel calls it.
    pub(super) link: Vec<u8>,
    /// What lies at that path now; `None` where it is no path, or nothing does.
    pub(super) at_link: Option<file::FileStat>,
    /// Who gets its signals.
    pub(super) owner: Owner,
    /// What a Unix socket says of itself.
    pub(super) socket: Option<Asked>,
}

/// What a Unix socket says of itself, or why it is not kept.
pub(super) type Asked = Result<unix::Asked, String>;

/// Descriptors beside those that are fetched.
const OTHERS: usize = 256;
const RLIMIT_NOFILE: u32 = 7;

/// Makes room for copies of so many descriptors, as long as there is one thread: where there are several, the kernel waits for
/// all processors each time that the table grows (`expand_fdtable`, `fs/file.c`), ten milliseconds or more.
pub(super) fn make_room(count: usize) {
    if count < WORTH_A_THREAD {
        return;
    }
    let this = Pid::this();
    let Ok(limit) = sys::process::prlimit(this, RLIMIT_NOFILE, None) else {
        return;
    };
    let raised = sys::process::Limit {
        soft: limit.hard,
        hard: limit.hard,
    };
    // Where it stays as it is, what is fetched has to fit.
    let _ = sys::process::prlimit(this, RLIMIT_NOFILE, Some(raised));
    let wanted = (count + WINDOW + OTHERS) as u64;
    let last = wanted.min(limit.hard.saturating_sub(1));
    if let (Ok(last), Ok((end, _))) = (i32::try_from(last), sys::pipe::pipe(libc::O_CLOEXEC)) {
        drop(kernel::dup_at_least(end, last));
    }
}

/// Fetches these descriptors of a process, in their order.
///
/// # Errors
/// One cannot be fetched.
pub(super) fn fetch_all(
    pid: Pid,
    pidfd: impl AsFd + Sync,
    fds: &[RemoteFd],
    before: &Before,
) -> Result<Vec<Fetched>, Error> {
    if fds.len() < WORTH_A_THREAD {
        return fetch_some(pid, &pidfd, fds, before);
    }
    let (one, other) = fds.split_at(fds.len() / 2);
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| fetch_some(pid, &pidfd, other, before));
        (fetch_some(pid, &pidfd, one, before), second.join())
    });
    let mut all = first?;
    all.extend(second.expect("fetching does not panic")?);
    Ok(all)
}

fn fetch_some(
    pid: Pid,
    pidfd: &impl AsFd,
    fds: &[RemoteFd],
    before: &Before,
) -> Result<Vec<Fetched>, Error> {
    let mut buffer = Vec::new();
    let mut plain = BTreeMap::new();
    let one = |&fd| {
        let own = kernel::pidfd_getfd(pidfd, fd).map_err(Error::Own)?;
        let stat = file::statx(&own).map_err(Error::Own)?;
        let socket = ask_socket(&own, &stat);
        match before.tell(fd, (&own, &stat), socket.as_ref(), &mut plain) {
            Some((link, info, at_link)) => Ok(Fetched {
                fd,
                owner: owner_of(&own),
                own,
                stat,
                info,
                cloexec: None,
                link,
                at_link,
                socket,
            }),
            None => fetch_opened(pid, fd, (own, stat, socket), &mut buffer),
        }
    };
    fds.iter().map(one).collect()
}

/// Fetches a descriptor of a process.
///
/// # Errors
/// It cannot be fetched.
pub(super) fn fetch(
    pid: Pid,
    pidfd: &impl AsFd,
    fd: RemoteFd,
    buffer: &mut Vec<u8>,
) -> Result<Fetched, Error> {
    let own = kernel::pidfd_getfd(pidfd, fd).map_err(Error::Own)?;
    let stat = file::statx(&own).map_err(Error::Own)?;
    let socket = ask_socket(&own, &stat);
    fetch_opened(pid, fd, (own, stat, socket), buffer)
}

/// Asks a Unix socket here, as that takes some thirty calls: all are asked by two threads.
fn ask_socket(own: &OwnedFd, stat: &file::FileStat) -> Option<Asked> {
    let is_unix = stat.kind() == libc::S_IFSOCK
        && socket::option(own, libc::SO_DOMAIN).is_ok_and(|domain| domain == libc::AF_UNIX);
    is_unix.then(|| unix::ask(own))
}

fn fetch_opened(
    pid: Pid,
    fd: RemoteFd,
    (own, stat, socket): (OwnedFd, file::FileStat, Option<Asked>),
    buffer: &mut Vec<u8>,
) -> Result<Fetched, Error> {
    let info = fdinfo::read_with(pid, fd, buffer)?;
    let info = caught_up(pid, fd, &own, info)?;
    let link = procfs::fd::read_target(pid, fd)?;
    let at_link = at(&link, &stat);
    let owner = match info.flags & libc::O_PATH as u32 {
        0 => owner_of(&own),
        _ => Owner::default(),
    };
    Ok(Fetched {
        fd,
        own,
        stat,
        cloexec: Some(info.flags & libc::O_CLOEXEC as u32 != 0),
        info,
        link,
        at_link,
        owner,
        socket,
    })
}

/// Returns what lies where the kernel says that a file is; nothing where that is no path.
pub(super) fn at(link: &[u8], stat: &file::FileStat) -> Option<file::FileStat> {
    let path = link.starts_with(b"/").then(|| terminated(link))?;
    let found = match stat.kind() {
        libc::S_IFLNK => file::statx_link(&path),
        _ => file::statx_path(&path),
    };
    found.ok()
}

/// A periodic timer that has expired stands still until somebody looks at it, and only then counts what it missed
/// (`timerfd_gettime`, `fs/timerfd.c`): it is looked at, which the program cannot tell.
fn caught_up(
    pid: Pid,
    fd: RemoteFd,
    own: &OwnedFd,
    info: fdinfo::FdInfo,
) -> Result<fdinfo::FdInfo, Error> {
    match &info.kind {
        fdinfo::Kind::TimerFd(timer) if timer.interval_ns != 0 && timer.value_ns == 0 => {
            kernel::timerfd_look(own).map_err(Error::Own)?;
            Ok(fdinfo::read(pid, fd)?)
        }
        _ => Ok(info),
    }
}
