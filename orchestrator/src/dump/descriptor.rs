//! What a descriptor is, from what `/proc/PID/fd` and `fstat` say of it. Pure.

/// What is known of a descriptor before anything is asked of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Target of the link `/proc/PID/fd/N`.
    pub link: Vec<u8>,
    /// `st_mode`.
    pub mode: u32,
    /// `st_rdev`, as major and minor.
    pub rdev: (u32, u32),
    /// `st_nlink`.
    pub links: u64,
    /// `F_GETFL`.
    pub flags: u32,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// A file, directory or `O_PATH` descriptor, by its path.
    Path,
    /// A character device without state.
    Device,
    /// An anonymous pipe with this inode.
    Pipe(u64),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// eventfd.
    EventFd,
    /// epoll.
    Epoll,
    /// timerfd.
    TimerFd,
    /// signalfd.
    SignalFd,
    /// inotify.
    Inotify,
    /// fanotify.
    Fanotify,
    /// memfd.
    Memfd,
    /// pidfd.
    PidFd,
    /// BPF map.
    BpfMap,
    /// A namespace.
    Namespace,
    /// A POSIX message queue.
    Queue,
    /// A terminal.
    Terminal,
    /// `/dev/net/tun`.
    Tun,
    /// One that cannot be kept; what it is.
    Refused(String),
}

/// Memory devices that any open of the node gives again: null, zero, full, random, urandom.
const PLAIN_MEMORY_DEVICES: [u32; 5] = [3, 5, 7, 8, 9];

/// Major numbers of terminals: virtual consoles and serial lines, `/dev/tty`, the console and pty masters, pty slaves (`Documentation/admin-guide/devices.txt`).
fn is_terminal(major: u32, minor: u32) -> bool {
    major == 4 || (major == 5 && minor < 3) || (136..=143).contains(&major)
}

/// Says what a descriptor is.
pub fn classify(seen: &Seen) -> Class {
    let anonymous = seen.link.strip_prefix(b"anon_inode:");
    if let Some(name) = anonymous {
        return anonymous_inode(name);
    }
    let is_path_only = seen.flags & libc::O_PATH as u32 != 0;
    match seen.mode & libc::S_IFMT {
        libc::S_IFREG if seen.links == 0 && is_memory(&seen.link) => Class::Memfd,
        libc::S_IFREG if is_namespace(&seen.link) => Class::Namespace,
        libc::S_IFREG | libc::S_IFDIR => by_path(seen),
        libc::S_IFLNK | libc::S_IFCHR | libc::S_IFBLK | libc::S_IFIFO | libc::S_IFSOCK
            if is_path_only =>
        {
            by_path(seen)
        }
        libc::S_IFCHR => device(seen),
        libc::S_IFIFO => match pipe_inode(&seen.link) {
            Some(inode) => Class::Pipe(inode),
            None if seen.link.starts_with(b"/") => Class::Fifo,
            None => Class::Refused("a fifo without a path".into()),
        },
        libc::S_IFSOCK => Class::Socket,
        libc::S_IFBLK => Class::Refused(format!("block device {}:{}", seen.rdev.0, seen.rdev.1)),
        _ => Class::Refused("an unknown kind of file".into()),
    }
}

/// Returns whether this is the name of a memfd, or of shared anonymous memory, which can be opened by `/proc/PID/map_files`.
fn is_memory(link: &[u8]) -> bool {
    link.starts_with(b"/memfd:") || link == b"/dev/zero (deleted)"
}

/// Returns whether this is the name of a namespace: `net:[4026531840]`.
fn is_namespace(link: &[u8]) -> bool {
    let mut parts = link.splitn(2, |&byte| byte == b':');
    let kind = parts.next().unwrap_or_default();
    let number = parts.next().and_then(|rest| rest.strip_prefix(b"["));
    !kind.contains(&b'/') && number.is_some_and(|number| number.ends_with(b"]"))
}

fn by_path(seen: &Seen) -> Class {
    if seen.link.starts_with(b"/") {
        Class::Path
    } else {
        Class::Refused("a file without a path (from outside of the root)".into())
    }
}

/// `/dev/net/tun` (`Documentation/admin-guide/devices.txt`).
const NET_TUN: (u32, u32) = (10, 200);

fn device(seen: &Seen) -> Class {
    let (major, minor) = seen.rdev;
    if major == 1 && PLAIN_MEMORY_DEVICES.contains(&minor) {
        Class::Device
    } else if is_terminal(major, minor) {
        Class::Terminal
    } else if (major, minor) == NET_TUN {
        Class::Tun
    } else {
        Class::Refused(format!("character device {major}:{minor}"))
    }
}

fn anonymous_inode(name: &[u8]) -> Class {
    match name {
        b"[eventfd]" => Class::EventFd,
        b"[eventpoll]" => Class::Epoll,
        b"[timerfd]" => Class::TimerFd,
        b"[signalfd]" => Class::SignalFd,
        b"[pidfd]" => Class::PidFd,
        b"inotify" => Class::Inotify,
        b"[fanotify]" => Class::Fanotify,
        b"bpf-map" => Class::BpfMap,
        other => Class::Refused(
            String::from_utf8_lossy(other)
                .trim_matches(['[', ']'])
                .to_string(),
        ),
    }
}

fn pipe_inode(link: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(b"pipe:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(link: &str, mode: u32, rdev: (u32, u32)) -> Seen {
        Seen {
            link: link.into(),
            mode,
            rdev,
            links: 1,
            flags: 0,
        }
    }

    #[test]
    fn every_kind_is_told_from_the_others() {
        assert_eq!(
            classify(&seen("/etc/passwd", libc::S_IFREG, (0, 0))),
            Class::Path
        );
        assert_eq!(
            classify(&seen("/dev/null", libc::S_IFCHR, (1, 3))),
            Class::Device
        );
        assert_eq!(
            classify(&seen("/dev/pts/3", libc::S_IFCHR, (136, 3))),
            Class::Terminal
        );
        assert_eq!(
            classify(&seen("pipe:[77]", libc::S_IFIFO, (0, 0))),
            Class::Pipe(77)
        );
        assert_eq!(
            classify(&seen("anon_inode:[eventpoll]", 0o600, (0, 0))),
            Class::Epoll
        );
        assert_eq!(
            classify(&seen("net:[4026531840]", libc::S_IFREG, (0, 0))),
            Class::Namespace
        );
        let memfd = Seen {
            links: 0,
            ..seen("/memfd:x (deleted)", libc::S_IFREG, (0, 0))
        };
        assert_eq!(classify(&memfd), Class::Memfd);
    }

    #[test]
    fn what_is_not_kept_is_named() {
        assert_eq!(
            classify(&seen("socket:[1]", libc::S_IFSOCK, (0, 0))),
            Class::Socket
        );
        assert_eq!(
            classify(&seen("anon_inode:[io_uring]", 0o600, (0, 0))),
            Class::Refused("io_uring".into())
        );
        assert_eq!(
            classify(&seen("anon_inode:inotify", 0o600, (0, 0))),
            Class::Inotify
        );
        assert_eq!(
            classify(&seen("/dev/mem", libc::S_IFCHR, (1, 1))),
            Class::Refused("character device 1:1".into())
        );
        assert_eq!(
            classify(&seen("/dev/net/tun", libc::S_IFCHR, (10, 200))),
            Class::Tun
        );
        assert_eq!(
            classify(&seen("/run/f", libc::S_IFIFO, (0, 0))),
            Class::Fifo
        );
    }

    #[test]
    fn a_file_named_like_a_memfd_is_a_file() {
        assert_eq!(
            classify(&seen("/memfd:x", libc::S_IFREG, (0, 0))),
            Class::Path
        );
    }
}
