//! POSIX message queues: all are made and filled by the root before it has children, each with its name; descriptions are opened
//! by that, and then the names go that are gone.
//!
//! In the host's namespace a queue with a name outlives its processes: one that is still there is the one that was dumped if its
//! inode is the same. It is left as it is if it has not changed since, else it gets its messages back.

use super::host::HostQueue;
use super::program::Object;
use super::segments::plan_as_maker;
use super::task::Making;
use crate::objects::mqueue::plan;
use crate::snapshot::{FileKind, IpcPerm, PosixQueue, QueueFile};

/// What a queue finds on this host.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// As it was left.
    Itself,
    /// With so many messages, and not as it was left.
    Changed(u64),
    Obstacle(String, String),
}

fn object(queue: &PosixQueue) -> String {
    format!(
        "POSIX message queue /{}",
        String::from_utf8_lossy(&queue.name)
    )
}

/// Returns the name that a queue has until all have opened it: its own, unless it has lost that and another has it.
fn name(m: &Making<'_>, queue: &PosixQueue) -> Vec<u8> {
    let queues = m.snapshot.posix_queues.iter();
    let mut inside = queues.filter(|other| other.id != queue.id);
    let is_taken = m.host.queues.iter().any(|host| host.name == queue.name)
        || inside
            .any(|other| other.name == queue.name && (!other.is_unlinked || other.id < queue.id));
    match queue.is_unlinked && is_taken {
        true => format!("unlinked-{}-{}", m.snapshot.tasks[0].pid, queue.id).into_bytes(),
        false => queue.name.clone(),
    }
}

/// Adds all queues, if the task at hand is the root.
pub fn plan_make(m: &mut Making<'_>) {
    if !m.is_root() {
        return;
    }
    for queue in &m.snapshot.posix_queues {
        m.b.object(Object::Named(object(queue)));
        let found = match queue.is_unlinked {
            true => Found::Nothing,
            false => found(queue, &m.host.queues),
        };
        let name = name(m, queue);
        let fd = match found {
            Found::Obstacle(reason, remedy) => {
                m.report.refuse(object(queue), reason, remedy);
                continue;
            }
            Found::Itself => continue,
            Found::Changed(messages) => {
                m.report.lose(format!(
                    "{} had changed since, and holds again what it held then",
                    object(queue)
                ));
                let fd = plan::plan_open(&mut m.b, &name, FULL);
                plan::plan_empty(&mut m.b, queue, fd, messages);
                fd
            }
            Found::Nothing => plan_new(m, queue, &name),
        };
        plan::plan_fill(&mut m.b, queue, fd);
        m.b.close(fd);
    }
}

/// For both directions, without waiting.
const FULL: u32 = (libc::O_RDWR | libc::O_NONBLOCK) as u32;

/// Adds a queue made by its owner, to whom the kernel counts it.
fn plan_new(m: &mut Making<'_>, queue: &PosixQueue, name: &[u8]) -> i32 {
    let perm = IpcPerm {
        cuid: queue.uid,
        cgid: queue.gid,
        ..IpcPerm::default()
    };
    let mut fd = -1;
    plan_as_maker(m, &perm, Object::Named(object(queue)), |b| {
        fd = plan::plan_create(b, queue, name);
    });
    plan::plan_mode(&mut m.b, queue, fd);
    m.queues.push(name.to_vec());
    fd
}

/// Adds a description of a queue: closed on exec as it comes, unless it is opened by a path.
pub fn plan_open(m: &mut Making<'_>, file: &QueueFile, flags: u32) -> Option<i32> {
    if !file.path.is_empty() {
        let flags = crate::objects::regular::plan::open_flags(flags);
        return Some(m.b.open_path(&file.path, flags));
    }
    let mut queues = m.snapshot.posix_queues.iter();
    let queue = queues.find(|queue| queue.id == file.queue)?;
    let name = name(m, queue);
    Some(plan::plan_open(&mut m.b, &name, flags))
}

/// Adds the end of the names that are gone, now that all descriptions are there.
pub fn plan_finish(m: &mut Making<'_>) {
    if !m.is_root() {
        return;
    }
    for queue in &m.snapshot.posix_queues {
        if queue.is_unlinked {
            m.b.object(Object::Named(object(queue)));
            let name = name(m, queue);
            plan::plan_unlink(&mut m.b, &name);
        }
    }
}

/// Adds that the task is told of messages. Whoever closes a descriptor of the queue after that is told no more.
pub fn plan_notices(m: &mut Making<'_>) {
    let queues = &m.snapshot.posix_queues;
    for queue in queues {
        let Some(notice) = queue.notice.filter(|notice| notice.pid == m.own.task.pid) else {
            continue;
        };
        let is_it = |id| match m.files.get(id).map(|file| &file.kind) {
            Some(FileKind::Queue(file)) => file.queue == queue.id,
            _ => false,
        };
        let mut fds = m.own.task.fds.iter();
        let Some(entry) = fds.find(|entry| is_it(&entry.file)) else {
            let reason = "who is told of its messages has no descriptor of it";
            m.report.refuse(object(queue), reason, "");
            continue;
        };
        m.b.object(Object::Named(object(queue)));
        plan::plan_notice(&mut m.b, entry.fd, &notice);
    }
}

/// Returns what of the host's queues is this one, or stands in its way.
fn found(queue: &PosixQueue, host: &[HostQueue]) -> Found {
    let Some(other) = host.iter().find(|other| other.name == queue.name) else {
        return Found::Nothing;
    };
    let attributes = (other.max_messages, other.message_size);
    let is_it = queue.seen.is_some_and(|(inode, _)| inode == other.inode)
        && attributes == (queue.max_messages, queue.message_size);
    let is_as_left = queue.seen == Some((other.inode, other.changed_ns))
        && other.messages == queue.messages.len() as u64;
    match other.opener {
        _ if !is_it => Found::Obstacle(
            "its name is taken by another queue".into(),
            "remove that (mq_unlink), if nobody needs it".into(),
        ),
        Some(pid) => Found::Obstacle(
            format!("it is still there, and process {pid} has it open"),
            "end the processes that use it".into(),
        ),
        None if is_as_left => Found::Itself,
        None => Found::Changed(other.messages),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_queue_is_used_again() {
        let queue = PosixQueue {
            name: b"q".to_vec(),
            max_messages: 3,
            message_size: 9,
            seen: Some((77, 1000)),
            ..PosixQueue::default()
        };
        let host = HostQueue {
            name: b"q".to_vec(),
            inode: 77,
            changed_ns: 1000,
            max_messages: 3,
            message_size: 9,
            messages: 0,
            opener: None,
        };
        assert_eq!(found(&queue, &[]), Found::Nothing);
        assert_eq!(found(&queue, std::slice::from_ref(&host)), Found::Itself);
        let later = HostQueue {
            changed_ns: 1001,
            messages: 2,
            ..host.clone()
        };
        assert_eq!(found(&queue, &[later]), Found::Changed(2));
        let busy = HostQueue {
            opener: Some(5),
            ..host.clone()
        };
        let other = HostQueue { inode: 78, ..host };
        for (host, word) in [(busy, "process 5 has it open"), (other, "taken by another")] {
            let is = matches!(found(&queue, &[host]), Found::Obstacle(reason, _) if reason.contains(word));
            assert!(is, "{word}");
        }
    }
}
