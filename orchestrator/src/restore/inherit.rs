//! `--inherit-fd`: open file descriptions of the snapshot that are not made, but given by whoever restores.

use crate::external::{Inherited as Given, Object};
use crate::plan::Refusal;
use crate::procfs::fdinfo;
use crate::snapshot::terminal::KIND_EXTERNAL;
use crate::snapshot::{FileKind, Inherited, OpenFile, PipeBuffer, Snapshot, TerminalInfo};
use crate::sys::{Pid, RemoteFd};

/// Has the snapshot's descriptions be the given ones. What is given for nothing is refused, and what does not fit.
pub(super) fn lead(snapshot: &mut Snapshot, given: &[Given]) -> Vec<Refusal> {
    let task = snapshot.root().map_or(0, |root| root.pid);
    let refuse = |one: &Given, reason: String| Refusal {
        task,
        object: format!("inherited descriptor {} for {}", one.fd, one.key),
        reason,
        remedy: String::new(),
    };
    let mut refusals = Vec::new();
    for one in given {
        let Ok(info) = fdinfo::read(Pid::this(), RemoteFd(one.fd)) else {
            refusals.push(refuse(one, "there is no such descriptor here".into()));
            continue;
        };
        let mode = info.flags & libc::O_ACCMODE as u32;
        let Snapshot {
            files,
            pipes,
            terminals,
            ..
        } = &mut *snapshot;
        for info in terminals.iter_mut().filter(|info| is_of(one, info)) {
            info.given = Some((Pid::this().0, one.fd));
        }
        let is_for = |file: &&mut OpenFile| is_for(one, file, terminals);
        let mut matching = files.iter_mut().filter(is_for).peekable();
        if matching.peek().is_none() {
            refusals.push(refuse(one, "nothing of the tree is called so".into()));
        }
        for file in matching {
            match lead_one(file, one, mode, pipes) {
                Ok(()) => {}
                Err(reason) => refusals.push(refuse(one, reason)),
            }
        }
    }
    refusals
}

fn is_for(given: &Given, file: &OpenFile, terminals: &[TerminalInfo]) -> bool {
    let object = given.object();
    match &file.kind {
        FileKind::Pipe(end) => object == Some(Object::Pipe(end.pipe_id.into())),
        FileKind::Unix(socket) => !socket.is_outside && object == Some(Object::Socket(socket.ino)),
        FileKind::Inet(socket) => object == Some(Object::Socket(socket.ino)),
        FileKind::External(file) => given.key.as_bytes() == file.key,
        FileKind::Terminal(terminal) if terminal.node.path.is_empty() => {
            let mut terminals = terminals.iter();
            terminals.any(|info| info.id == terminal.info_id && is_of(given, info))
        }
        kind => kind.node().is_some_and(|node| given.is_for(&node.path)),
    }
}

/// Returns whether a terminal from outside is what this is given for.
fn is_of(given: &Given, info: &TerminalInfo) -> bool {
    let own = Object::Terminal(info.rdev.into(), info.dev.into());
    info.kind == KIND_EXTERNAL && given.object() == Some(own)
}

fn lead_one(
    file: &mut OpenFile,
    given: &Given,
    mode: u32,
    pipes: &[PipeBuffer],
) -> Result<(), String> {
    let wanted = file.flags & libc::O_ACCMODE as u32;
    let is_path_only = file.flags & libc::O_PATH as u32 != 0;
    if mode != wanted && mode != libc::O_RDWR as u32 && !is_path_only {
        return Err(format!(
            "it is open for {}, and the program has it for {}",
            words(mode),
            words(wanted)
        ));
    }
    let has_waiting = match &file.kind {
        FileKind::Unix(socket) => !socket.queue.is_empty(),
        FileKind::Inet(socket) => {
            let stream = &socket.stream;
            !(socket.datagrams.is_empty() && stream.received.is_empty() && stream.sent.is_empty())
        }
        _ => false,
    };
    if has_waiting {
        return Err("what waits in the program's own socket would be lost".into());
    }
    let is_read = wanted != libc::O_WRONLY as u32;
    let data = match &file.kind {
        FileKind::Pipe(end) if is_read => {
            let buffer = pipes.iter().find(|pipe| pipe.pipe_id == end.pipe_id);
            buffer.map(|buffer| buffer.data.clone()).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    file.kind = FileKind::Inherited(Inherited {
        pid: Pid::this().0,
        fd: given.fd,
        key: given.key.clone(),
        data,
    });
    Ok(())
}

fn words(mode: u32) -> &'static str {
    match mode as i32 {
        libc::O_RDONLY => "reading",
        libc::O_WRONLY => "writing",
        _ => "reading and writing",
    }
}
