//! What inotify and fanotify watch: added when all that the tree opens is open, as they would tell of it.

use super::descriptors::{is_own, object};
use super::program::Object;
use super::task::{Making, plan_meeting};
use crate::objects::{fanotify, inotify};
use crate::snapshot::{FileKind, Inotify, Snapshot};

/// Returns whether anything in a snapshot watches files.
fn is_needed(snapshot: &Snapshot) -> bool {
    let mut kinds = snapshot.files.iter().map(|file| &file.kind);
    kinds.any(|kind| match kind {
        FileKind::Inotify(inotify) => !inotify::plan::is_plain(inotify),
        FileKind::Fanotify(fanotify) => !fanotify.marks.is_empty(),
        _ => false,
    })
}

/// Adds the watches of what is this task's, after all tasks have opened their files.
pub fn plan_watches(m: &mut Making<'_>) {
    if !is_needed(m.snapshot) {
        return;
    }
    plan_meeting(m, "all files are open", m.meetings.opened);
    for file in &m.snapshot.files {
        let (Some(&fd), true) = (m.own.placed.get(&file.id), is_own(m, file.id)) else {
            continue;
        };
        match &file.kind {
            FileKind::Inotify(inotify) => {
                m.b.object(object(fd, file));
                if inotify.overflow {
                    plan_overflow(m, fd);
                }
                plan_inotify(m, fd, inotify);
            }
            FileKind::Fanotify(fanotify) => {
                m.b.object(object(fd, file));
                for mark in &fanotify.marks {
                    fanotify::plan::plan_mark(&mut m.b, fd, mark);
                }
            }
            _ => {}
        }
    }
}

fn plan_inotify(m: &mut Making<'_>, fd: i32, inotify: &Inotify) {
    for watch in &inotify.watches {
        let path = String::from_utf8_lossy(&watch.on.node.path).into_owned();
        let what = format!("inotify, watch {} of {path}", watch.wd);
        m.b.object(Object::Descriptor(fd, what));
        inotify::plan::plan_watch(&mut m.b, fd, watch);
    }
}

fn plan_overflow(m: &mut Making<'_>, fd: i32) {
    let most = m.host.inotify_max_events;
    let len = inotify::plan::overflow_len(most);
    let room = match most {
        1..=inotify::plan::MOST_EVENTS => m.holes.take_anywhere(len),
        _ => None,
    };
    let Some(at) = room else {
        m.report.refuse(
            format!("descriptor {fd} (inotify)"),
            format!(
                "it takes {most} events here (fs.inotify.max_queued_events), too many to show that some were lost"
            ),
            "lower that number for the restore",
        );
        return;
    };
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let map = [at, len, prot as u64, flags as u64, u64::MAX, 0];
    m.b.call_returns(libc::SYS_mmap, &map, at as i64);
    inotify::plan::plan_overflow(&mut m.b, fd, most, at);
    m.b.call_returns(libc::SYS_munmap, &[at, len], 0);
}
