//! Between the fact and its records: the socket in `files.img`, what waits in it in `sk-queues.img`.

use crate::image::error::{Checked, wrong};
use crate::objects::sockopt::image as sockopt;
use crate::snapshot::{FileId, OpenFile, UnixMessage, UnixName, UnixSocket, UnixState};
use proto::pb;

/// `TCP_ESTABLISHED`, `TCP_CLOSE` and `TCP_LISTEN`.
const ESTABLISHED: u32 = 1;
const CLOSE: u32 = 7;
const LISTEN: u32 = 10;
/// Id of the network namespace within the image set.
const NET_NS: u32 = 2;
/// The socket is not of the tree (`uflags`).
const OUTSIDE: u32 = 1;
/// Bytes of `sun_path`.
const MAX_NAME: usize = 108;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &UnixSocket,
) -> pb::UnixSkEntry {
    let (state, backlog) = match fact.state {
        UnixState::Connected => (ESTABLISHED, 0),
        UnixState::Closed => (CLOSE, 0),
        UnixState::Listening(backlog) => (LISTEN, backlog),
    };
    let name = fact.name.as_ref();
    let folder = name.map(|name| name.folder.clone());
    pb::UnixSkEntry {
        id: file.id.0,
        ino: fact.ino,
        r#type: fact.kind as u32,
        state,
        flags: file.flags,
        uflags: u32::from(fact.is_outside) * OUTSIDE,
        backlog,
        peer: fact.peer,
        fown,
        opts: sockopt::to_record(&fact.options),
        name: name.map_or(Vec::new(), |name| ended(&name.bytes)),
        shutdown: (fact.shutdown != 0).then_some(i32::from(fact.shutdown)),
        file_perms: name
            .and_then(|name| name.mode)
            .map(|[mode, uid, gid]| pb::FilePermsEntry { mode, uid, gid }),
        name_dir: folder.filter(|folder| !folder.is_empty()),
        deleted: name.is_some_and(|name| name.is_deleted).then_some(true),
        ns_id: Some(NET_NS),
        ext: ext_to_record(fact),
        ..Default::default()
    }
}

fn ext_to_record(fact: &UnixSocket) -> Option<pb::ExtUnixSk> {
    let ext = pb::ExtUnixSk {
        peer_credentials: fact.peer_credentials.map(ucred),
        lost_peer: fact.lost_peer.as_deref().map(ended),
        reset: fact.is_reset.then_some(true),
    };
    (ext != pb::ExtUnixSk::default()).then_some(ext)
}

fn ucred([pid, uid, gid]: [u32; 3]) -> pb::ExtUcred {
    pb::ExtUcred { pid, uid, gid }
}

/// Returns a name as the kernel keeps it: a path ends with a zero.
fn ended(name: &[u8]) -> Vec<u8> {
    let mut name = name.to_vec();
    if name.first().is_some_and(|byte| *byte != 0) {
        name.push(0);
    }
    name
}

/// Returns the record of what waits in socket `id`; its bytes follow it.
pub(crate) fn message_to_record(id: FileId, message: &UnixMessage) -> pb::SkPacketEntry {
    let rights = pb::ScmEntry {
        r#type: libc::SCM_RIGHTS as u32,
        rights: message.files.iter().map(|file| file.0).collect(),
    };
    let ext = pb::ExtSkPacket {
        sender: (!message.sender.is_empty()).then(|| ended(&message.sender)),
        credentials: message.credentials.map(ucred),
    };
    pb::SkPacketEntry {
        id_for: id.0,
        length: message.data.len() as u32,
        scm: (!message.files.is_empty())
            .then_some(rights)
            .into_iter()
            .collect(),
        ext: (ext != pb::ExtSkPacket::default()).then_some(ext),
    }
}

/// Returns what waits in a socket.
pub(crate) fn message_from_record(
    record: &pb::SkPacketEntry,
    data: Vec<u8>,
) -> Checked<UnixMessage> {
    let ext = record.ext.clone().unwrap_or_default();
    if let Some(scm) = record
        .scm
        .iter()
        .find(|scm| scm.r#type != libc::SCM_RIGHTS as u32)
    {
        return wrong!("what comes with it is of type {}, not known", scm.r#type);
    }
    let rights = record.scm.iter().flat_map(|scm| &scm.rights);
    let files: Vec<FileId> = rights.map(|id| FileId(*id)).collect();
    if files.len() > MAX_RIGHTS {
        return wrong!("{} descriptors are more than come at a time", files.len());
    }
    Ok(UnixMessage {
        data,
        files,
        sender: name_from(ext.sender.unwrap_or_default())?,
        credentials: ext.credentials.as_ref().map(credentials),
    })
}

/// `SCM_MAX_FD` of `net/scm.h`.
const MAX_RIGHTS: usize = 253;

fn credentials(record: &pb::ExtUcred) -> [u32; 3] {
    [record.pid, record.uid, record.gid]
}

/// Checks a name, and takes the zero off the end of a path.
fn name_from(mut name: Vec<u8>) -> Checked<Vec<u8>> {
    let is_path = name.first().is_some_and(|byte| *byte != 0);
    if is_path && name.last() == Some(&0) {
        name.pop();
    }
    let most = MAX_NAME - usize::from(is_path);
    if name.len() > most || is_path && name.contains(&0) {
        return wrong!("a name of {} bytes is none of a Unix socket", name.len());
    }
    Ok(name)
}

/// Returns the fact in `record`, or the name of what it is that is not restored yet.
pub(crate) fn from_record(record: &pb::UnixSkEntry) -> Checked<Result<UnixSocket, String>> {
    let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];
    if !kinds.contains(&(record.r#type as i32)) {
        return wrong!("type {} is none of a Unix socket", record.r#type);
    }
    let state = match record.state {
        ESTABLISHED => UnixState::Connected,
        CLOSE => UnixState::Closed,
        LISTEN => UnixState::Listening(record.backlog),
        other => return wrong!("state {other} is none of a Unix socket"),
    };
    if record.uflags & !OUTSIDE != 0 {
        return Ok(Err("Unix socket of a plugin".into()));
    }
    let shutdown = record.shutdown.unwrap_or(0);
    if !(0..=3).contains(&shutdown) {
        return wrong!("shutdown {shutdown} is not known");
    }
    let name = name_from_record(record)?;
    let is_outside = record.uflags & OUTSIDE != 0;
    let ext = record.ext.clone().unwrap_or_default();
    let lost_peer = ext.lost_peer.map(name_from).transpose()?;
    Ok(Ok(UnixSocket {
        ino: record.ino,
        kind: record.r#type as i32,
        state,
        name,
        peer: record.peer,
        lost_peer,
        is_outside,
        shutdown: shutdown as u8,
        is_reset: ext.reset == Some(true),
        options: sockopt::from_record(&record.opts)?,
        peer_credentials: ext.peer_credentials.as_ref().map(credentials),
        queue: Vec::new(),
    }))
}

fn name_from_record(record: &pb::UnixSkEntry) -> Checked<Option<UnixName>> {
    if record.name.is_empty() {
        return Ok(None);
    }
    let name = UnixName {
        bytes: name_from(record.name.clone())?,
        folder: record.name_dir.clone().unwrap_or_default(),
        is_deleted: record.deleted == Some(true),
        mode: record
            .file_perms
            .as_ref()
            .map(|perms| [perms.mode, perms.uid, perms.gid]),
    };
    let is_relative = !matches!(name.bytes.first(), None | Some(0 | b'/'));
    let is_folder = name.folder.first() == Some(&b'/') && !name.folder.contains(&0);
    if is_relative && !is_folder {
        return wrong!("its name counts from no folder");
    }
    Ok(Some(name))
}
