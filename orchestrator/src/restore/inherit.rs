//! `--inherit-fd`: open file descriptions of the snapshot that are not made, but given by whoever restores.

use crate::external::Inherited as Given;
use crate::plan::Refusal;
use crate::procfs::fdinfo;
use crate::snapshot::{FileKind, Inherited, OpenFile, PipeBuffer, Snapshot};
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
        let Snapshot { files, pipes, .. } = &mut *snapshot;
        let mut matching = files.iter_mut().filter(|file| is_for(one, file)).peekable();
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

fn is_for(given: &Given, file: &OpenFile) -> bool {
    match &file.kind {
        FileKind::Pipe(end) => given.pipe() == Some(end.pipe_id.into()),
        kind => kind.node().is_some_and(|node| given.is_for(&node.path)),
    }
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
