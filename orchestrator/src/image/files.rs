//! Between open file descriptions and the records of `files.img`, each by the room of its kind.

use proto::pb;
use proto::pb::FdTypes;

use super::error::{Checked, Wrong, wrong};
use super::limits::{pid, signal};
use crate::objects::{
    bpfmap, device, epoll, eventfd, fanotify, fifo, inet, inotify, memfd, mqueue, namespace,
    netlink, packet, pidfd, pipe, regular, signalfd, timerfd, tty, tun, unix,
};
use crate::snapshot::{FileId, FileKind, OpenFile, Owner, ProcOwner, RegularFile};

/// Bits of a mode that say the type, and types (`include/uapi/linux/stat.h`).
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const CHARACTER: u32 = 0o020_000;
/// The owner of what has none in its record.
const NO_OWNER: pb::FownEntry = pb::FownEntry {
    uid: 0,
    euid: 0,
    signum: 0,
    pid_type: 0,
    pid: 0,
};

/// Hands out the records of `files` one after the other, as each has room for every kind of file. Returns which of them are
/// of deleted files.
pub(super) fn to_records(
    files: &[OpenFile],
    mut put: impl FnMut(pb::FileEntry),
) -> Checked<Vec<pb::RemapFilePathEntry>> {
    let mut next_id = files.iter().map(|file| file.id.0).max().unwrap_or(0);
    let mut remaps = Vec::new();
    for file in files {
        let node = match &file.kind {
            FileKind::Terminal(terminal) if terminal.node.path.is_empty() => None,
            FileKind::Terminal(terminal) => Some((&terminal.node, Owner::default())),
            FileKind::Fifo(fifo) => Some((&fifo.node, file.owner)),
            FileKind::Regular(regular) => {
                remaps.extend(remap(file.id.0, regular));
                None
            }
            FileKind::Device(device) => {
                remaps.extend(remap(file.id.0, &device.node));
                None
            }
            _ => None,
        };
        if let FileKind::Tun(tun) = &file.kind {
            // That of its node has the same id.
            put(node_to_record(
                file.id.0,
                (file.flags, file.owner),
                &tun.node,
            ));
            remaps.extend(remap(file.id.0, &tun.node));
        }
        if let Some((node, owner)) = node {
            next_id += 1;
            put(node_to_record(next_id, (file.flags, owner), node));
            remaps.extend(remap(next_id, node));
        }
        put(to_record(file, next_id)?);
    }
    Ok(remaps)
}

/// Returns what leads to a deleted file, whose record has this id.
fn remap(id: u32, file: &RegularFile) -> Option<pb::RemapFilePathEntry> {
    let (remap_id, remap_type) = match (file.ghost, file.link) {
        (Some(ghost), _) => (ghost, pb::RemapType::Ghost),
        (None, Some(link)) => (link.0, pb::RemapType::Linked),
        (None, None) => match file.of {
            Some(ProcOwner::Gone(pid)) => (pid as u32, pb::RemapType::Procfs),
            Some(ProcOwner::Outside(_)) | None => return None,
        },
    };
    Some(pb::RemapFilePathEntry {
        orig_id: id,
        remap_id,
        remap_type: Some(remap_type as i32),
    })
}

/// The type that descriptors' records repeat.
pub(super) fn type_of(kind: &FileKind) -> Checked<FdTypes> {
    Ok(match kind {
        FileKind::Regular(_) | FileKind::Device(_) | FileKind::External(_) => FdTypes::Reg,
        FileKind::Pipe(_) => FdTypes::Pipe,
        FileKind::Fifo(_) => FdTypes::Fifo,
        FileKind::Unix(_) => FdTypes::Unixsk,
        FileKind::Inet(_) => FdTypes::Inetsk,
        FileKind::Netlink(_) => FdTypes::Netlinksk,
        FileKind::Packet(_) => FdTypes::Packetsk,
        FileKind::EventFd(_) => FdTypes::Eventfd,
        FileKind::Epoll(_) => FdTypes::Eventpoll,
        FileKind::TimerFd(_) => FdTypes::Timerfd,
        FileKind::SignalFd(_) => FdTypes::Signalfd,
        FileKind::Inotify(_) => FdTypes::Inotify,
        FileKind::Fanotify(_) => FdTypes::Fanotify,
        FileKind::Memfd(_) => FdTypes::Memfd,
        FileKind::Terminal(_) => FdTypes::Tty,
        FileKind::Tun(_) => FdTypes::Tunf,
        FileKind::PidFd(_) => FdTypes::Pidfd,
        FileKind::Inherited(given) => return wrong!("{} has no record", given.key),
        FileKind::BpfMap(_) => FdTypes::Bpfmap,
        FileKind::Namespace(_) => FdTypes::Ns,
        FileKind::Queue(_) => FdTypes::Mqueue,
        FileKind::Unsupported(name) => return wrong!("{name} has no record"),
    })
}

fn to_record(file: &OpenFile, node_id: u32) -> Checked<pb::FileEntry> {
    let mut record = pb::FileEntry {
        r#type: type_of(&file.kind)? as i32,
        id: file.id.0,
        ..Default::default()
    };
    let fown = owner_to_record(&file.owner);
    match &file.kind {
        FileKind::Regular(fact) => record.reg = Some(regular::image::to_record(file, fown, fact)),
        FileKind::Device(fact) => {
            let node = regular::image::to_record(file, fown, &fact.node);
            record.reg = Some(device::image::to_record(fact, node));
        }
        FileKind::External(fact) => {
            record.reg = Some(regular::image::external_to_record(file, fown, fact));
        }
        FileKind::Pipe(fact) => record.pipe = Some(pipe::image::to_record(file, fown, fact)),
        FileKind::Fifo(fact) => record.fifo = Some(fifo::image::to_record(file, fact, node_id)),
        FileKind::Unix(fact) => record.usk = Some(unix::image::to_record(file, fown, fact)),
        FileKind::Inet(fact) => record.isk = Some(inet::image::to_record(file, fown, fact)),
        FileKind::Netlink(fact) => record.nlsk = Some(netlink::image::to_record(file, fown, fact)),
        FileKind::Packet(fact) => record.psk = Some(packet::image::to_record(file, fown, fact)),
        FileKind::EventFd(fact) => record.efd = Some(eventfd::image::to_record(file, fown, fact)),
        FileKind::Epoll(fact) => record.epfd = Some(epoll::image::to_record(file, fown, fact)),
        FileKind::TimerFd(fact) => record.tfd = Some(timerfd::image::to_record(file, fown, fact)),
        FileKind::SignalFd(fact) => {
            record.sgfd = Some(signalfd::image::to_record(file, fown, fact))
        }
        FileKind::Inotify(fact) => record.ify = Some(inotify::image::to_record(file, fown, fact)),
        FileKind::Fanotify(fact) => record.ffy = Some(fanotify::image::to_record(file, fown, fact)),
        FileKind::Memfd(fact) => record.memfd = Some(memfd::image::to_record(file, fown, fact)),
        FileKind::Terminal(fact) => {
            record.tty = Some(tty::image::to_record(file, fown, fact, node_id))
        }
        FileKind::BpfMap(fact) => record.bpf = Some(bpfmap::image::to_record(file, fown, fact)),
        FileKind::Namespace(fact) => record.nsf = Some(namespace::image::to_record(file, fact)),
        FileKind::Queue(fact) => record.ext_file = Some(mqueue::image::to_record(file, fown, fact)),
        FileKind::Tun(fact) => record.tunf = Some(tun::image::to_record(file, fact)),
        FileKind::PidFd(fact) => record.pidfd = Some(pidfd::image::to_record(file, fown, fact)),
        FileKind::Inherited(_) | FileKind::Unsupported(_) => {}
    }
    Ok(record)
}

fn node_to_record(id: u32, (flags, owner): (u32, Owner), node: &RegularFile) -> pb::FileEntry {
    let file = OpenFile {
        id: FileId(id),
        flags,
        owner,
        kind: FileKind::Regular(node.clone()),
    };
    pb::FileEntry {
        r#type: FdTypes::Reg as i32,
        id,
        reg: Some(regular::image::to_record(
            &file,
            owner_to_record(&owner),
            node,
        )),
        ..Default::default()
    }
}

/// Returns the open file description in `record`; `node` finds the record of a node by its id.
pub(super) fn from_record<'a>(
    record: &'a pb::FileEntry,
    node: impl Fn(u32) -> Option<&'a pb::RegFileEntry>,
) -> Checked<OpenFile> {
    if record.id == 0 {
        return wrong!("0 is no id of a file");
    }
    let Ok(sort) = FdTypes::try_from(record.r#type) else {
        return wrong!("type {} is not known", record.r#type);
    };
    let (id, flags, fown, kind) = match sort {
        FdTypes::Reg => {
            let part = part(&record.reg)?;
            (part.id, part.flags, &part.fown, by_path(part)?)
        }
        FdTypes::Pipe => {
            let part = part(&record.pipe)?;
            let kind = FileKind::Pipe(pipe::image::from_record(part));
            (part.id, part.flags, &part.fown, kind)
        }
        FdTypes::Fifo => {
            let part = part(&record.fifo)?;
            let Some(node) = part.regf_id.and_then(node) else {
                return wrong!("the record of the named pipe's node is missing");
            };
            let kind = fifo::image::from_record(part, regular::image::from_record(node)?);
            (part.id, node.flags, &node.fown, FileKind::Fifo(kind))
        }
        FdTypes::Unixsk | FdTypes::Inetsk | FdTypes::Netlinksk | FdTypes::Packetsk => {
            match socket(sort, record)? {
                Ok(parts) => parts,
                Err(name) => return Ok(unsupported(record.id, name)),
            }
        }
        FdTypes::Eventfd => {
            let part = part(&record.efd)?;
            let kind = FileKind::EventFd(eventfd::image::from_record(part)?);
            (part.id, part.flags, &part.fown, kind)
        }
        FdTypes::Eventpoll => {
            let part = part(&record.epfd)?;
            let kind = FileKind::Epoll(epoll::image::from_record(part)?);
            (part.id, part.flags, &part.fown, kind)
        }
        FdTypes::Timerfd => {
            let part = part(&record.tfd)?;
            let kind = FileKind::TimerFd(timerfd::image::from_record(part)?);
            (part.id, part.flags, &part.fown, kind)
        }
        FdTypes::Signalfd => {
            let part = part(&record.sgfd)?;
            let kind = FileKind::SignalFd(signalfd::image::from_record(part));
            (part.id, part.flags, &part.fown, kind)
        }
        FdTypes::Inotify | FdTypes::Fanotify => watcher(sort, record)?,
        FdTypes::Memfd => {
            let part = part(&record.memfd)?;
            let kind = FileKind::Memfd(memfd::image::from_record(part));
            (part.id, part.flags, &part.fown, kind)
        }
        FdTypes::Tty => {
            let part = part(&record.tty)?;
            // One that is given at the restore has none.
            let node = match part.regf_id.map(node) {
                Some(Some(node)) => regular::image::from_record(node)?,
                Some(None) => return wrong!("the record of the terminal's node is missing"),
                None => RegularFile::default(),
            };
            let kind = tty::image::from_record(part, node);
            (part.id, part.flags, &part.fown, FileKind::Terminal(kind))
        }
        FdTypes::Bpfmap => match bpf_map(record)? {
            Ok(parts) => parts,
            Err(name) => return Ok(unsupported(record.id, name)),
        },
        FdTypes::Ns => {
            let part = part(&record.nsf)?;
            let kind = match namespace::image::from_record(part) {
                Ok(namespace) => FileKind::Namespace(namespace),
                Err(name) => return Ok(unsupported(record.id, name)),
            };
            (part.id, part.flags, &NO_OWNER, kind)
        }
        FdTypes::Tunf => match network_device(record, node)? {
            Ok(parts) => parts,
            Err(name) => return Ok(unsupported(record.id, name)),
        },
        FdTypes::Mqueue => queue(record)?,
        FdTypes::Pidfd => {
            let part = part(&record.pidfd)?;
            let kind = FileKind::PidFd(pidfd::image::from_record(part)?);
            (part.id, part.flags, &part.fown, kind)
        }
        other => return Ok(unsupported(record.id, name_of(other).into())),
    };
    if id != record.id {
        return wrong!("its part says that its id is {id}");
    }
    Ok(OpenFile {
        id: FileId(id),
        flags,
        owner: owner_from_record(fown)?,
        kind,
    })
}

/// Id, flags, owner and kind of an open file description.
type Parts<'a> = (u32, u32, &'a pb::FownEntry, FileKind);

/// Returns a socket, or the name of what it is that is not restored yet.
fn socket(sort: FdTypes, record: &pb::FileEntry) -> Checked<Result<Parts<'_>, String>> {
    if sort == FdTypes::Unixsk {
        let part = part(&record.usk)?;
        let socket = unix::image::from_record(part)?;
        return Ok(socket.map(|socket| (part.id, part.flags, &part.fown, FileKind::Unix(socket))));
    }
    if sort == FdTypes::Netlinksk {
        let part = part(&record.nlsk)?;
        let kind = FileKind::Netlink(netlink::image::from_record(part)?);
        return Ok(Ok((part.id, part.flags, &part.fown, kind)));
    }
    if sort == FdTypes::Packetsk {
        let part = part(&record.psk)?;
        let socket = packet::image::from_record(part)?;
        return Ok(socket.map(|socket| (part.id, part.flags, &part.fown, FileKind::Packet(socket))));
    }
    let part = part(&record.isk)?;
    let socket = inet::image::from_record(part)?;
    Ok(socket.map(|socket| (part.id, part.flags, &part.fown, FileKind::Inet(socket))))
}

/// Returns a descriptor of a TUN or TAP device, or the name of what it is that is not restored.
fn network_device<'a>(
    record: &'a pb::FileEntry,
    node: impl Fn(u32) -> Option<&'a pb::RegFileEntry>,
) -> Checked<Result<Parts<'a>, String>> {
    let part = part(&record.tunf)?;
    let Some(node) = node(part.id) else {
        return wrong!("the record of its node is missing");
    };
    let tun = tun::image::from_record(part, regular::image::from_record(node)?)?;
    Ok(tun.map(|tun| (part.id, node.flags, &node.fown, FileKind::Tun(tun))))
}

/// Returns a BPF map, or the name of what it is that is not restored.
fn bpf_map(record: &pb::FileEntry) -> Checked<Result<Parts<'_>, String>> {
    let part = part(&record.bpf)?;
    let map = bpfmap::image::from_record(part)?;
    Ok(map.map(|map| (part.id, part.flags, &part.fown, FileKind::BpfMap(map))))
}

/// Returns a POSIX message queue.
fn queue(record: &pb::FileEntry) -> Checked<Parts<'_>> {
    let ours = part(&record.ext_file)?;
    let part = part(&ours.queue)?;
    let kind = FileKind::Queue(mqueue::image::from_record(part));
    Ok((part.id, part.flags, &part.fown, kind))
}

/// Returns what watches file systems.
fn watcher(sort: FdTypes, record: &pb::FileEntry) -> Checked<Parts<'_>> {
    if sort == FdTypes::Inotify {
        let part = part(&record.ify)?;
        let kind = FileKind::Inotify(inotify::image::from_record(part)?);
        return Ok((part.id, part.flags, &part.fown, kind));
    }
    let part = part(&record.ffy)?;
    let kind = FileKind::Fanotify(fanotify::image::from_record(part)?);
    Ok((part.id, part.flags, &part.fown, kind))
}

/// Returns the open file description `id` of a kind that this build does not restore.
pub(super) fn unsupported(id: u32, name: String) -> OpenFile {
    OpenFile {
        id: FileId(id),
        flags: 0,
        owner: Owner::default(),
        kind: FileKind::Unsupported(name),
    }
}

fn part<T>(part: &Option<T>) -> Checked<&T> {
    part.as_ref()
        .ok_or_else(|| Wrong::new("the part that its type names is missing"))
}

/// Tells apart what is found by its path.
fn by_path(record: &pb::RegFileEntry) -> Checked<FileKind> {
    if record.ext == Some(true) {
        let file = regular::image::external_from_record(record)?;
        return Ok(FileKind::External(file));
    }
    let file = regular::image::from_record(record)?;
    let path = String::from_utf8_lossy(&file.path).into_owned();
    let is_path = record.flags & libc::O_PATH as u32 != 0;
    Ok(match file.mode.map_or(REGULAR, |mode| mode & TYPE) {
        _ if is_path => FileKind::Regular(file),
        REGULAR | DIRECTORY => FileKind::Regular(file),
        CHARACTER => FileKind::Device(device::image::from_record(record, file)),
        other => FileKind::Unsupported(format!("{path}, a file of type {other:#o}")),
    })
}

/// Returns the words for a kind that this build does not restore.
fn name_of(sort: FdTypes) -> &'static str {
    match sort {
        FdTypes::Ext => "external file",
        FdTypes::CtlTty => "controlling terminal",
        FdTypes::AutofsPipe => "pipe of autofs",
        _ => "file of an unknown kind",
    }
}

fn owner_to_record(owner: &Owner) -> pb::FownEntry {
    pb::FownEntry {
        uid: owner.uid,
        euid: owner.euid,
        signum: owner.signal,
        pid_type: owner.kind,
        pid: owner.pid as u32,
    }
}

fn owner_from_record(record: &pb::FownEntry) -> Checked<Owner> {
    if record.pid_type > 2 {
        return wrong!("owner type {} is not known", record.pid_type);
    }
    Ok(Owner {
        uid: record.uid,
        euid: record.euid,
        signal: signal(record.signum)?,
        kind: record.pid_type,
        pid: pid(record.pid).map_err(|wrong| wrong.of("owner"))?,
    })
}
