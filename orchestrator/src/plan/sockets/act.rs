//! From steps to operations.

use super::{Address, At, Identity, Phase, Step};
use crate::objects::sockopt::plan as sockopt;
use crate::objects::unix::plan as unix;
use crate::plan::birth::plan_tie_again;
use crate::plan::descriptors::{SETFL, Users, place_kept, plan_pidfd, raise, set_flags};
use crate::plan::program::Object;
use crate::plan::task::{Making, plan_barrier};
use crate::snapshot::{FileId, UnixMessage};

/// Adds the steps of this phase that are the task's.
pub fn plan_turns(m: &mut Making<'_>, phase: Phase) {
    let script = m.script;
    let own = m.own.member;
    for turn in script.turns.iter().filter(|turn| turn.phase == phase) {
        if turn.actor != own {
            continue;
        }
        m.b.object(Object::Named(turn.object.clone()));
        if let Some(word) = turn.before {
            plan_barrier(m, word, 2);
        }
        plan_step(m, &turn.step);
        if let Some(word) = turn.after {
            plan_barrier(m, word, 2);
        }
    }
    if phase == Phase::Make {
        for (&id, &(maker, fd)) in &script.made {
            if maker == own && !script.holders.contains_key(&id) {
                m.own.placed.insert(id, fd);
            }
        }
    }
}

/// Adds the moves of a socket of the script to the task's numbers of it.
pub fn plan_place(m: &mut Making<'_>, id: FileId, users: &Users<'_>) {
    if let Some(&(maker, fd)) = m.script.made.get(&id)
        && maker == m.own.member
    {
        place_kept(m, fd, id, users.of_file(id));
    }
}

fn plan_step(m: &mut Making<'_>, step: &Step<'_>) {
    match step {
        Step::Socket { fd, kind } => {
            let made = unix::plan_socket(&mut m.b, *kind);
            keep(m, made, *fd);
        }
        Step::Pair {
            fds,
            kind,
            identity,
        } => {
            let kind = *kind;
            let made = as_identity(m, *identity, |m| unix::plan_pair(&mut m.b, kind));
            for (made, fd) in made.into_iter().zip(fds) {
                keep(m, made, *fd);
            }
        }
        Step::Buffers { fd, of } => sockopt::plan_buffers(&mut m.b, *fd, &of.options),
        Step::Bind { fd, name, at } => plan_bind(m, *fd, name, at),
        Step::Node { of, fd } => {
            let made = m.b.open(libc::SYS_ioctl, &[*of as u64, unix::SIOCUNIXFILE]);
            keep(m, made, *fd);
        }
        Step::Listen {
            fd,
            backlog,
            identity,
        } => {
            let args = [*fd as u64, u64::from(*backlog)];
            as_identity(m, *identity, |m| {
                m.b.call_returns(libc::SYS_listen, &args, 0);
            });
        }
        Step::Connect { fd, to, identity } => plan_connect(m, *fd, to, *identity),
        Step::Accept { from, fd } => {
            let args = [*from as u64, 0, 0, libc::SOCK_CLOEXEC as u64];
            let made = m.b.open(libc::SYS_accept4, &args);
            keep(m, made, *fd);
        }
        Step::Send { from, to, message } => plan_send(m, *from, to.as_ref(), message),
        Step::Unread { fd } => unix::plan_byte(&mut m.b, *fd),
        Step::Shutdown { fd, shutdown } => unix::plan_shutdown(&mut m.b, *fd, *shutdown),
        Step::Settle { fd, of, flags } => {
            sockopt::plan_options(&mut m.b, *fd, &of.options);
            set_flags(&mut m.b, *fd, flags & SETFL);
        }
        Step::Owner { name } => unix::plan_owner(&mut m.b, name),
        Step::Close { fd } => {
            m.own.held.retain(|held| held != fd);
            m.b.close(*fd);
        }
    }
}

/// Adds a connection. Another user may not follow what another process has open: it is taken before.
fn plan_connect(m: &mut Making<'_>, fd: i32, to: &Address, identity: Identity) {
    let mut taken = Vec::new();
    let name = match to {
        Address::Node { pid, fd } => {
            let own = take(m, (*pid, *fd), &mut taken);
            format!("/proc/self/fd/{own}").into_bytes()
        }
        Address::Name(name) => name.clone(),
    };
    let (at, len) = unix::put_address(&mut m.b, &name);
    let args = [fd as u64, at, len];
    as_identity(m, identity, |m| {
        m.b.call_returns(libc::SYS_connect, &args, 0);
    });
    for fd in taken {
        m.b.close(fd);
    }
}

/// Adds the move of a descriptor to its number in the script.
fn keep(m: &mut Making<'_>, made: i32, fd: i32) {
    let args = [made as u64, fd as u64, libc::O_CLOEXEC as u64];
    m.b.call_returns(libc::SYS_dup3, &args, i64::from(fd));
    m.b.fds.take(fd);
    m.b.close(made);
    let is_nobodys = |(id, _): &(&FileId, _)| !m.script.holders.contains_key(id);
    let own = (m.own.member, fd);
    let mut sockets = m.script.made.iter().filter(|(_, made)| **made == own);
    // What only waits in a queue is needed to the end: timers and owners are set then.
    match sockets.next().is_some_and(|socket| is_nobodys(&socket)) {
        true => m.own.late.push(fd),
        false => m.own.held.push(fd),
    }
}

fn address(to: &Address) -> Vec<u8> {
    match to {
        Address::Node { pid, fd } => format!("/proc/{pid}/fd/{fd}").into_bytes(),
        Address::Name(name) => name.clone(),
    }
}

/// Adds the name of a socket. Its file is for nobody until it gets its mode.
fn plan_bind(m: &mut Making<'_>, fd: i32, name: &[u8], at: &At) {
    let is_path = name.first().is_some_and(|byte| *byte != 0);
    if is_path {
        m.b.call(libc::SYS_umask, &[0o177]);
    }
    match at {
        At::Nowhere => unix::plan_bind(&mut m.b, fd, name),
        At::Folder(folder) => {
            let path = m.b.put_cstr(folder);
            m.b.call_returns(libc::SYS_chdir, &[path], 0);
            unix::plan_bind(&mut m.b, fd, name);
        }
        At::Hidden(folder) => {
            let flags = (libc::O_PATH | libc::O_DIRECTORY) as u32;
            let opened = m.b.open_path(b"/", flags);
            let root = raise(m, opened);
            m.b.close(opened);
            let [folder, top] = [&folder[..], b"/"].map(|path| m.b.put_cstr(path));
            m.b.call_returns(libc::SYS_chroot, &[folder], 0);
            m.b.call_returns(libc::SYS_chdir, &[top], 0);
            unix::plan_bind(&mut m.b, fd, name);
            let path = m.b.put_cstr(name);
            m.b.call_returns(libc::SYS_unlink, &[path], 0);
            m.b.call_returns(libc::SYS_fchdir, &[root as u64], 0);
            let here = m.b.put_cstr(b".");
            m.b.call_returns(libc::SYS_chroot, &[here], 0);
            m.b.close(root);
        }
    }
}

/// Adds what has to be done as another user: the other end is told of that. Files are still found as ours.
fn as_identity<T>(
    m: &mut Making<'_>,
    identity: Identity,
    act: impl FnOnce(&mut Making<'_>) -> T,
) -> T {
    let [ruid, uid, ..] = m.host.creds.uids;
    let [_, gid, ..] = m.host.creds.gids;
    let other = identity.filter(|other| *other != (uid, gid) && uid == 0);
    let Some((other_uid, other_gid)) = other else {
        return act(m);
    };
    let same = u64::from(u32::MAX);
    let ids = |id: u32| [same, u64::from(id), same];
    m.b.call_returns(libc::SYS_setresgid, &ids(other_gid), 0);
    m.b.call_returns(libc::SYS_setfsgid, &[u64::from(gid)], i64::from(other_gid));
    m.b.call_returns(libc::SYS_setresuid, &ids(other_uid), 0);
    m.b.call_returns(libc::SYS_setfsuid, &[u64::from(ruid)], i64::from(other_uid));
    let done = act(m);
    m.b.call_returns(libc::SYS_setresuid, &ids(uid), 0);
    m.b.call_returns(libc::SYS_setresgid, &ids(gid), 0);
    plan_tie_again(m);
    done
}

/// Adds a message with what comes with it, taken from whoever has it.
fn plan_send(
    m: &mut Making<'_>,
    (sender, fd): (usize, i32),
    to: Option<&Address>,
    message: &UnixMessage,
) {
    let mut taken = Vec::new();
    let sender = m.family.members[sender].pid;
    let from = take(m, (sender, fd), &mut taken);
    let mut rights = Vec::new();
    for &id in &message.files {
        let own = m.own.placed.get(&id).map(|fd| (m.own.task.pid, *fd));
        match own.or(m.made.get(&id).copied()) {
            Some(place) => rights.push(take(m, place, &mut taken)),
            None => {
                let reason = format!("file {} waits in it, and nobody makes that", id.0);
                m.report.refuse("Unix socket", reason, "");
            }
        }
    }
    let family = m.family;
    let credentials = message.credentials.map(|[pid, uid, gid]| {
        let mut members = family.members.iter();
        if members.any(|member| member.pid as u32 == pid) {
            return [pid, uid, gid];
        }
        m.report.lose(format!(
            "process {pid} as the sender of a message: it has ended; the one that restores it stands in"
        ));
        [m.own.task.pid as u32, uid, gid]
    });
    let to = to.map(address).unwrap_or_default();
    unix::plan_message(&mut m.b, from, &to, (message, credentials), &rights);
    for fd in taken {
        m.b.close(fd);
    }
}

/// Returns the task's number of a descriptor that another member may have.
fn take(m: &mut Making<'_>, (pid, fd): (i32, i32), taken: &mut Vec<i32>) -> i32 {
    if pid == m.own.task.pid {
        return fd;
    }
    let pidfd = plan_pidfd(m, pid);
    let own = m.b.open(libc::SYS_pidfd_getfd, &[pidfd as u64, fd as u64]);
    let high = raise(m, own);
    m.b.close(own);
    m.b.close(pidfd);
    taken.push(high);
    high
}
