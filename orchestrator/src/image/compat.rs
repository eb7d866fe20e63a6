//! Images of older writers: what is now one record used to lie in files of its own. They are read into today's records.

use std::collections::BTreeMap;

use proto::pb::FdTypes;
use proto::{kinds, pb};

use super::codec::{read_all, read_optional};
use super::dir::Dir;
use super::error::Result;

/// Fills what `core` lacks of the leader of task `pid` from files of its own.
pub(super) fn complete_leader(dir: &Dir, pid: i32, core: &mut pb::CoreEntry) -> Result<()> {
    let Some(task) = &mut core.tc else {
        return Ok(());
    };
    if task.rlimits.is_none()
        && let Some(rlimits) = read_all(dir, &format!("rlimit-{pid}.img"), kinds::RLIMIT)?
    {
        task.rlimits = Some(pb::TaskRlimitsEntry { rlimits });
    }
    if task.sigactions.is_empty()
        && let Some(actions) = read_all(dir, &format!("sigacts-{pid}.img"), kinds::SIGACTS)?
    {
        task.sigactions = actions;
    }
    if task.signals_s.is_none()
        && let Some(signals) = read_all(dir, &format!("signal-s-{pid}.img"), kinds::SIGNALS)?
    {
        task.signals_s = Some(pb::SignalQueueEntry { signals });
    }
    if task.timers.is_none() {
        task.timers = timers(dir, pid)?;
    }
    if let Some(thread) = &mut core.thread_core
        && thread.creds.is_none()
    {
        thread.creds = read_optional(dir, &format!("creds-{pid}.img"), kinds::CREDS)?;
    }
    Ok(())
}

/// Fills what `core` lacks of thread `tid`; older writers keep credentials with the leader alone.
pub(super) fn complete_thread(
    dir: &Dir,
    tid: i32,
    core: &mut pb::CoreEntry,
    leader: Option<&pb::CredsEntry>,
) -> Result<()> {
    let Some(thread) = &mut core.thread_core else {
        return Ok(());
    };
    if thread.signals_p.is_none()
        && let Some(signals) = read_all(dir, &format!("signal-p-{tid}.img"), kinds::SIGNALS)?
    {
        thread.signals_p = Some(pb::SignalQueueEntry { signals });
    }
    if thread.creds.is_none() {
        thread.creds = leader.cloned();
    }
    Ok(())
}

/// Reads the areas of task `pid` from their own file where its `mm` record holds none.
pub(super) fn complete_mm(dir: &Dir, pid: i32, mm: &mut pb::MmEntry) -> Result<()> {
    if mm.vmas.is_empty()
        && let Some(vmas) = read_all(dir, &format!("vmas-{pid}.img"), kinds::VMAS)?
    {
        mm.vmas = vmas;
    }
    Ok(())
}

fn timers(dir: &Dir, pid: i32) -> Result<Option<pb::TaskTimersEntry>> {
    let name = format!("itimers-{pid}.img");
    let Some(interval) = read_all::<pb::ItimerEntry>(dir, &name, kinds::ITIMERS)? else {
        return Ok(None);
    };
    let posix = read_all(dir, &format!("posix-timers-{pid}.img"), kinds::POSIX_TIMERS)?;
    let mut interval = interval.into_iter();
    let mut next = || interval.next().unwrap_or_default();
    Ok(Some(pb::TaskTimersEntry {
        real: next(),
        virt: next(),
        prof: next(),
        posix: posix.unwrap_or_default(),
    }))
}

/// Reads the open file descriptions of a set that has no `files.img`.
pub(super) fn files(dir: &Dir) -> Result<Vec<pb::FileEntry>> {
    let entry = |sort: FdTypes, id: u32| pb::FileEntry {
        r#type: sort as i32,
        id,
        ..Default::default()
    };
    let mut all = Vec::new();
    for part in
        read_all::<pb::RegFileEntry>(dir, "reg-files.img", kinds::REG_FILES)?.unwrap_or_default()
    {
        all.push(pb::FileEntry {
            reg: Some(part.clone()),
            ..entry(FdTypes::Reg, part.id)
        });
    }
    for part in read_all::<pb::PipeEntry>(dir, "pipes.img", kinds::PIPES)?.unwrap_or_default() {
        all.push(pb::FileEntry {
            pipe: Some(part),
            ..entry(FdTypes::Pipe, part.id)
        });
    }
    for part in
        read_all::<pb::EventfdFileEntry>(dir, "eventfd.img", kinds::EVENTFD)?.unwrap_or_default()
    {
        all.push(pb::FileEntry {
            efd: Some(part),
            ..entry(FdTypes::Eventfd, part.id)
        });
    }
    for part in
        read_all::<pb::SignalfdEntry>(dir, "signalfd.img", kinds::SIGNALFD)?.unwrap_or_default()
    {
        all.push(pb::FileEntry {
            sgfd: Some(part),
            ..entry(FdTypes::Signalfd, part.id)
        });
    }
    for part in
        read_all::<pb::TimerfdEntry>(dir, "timerfd.img", kinds::TIMERFD)?.unwrap_or_default()
    {
        all.push(pb::FileEntry {
            tfd: Some(part),
            ..entry(FdTypes::Timerfd, part.id)
        });
    }
    for part in read_all::<pb::TtyFileEntry>(dir, "tty.img", kinds::TTY)?.unwrap_or_default() {
        all.push(pb::FileEntry {
            tty: Some(part),
            ..entry(FdTypes::Tty, part.id)
        });
    }
    for part in read_all::<pb::EventpollFileEntry>(dir, "eventpoll.img", kinds::EVENTPOLL)?
        .unwrap_or_default()
    {
        all.push(pb::FileEntry {
            epfd: Some(part.clone()),
            ..entry(FdTypes::Eventpoll, part.id)
        });
    }
    let mut watches = watches(dir)?;
    for epoll in all.iter_mut().filter_map(|file| file.epfd.as_mut()) {
        epoll.tfd = watches.remove(&epoll.id).unwrap_or_default();
    }
    Ok(all)
}

/// Returns the watches of epolls that lie in a file of their own, by the id of the epoll.
pub(super) fn watches(dir: &Dir) -> Result<BTreeMap<u32, Vec<pb::EventpollTfdEntry>>> {
    let name = "eventpoll-tfd.img";
    let watches = read_all::<pb::EventpollTfdEntry>(dir, name, kinds::EVENTPOLL_TFD)?;
    let mut of_epolls: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for watch in watches.unwrap_or_default() {
        of_epolls.entry(watch.id).or_default().push(watch);
    }
    Ok(of_epolls)
}
