//! The end of restoring connections of TCP, from outside, when all else is done: the network is unlocked, they leave the mode of
//! repair, what was not sent is sent, and those with a closed half get to their state.
//!
//! A half is closed in the way in which it was: this end by `shutdown`, which sends its end again where the other one had it
//! already and says so again; that of the other end by its own `shutdown` where it is of the tree, or else by a packet as it
//! would send it, as it will not send its end once more. Their order decides about the state: who was shut first.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use super::Options;
use super::error::{Error, Result};
use crate::netlink::nft::{MARK, Owned};
use crate::network;
use crate::objects::inet::connection::stand_in;
use crate::objects::inet::plan::{is_reused, sockaddr};
use crate::objects::inet::segment::{Says, segment};
use crate::objects::inet::{options::SOL_TCP, repair};
use crate::plan::Refusal;
use crate::snapshot::inet::canonical;
use crate::snapshot::{FileId, FileKind, InetSocket, Snapshot, TcpState};
use crate::sys::{self, Pid, RemoteFd, fd, socket};

/// Room for what is sent, whatever the buffer was: bytes beside.
const ROOM: usize = 1 << 20;
/// `SO_BUF_LOCK` (5.14).
const SO_BUF_LOCK: i32 = 72;

/// A connection that stands, in the mode of repair.
struct Standing<'a> {
    own: OwnedFd,
    socket: &'a InetSocket,
    state: TcpState,
    /// Its other end is of the tree too.
    is_inside: bool,
    task: i32,
    fd: i32,
}

fn sockets(snapshot: &Snapshot) -> impl Iterator<Item = (FileId, &InetSocket, TcpState)> {
    snapshot.files.iter().filter_map(|file| match &file.kind {
        FileKind::Inet(socket) => Some((file.id, socket, socket.connection()?)),
        _ => None,
    })
}

/// Has the sockets of all connections be closed instead.
pub(super) fn close(snapshot: &mut Snapshot) {
    for file in &mut snapshot.files {
        if let FileKind::Inet(socket) = &mut file.kind
            && socket.connection().is_some()
        {
            socket.close();
        }
    }
}

/// Refuses connections that nobody has asked for, and those that only wait in another socket.
pub(super) fn refusals(snapshot: &Snapshot, options: &Options) -> Vec<Refusal> {
    let refusal =
        |socket: &InetSocket, (task, fd): (i32, i32), reason: &str, remedy: &str| Refusal {
            task,
            object: format!("descriptor {fd} ({})", socket.words()),
            reason: reason.into(),
            remedy: remedy.into(),
        };
    let root = snapshot.root().map_or(0, |root| root.pid);
    let all = sockets(snapshot).filter_map(|(id, socket, _)| match holder(snapshot, id) {
        None => {
            let reason =
                "a connection of TCP that nobody has, and waits in a socket, is not restored yet";
            Some(refusal(socket, (root, -1), reason, ""))
        }
        Some(_) if options.tcp_established => None,
        Some(holder) => Some(refusal(
            socket,
            holder,
            "it is a connection of TCP",
            "use --tcp-established, or --tcp-close to have it closed",
        )),
    });
    all.collect()
}

/// Returns a descriptor of an open file description: a process, and its number there.
pub(super) fn holder(snapshot: &Snapshot, id: FileId) -> Option<(i32, i32)> {
    snapshot.tasks.iter().find_map(|task| {
        let entry = task.fds.iter().find(|entry| entry.file == id)?;
        Some((task.pid, entry.fd))
    })
}

/// Has the connections of a tree go on whose threads are all parked, from which this lock has kept packets away.
pub(super) fn finish(snapshot: &Snapshot, lock: Option<Owned>) -> Result<()> {
    end_what_is_over(snapshot)?;
    if !snapshot.has_connections() {
        return Ok(());
    }
    let all = standing(snapshot)?;
    drop(lock);
    network::unlock(snapshot).map_err(Error::NetworkLock)?;
    let each = |what: &'static str, act: &dyn Fn(&Standing<'_>) -> sys::Result<()>| {
        all.iter()
            .try_for_each(|one| act(one).map_err(|error| one.failed(what, error)))
    };
    each("leave the mode of repair", &leave_repair)?;
    each("send what was not sent", &send_rest)?;
    let peers = |one: &Standing<'_>| match one.is_inside || !one.state.has_received_end() {
        true => Ok(()),
        false => receive_end(one),
    };
    each("close the half of the other end", &|one| match one.state {
        TcpState::Closing => Ok(()),
        _ => peers(one),
    })?;
    for states in [
        &[TcpState::Closing][..],
        &[TcpState::FinWait2],
        &[TcpState::FinWait1, TcpState::LastAck],
    ] {
        each(
            "shut it for sending",
            &|one| match states.contains(&one.state) {
                true => socket::shut_sending(&one.own),
                false => Ok(()),
            },
        )?;
    }
    each("close the half of the other end", &|one| match one.state {
        TcpState::Closing => peers(one),
        _ => Ok(()),
    })?;
    each("connect it", &connect)
}

/// Breaks off connections that stand for those that are over and have bytes left.
fn end_what_is_over(snapshot: &Snapshot) -> Result<()> {
    for file in &snapshot.files {
        let FileKind::Inet(socket) = &file.kind else {
            continue;
        };
        let Some(holder) = holder(snapshot, file.id).filter(|_| socket.has_rest()) else {
            continue;
        };
        let ended = take(holder).and_then(|own| end(&own, socket));
        ended.map_err(|error| failed(holder, socket, "end it", error))?;
    }
    Ok(())
}

fn end(own: &OwnedFd, socket: &InetSocket) -> sys::Result<()> {
    let stand_in = stand_in(socket);
    let (from, to) = (canonical(stand_in.remote), canonical(stand_in.local));
    let numbers = (stand_in.stream.receive_next, stand_in.stream.send_next);
    send_packet(&segment(Says::Reset, (from, to), numbers, 0), to.ip(), 0)?;
    if !socket.stream.is_reset {
        socket::option(own, libc::SO_ERROR)?;
    }
    Ok(())
}

/// Returns a copy of a descriptor of the tree.
pub(super) fn take((task, number): (i32, i32)) -> sys::Result<OwnedFd> {
    let pidfd = fd::pidfd_open(Pid(task))?;
    fd::pidfd_getfd(pidfd.as_fd(), RemoteFd(number))
}

fn standing(snapshot: &Snapshot) -> Result<Vec<Standing<'_>>> {
    let mut all = Vec::new();
    for (id, socket, state) in sockets(snapshot) {
        let Some((task, number)) = holder(snapshot, id) else {
            continue;
        };
        let own = take((task, number))
            .map_err(|error| failed((task, number), socket, "take it", error))?;
        all.push(Standing {
            own,
            socket,
            state,
            is_inside: sockets(snapshot).any(|(_, other, _)| other.is_peer_of(socket)),
            task,
            fd: number,
        });
    }
    Ok(all)
}

fn failed(
    (task, fd): (i32, i32),
    socket: &InetSocket,
    what: &'static str,
    source: sys::Error,
) -> Error {
    Error::Connection {
        task,
        object: format!("descriptor {fd}: {}", socket.words()),
        what,
        source,
    }
}

impl Standing<'_> {
    fn failed(&self, what: &'static str, source: sys::Error) -> Error {
        failed((self.task, self.fd), self.socket, what, source)
    }
}

fn leave_repair(one: &Standing<'_>) -> sys::Result<()> {
    let how = match one.state {
        TcpState::SynSent => repair::OFF_SILENTLY,
        _ => repair::OFF,
    };
    socket::set_option_of(&one.own, SOL_TCP, repair::TCP_REPAIR, &how.to_ne_bytes())?;
    let is_reused = i32::from(is_reused(one.socket));
    socket::set_option(&one.own, libc::SO_REUSEADDR, is_reused)
}

/// Sends what was not sent, with room for it.
fn send_rest(one: &Standing<'_>) -> sys::Result<()> {
    let stream = &one.socket.stream;
    let rest = &stream.sent[stream.sent.len() - stream.unsent as usize..];
    if rest.is_empty() {
        return Ok(());
    }
    let options = &one.socket.options;
    let half = options.send_buffer as usize / 2;
    let room = half
        .max(stream.sent.len() + ROOM)
        .min(i32::MAX as usize / 2);
    socket::set_option(&one.own, libc::SO_SNDBUFFORCE, room as i32)?;
    let mut done = 0;
    while done < rest.len() {
        done += socket::send(&one.own, &rest[done..], &[])?;
    }
    socket::set_option(&one.own, libc::SO_SNDBUFFORCE, half as i32)?;
    socket::set_option(&one.own, SO_BUF_LOCK, options.locked_buffers as i32)
}

/// Has a connection receive the end of what its other end sends, as from there.
fn receive_end(one: &Standing<'_>) -> sys::Result<()> {
    let stream = &one.socket.stream;
    let (from, to) = (canonical(one.socket.remote), canonical(one.socket.local));
    let confirmed = stream
        .send_end(one.state)
        .wrapping_sub(stream.sent.len() as u32);
    let scaled = stream.window.map_or(0, |window| window[1]) >> stream.send_scale;
    let window = scaled.min(u32::from(u16::MAX)) as u16;
    let numbers = (stream.receive_end(one.state), confirmed);
    let packet = segment(Says::End, (from, to), numbers, window);
    let scope = socket::interface_index(&one.socket.interface).unwrap_or(0);
    send_packet(&packet, to.ip(), scope)
}

/// Sends a packet to an address of this machine, past the lock of the network.
pub(super) fn send_packet(packet: &[u8], to: IpAddr, scope: u32) -> sys::Result<()> {
    let family = match to {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    let raw = socket::make(family, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
    socket::set_option(&raw, libc::SO_MARK, MARK as i32)?;
    socket::send(&raw, packet, &sockaddr(&SocketAddr::new(to, 0), scope)).map(drop)
}

/// Asks for a connection again, without waiting for the answer.
fn connect(one: &Standing<'_>) -> sys::Result<()> {
    if one.state != TcpState::SynSent {
        return Ok(());
    }
    let flags = fd::status_flags(&one.own)?;
    fd::set_status_flags(&one.own, flags | libc::O_NONBLOCK as u32)?;
    let scope = socket::interface_index(&one.socket.interface).unwrap_or(0);
    let connected = socket::connect(&one.own, &sockaddr(&one.socket.remote, scope));
    fd::set_status_flags(&one.own, flags)?;
    match connected {
        Err(error) if error.errno as i32 == libc::EINPROGRESS => Ok(()),
        // The program hears of it.
        Err(error) if error.errno as i32 == libc::ECONNREFUSED => Ok(()),
        connected => connected,
    }
}
