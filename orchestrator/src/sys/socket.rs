//! Sockets: options, names, and what waits in them.

use super::{Named, Result, check};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use zerocopy::IntoBytes as _;

/// Returns an option of `SOL_SOCKET` that is a number.
pub fn option(socket: impl AsFd, option: i32) -> Result<i32> {
    let mut value = 0_i32;
    option_of(socket, libc::SOL_SOCKET, option, value.as_mut_bytes())?;
    Ok(value)
}

/// Fills `buffer` with an option of any level, and returns how many bytes it has.
pub fn option_of(socket: impl AsFd, level: i32, option: i32, buffer: &mut [u8]) -> Result<usize> {
    let mut len = buffer.len() as libc::socklen_t;
    // SAFETY: the kernel reads and writes at most `len` bytes of `buffer`, which has as many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    check("getsockopt", result.into())?;
    Ok((len as usize).min(buffer.len()))
}

/// Sets an option of any level.
pub fn set_option_of(socket: impl AsFd, level: i32, option: i32, value: &[u8]) -> Result<()> {
    // SAFETY: the kernel reads no more bytes than `value` has.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    check("setsockopt", result.into()).map(drop)
}

/// Makes a socket, closed on exec.
pub fn make(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: it takes three numbers.
    let result = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    let fd = check("socket", result.into())?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Returns the name of an interface.
pub fn interface_name(index: u32) -> Option<Vec<u8>> {
    let name = nix::net::if_::if_indextoname(index).ok()?;
    Some(name.into_bytes())
}

/// Returns the index of an interface.
pub fn interface_index(name: &[u8]) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// Who is behind the other end of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Process id, as we see it.
    pub pid: i32,
    /// User id.
    pub uid: u32,
}

/// Returns who made the other end of a Unix socket, or listens there.
pub fn peer(socket: impl AsFd) -> Result<Peer> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    let creds = getsockopt(&socket, PeerCredentials).named("getsockopt(SO_PEERCRED)")?;
    Ok(Peer {
        pid: creds.pid(),
        uid: creds.uid(),
    })
}

/// Returns an option of `SOL_SOCKET` that is two words (a `timeval`, a `linger` in the first).
pub fn option_pair(socket: impl AsFd, option: i32) -> Result<[i64; 2]> {
    let mut value = [0_i64; 2];
    option_of(socket, libc::SOL_SOCKET, option, value.as_mut_bytes())?;
    Ok(value)
}

/// Returns an option of `SOL_SOCKET` of at most 8 bytes, as a number.
pub fn option_bytes(socket: impl AsFd, option: i32, bytes: usize) -> Result<u64> {
    let mut value = [0; size_of::<u64>()];
    let len = bytes.min(value.len());
    option_of(socket, libc::SOL_SOCKET, option, &mut value[..len])?;
    Ok(u64::from_ne_bytes(value))
}

/// Returns the name of the device that a socket is bound to (`SO_BINDTODEVICE`): empty where it is to none.
pub fn device(socket: impl AsFd) -> Result<Vec<u8>> {
    let mut name = [0_u8; libc::IFNAMSIZ];
    let len = option_of(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &mut name)?;
    let mut parts = name[..len].split(|byte| *byte == 0);
    Ok(parts.next().unwrap_or_default().to_vec())
}

/// Returns the filter of a socket, an instruction a number: code, two jumps and a value from the highest bits down; none where
/// it has none. `EACCES` where it is a BPF program.
pub fn filter(socket: impl AsFd) -> Result<Vec<u64>> {
    let fd = socket.as_fd().as_raw_fd();
    // The kernel counts instructions here, not bytes.
    let ask = |at: *mut libc::sock_filter, mut len: libc::socklen_t| {
        // SAFETY: the kernel writes at most `len` instructions to `at`, which has room for them; none where `len` is 0.
        let result = unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_GET_FILTER,
                at.cast(),
                &raw mut len,
            )
        };
        check("getsockopt(SO_GET_FILTER)", result.into()).map(|_| len)
    };
    let len = ask(std::ptr::null_mut(), 0)?;
    if len == 0 {
        return Ok(Vec::new());
    }
    let empty = libc::sock_filter {
        code: 0,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let mut program = vec![empty; len as usize];
    let filled = ask(program.as_mut_ptr(), len)?;
    program.truncate(filled as usize);
    let one = |at: &libc::sock_filter| {
        let jumps = u64::from(at.jt) << 40 | u64::from(at.jf) << 32;
        u64::from(at.code) << 48 | jumps | u64::from(at.k)
    };
    Ok(program.iter().map(one).collect())
}

/// Sets an option of `SOL_SOCKET` that is a number.
pub fn set_option(socket: impl AsFd, option: i32, value: i32) -> Result<()> {
    set_option_of(socket, libc::SOL_SOCKET, option, &value.to_ne_bytes())
}

/// Returns process, user and group of whoever made the other end (`SO_PEERCRED`, a `struct ucred`).
pub fn peer_credentials(socket: impl AsFd) -> Result<[u32; 3]> {
    let mut value = [0_u32; 3];
    option_of(
        socket,
        libc::SOL_SOCKET,
        libc::SO_PEERCRED,
        value.as_mut_bytes(),
    )?;
    Ok(value)
}

/// Returns the socket's own name, without its family: empty where it has none. That of a Unix socket in the file system ends
/// with a zero, an abstract one begins with one.
pub fn name(socket: impl AsFd) -> Result<Vec<u8>> {
    let socket = socket.as_fd().as_raw_fd();
    address(|name, len| {
        // SAFETY: the kernel writes at most `len` bytes to `name`, which has as many.
        let result = unsafe { libc::getsockname(socket, name, len) };
        check("getsockname", result.into())
    })
}

/// Returns the name of what the socket is connected to, as [`name`].
pub fn peer_name(socket: impl AsFd) -> Result<Vec<u8>> {
    let socket = socket.as_fd().as_raw_fd();
    address(|name, len| {
        // SAFETY: the kernel writes at most `len` bytes to `name`, which has as many.
        let result = unsafe { libc::getpeername(socket, name, len) };
        check("getpeername", result.into())
    })
}

fn address(
    ask: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> Result<usize>,
) -> Result<Vec<u8>> {
    let mut bytes = Address::new();
    let mut len = size_of::<Address>() as libc::socklen_t;
    ask(bytes.as_mut_ptr(), &raw mut len)?;
    Ok(bytes.name(len))
}

/// Room for any address of a socket.
#[repr(C, align(8))]
struct Address([u8; 128]);

impl Address {
    fn new() -> Self {
        Self([0; 128])
    }

    fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        self.0.as_mut_ptr().cast()
    }

    /// Returns the bytes behind the family of an address of `len` bytes.
    fn name(&self, len: libc::socklen_t) -> Vec<u8> {
        let len = (len as usize).min(self.0.len());
        self.0[..len]
            .get(size_of::<libc::sa_family_t>()..)
            .unwrap_or_default()
            .to_vec()
    }
}

/// Returns a descriptor (`O_PATH`) of the file that a Unix socket was bound to, whether it has its name still or not; `ENOENT`
/// where it has none. Needs CAP_NET_ADMIN.
pub fn unix_file(socket: impl AsFd) -> Result<OwnedFd> {
    /// `SIOCUNIXFILE` of `linux/un.h`.
    const SIOCUNIXFILE: u64 = 0x89e0;
    // SAFETY: SIOCUNIXFILE takes no argument.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCUNIXFILE) };
    let fd = check("ioctl(SIOCUNIXFILE)", result.into())?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Returns the memory that messages take which the socket has sent and nobody has read yet.
pub fn unread_by_others(socket: impl AsFd) -> Result<usize> {
    let mut bytes = 0_i32;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: SIOCOUTQ writes one `int` through the pointer to `bytes`.
    let result = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) };
    check("ioctl(SIOCOUTQ)", result.into())?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Returns the bytes that a socket of TCP has not sent yet.
pub fn unsent(socket: impl AsFd) -> Result<usize> {
    /// `SIOCOUTQNSD` of `linux/sockios.h`.
    const SIOCOUTQNSD: u64 = 0x894b;
    let mut bytes = 0_i32;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: SIOCOUTQNSD writes one `int` through the pointer to `bytes`.
    let result = unsafe { libc::ioctl(fd, SIOCOUTQNSD, &raw mut bytes) };
    check("ioctl(SIOCOUTQNSD)", result.into())?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Sends to an address, given as a `struct sockaddr` (none: to the other end), without waiting; returns how many bytes went.
pub fn send(socket: impl AsFd, bytes: &[u8], address: &[u8]) -> Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let to = match address.is_empty() {
        true => std::ptr::null(),
        false => address.as_ptr().cast(),
    };
    // SAFETY: the kernel reads no more bytes than `bytes` and `address` have.
    let result = unsafe {
        libc::sendto(
            socket.as_fd().as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            flags,
            to,
            address.len() as libc::socklen_t,
        )
    };
    check("sendto", result as i64)
}

/// Fills `buffer` with what a stream would give next, and leaves it there; returns how many bytes there are.
pub fn look(socket: impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    // Not with MSG_TRUNC, by which TCP copies nothing.
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes no more bytes than `buffer` has.
    let result = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), flags) };
    check("recv", result as i64)
}

/// Shuts a socket for sending.
pub fn shut_sending(socket: impl AsFd) -> Result<()> {
    // SAFETY: it takes two numbers.
    let result = unsafe { libc::shutdown(socket.as_fd().as_raw_fd(), libc::SHUT_WR) };
    check("shutdown", result.into()).map(drop)
}

/// Connects to an address, given as a `struct sockaddr`.
pub fn connect(socket: impl AsFd, address: &[u8]) -> Result<()> {
    // SAFETY: the kernel reads no more bytes than `address` has.
    let result = unsafe {
        libc::connect(
            socket.as_fd().as_raw_fd(),
            address.as_ptr().cast(),
            address.len() as libc::socklen_t,
        )
    };
    check("connect", result.into()).map(drop)
}

/// Returns whether a byte waits that was sent out of band.
pub fn has_urgent(socket: impl AsFd) -> bool {
    let mut byte = 0_u8;
    let flags = libc::MSG_OOB | libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most one byte through the pointer to `byte`.
    unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, flags) == 1 }
}

/// Lets the kernel ask a silent peer of a TCP connection whether it is still there: after `idle` seconds, every `interval`
/// seconds, `probes` times.
pub fn keep_alive(socket: impl AsFd, idle: i32, interval: i32, probes: i32) -> Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    let call = "setsockopt(SO_KEEPALIVE)";
    let seconds = |number: i32| number.unsigned_abs();
    setsockopt(&socket, sockopt::KeepAlive, &true).named(call)?;
    setsockopt(&socket, sockopt::TcpKeepIdle, &seconds(idle)).named(call)?;
    setsockopt(&socket, sockopt::TcpKeepInterval, &seconds(interval)).named(call)?;
    setsockopt(&socket, sockopt::TcpKeepCount, &seconds(probes)).named(call)
}

/// What a look into a queue found.
#[derive(Debug, Default)]
pub struct Peeked {
    /// Bytes of the message, of which at most the buffer's were copied.
    pub len: usize,
    /// Name of who sent it, as [`name`].
    pub sender: Vec<u8>,
    /// Descriptors that come with it, closed on exec: duplicates of ours.
    pub rights: Vec<OwnedFd>,
    /// Process, user and group that come with it.
    pub credentials: Option<[u32; 3]>,
    /// More comes with it than was understood.
    pub has_more: bool,
    /// What: level, type and value; in the kernel's order.
    pub others: Vec<(i32, i32, Vec<u8>)>,
}

/// `SCM_PIDFD` (6.5) of `linux/socket.h`.
const SCM_PIDFD: i32 = 4;
/// Kinds of control data of `SO_TIMESTAMP`, `SO_TIMESTAMPNS`, `SO_TIMESTAMPING`, old and new (5.1).
const STAMPS: [i32; 6] = [
    libc::SCM_TIMESTAMP,
    libc::SCM_TIMESTAMPNS,
    libc::SCM_TIMESTAMPING,
    63,
    64,
    65,
];
/// `SCM_MAX_FD` of `net/scm.h`.
const MAX_RIGHTS: usize = 253;

/// Looks at what the next `recv` would take (or, with `SO_PEEK_OFF`, what comes after that), and leaves it. `EAGAIN` where
/// there is nothing.
pub fn peek(socket: impl AsFd, buffer: &mut [u8]) -> Result<Peeked> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut from = Address::new();
    let mut control = [0_u64; (MAX_RIGHTS * 4 + 512) / 8];
    // SAFETY: all of it is numbers and pointers that may be null.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = from.as_mut_ptr().cast();
    message.msg_namelen = size_of::<Address>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_TRUNC | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` names buffers of ours with their sizes.
    let result = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
    let mut peeked = Peeked {
        len: check("recvmsg", result as i64)?,
        sender: from.name(message.msg_namelen),
        has_more: message.msg_flags & libc::MSG_CTRUNC != 0,
        ..Peeked::default()
    };
    take_control(&message, &mut peeked);
    Ok(peeked)
}

/// Takes what the kernel has put into the control buffer.
fn take_control(message: &libc::msghdr, peeked: &mut Peeked) {
    // SAFETY: the kernel has set the length of the control buffer, which is ours, to what it has filled.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: it points to a header in the buffer.
        let head = unsafe { header.read() };
        // SAFETY: as above; its data follows it.
        let data = unsafe { libc::CMSG_DATA(header) };
        // SAFETY: it computes a number.
        let len = head.cmsg_len - unsafe { libc::CMSG_LEN(0) } as usize;
        // SAFETY: the kernel has filled `len` bytes there.
        let bytes = unsafe { std::slice::from_raw_parts(data, len) };
        let words: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|word| u32::from_ne_bytes(word.try_into().expect("4 bytes")))
            .collect();
        match (head.cmsg_level, head.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                // SAFETY: the kernel just made these descriptors for us.
                let own = |fd: u32| unsafe { OwnedFd::from_raw_fd(fd as i32) };
                peeked.rights.extend(words.into_iter().map(own));
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => {
                peeked.credentials = words.try_into().ok();
            }
            (libc::SOL_SOCKET, SCM_PIDFD) => {
                let made = words.first().filter(|fd| (**fd as i32) >= 0);
                // SAFETY: as above. Nobody needs it: its process is told by number.
                drop(made.map(|fd| unsafe { OwnedFd::from_raw_fd(*fd as i32) }));
            }
            // When it was sent, which options of the socket ask for.
            (libc::SOL_SOCKET, kind) if STAMPS.contains(&kind) => {}
            (level, kind) => {
                peeked.has_more = true;
                peeked.others.push((level, kind, bytes.to_vec()));
            }
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
}

/// Sends bytes with a descriptor, which travels as a reference: it lives on though we end.
pub fn send_with(socket: impl AsFd, bytes: &[u8], fd: impl AsFd) -> Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let (part, rights) = ([std::io::IoSlice::new(bytes)], [fd.as_fd().as_raw_fd()]);
    let control = [ControlMessage::ScmRights(&rights)];
    let (raw, flags) = (socket.as_fd().as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
    let sent = sendmsg::<()>(raw, &part, &control, flags, None).named("sendmsg")?;
    match sent == bytes.len() {
        true => Ok(()),
        false => Err(super::Error::new("sendmsg", nix::errno::Errno::EMSGSIZE)),
    }
}

/// Takes bytes, and the descriptors that come with them, closed on exec; no bytes where the other side is gone.
pub fn receive_with(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut control = nix::cmsg_space!([i32; 4]);
    let mut part = [std::io::IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let raw = socket.as_fd().as_raw_fd();
    let message = recvmsg::<()>(raw, &mut part, Some(&mut control), flags).named("recvmsg")?;
    let mut fds = Vec::new();
    for control in message.cmsgs().named("recvmsg")? {
        if let ControlMessageOwned::ScmRights(rights) = control {
            // SAFETY: the kernel just made these descriptors for us.
            fds.extend(
                rights
                    .into_iter()
                    .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
            );
        }
    }
    Ok((message.bytes, fds))
}
