//! The tree's own IPC namespace: looked at by a thread of ours that enters it. Nothing in it changes, but for when a segment
//! that nobody has attached was attached last.

use super::Error;
use super::areas::Segment;
use super::collect::TaskFacts;
use super::queues::{self, FoundQueue};
use super::segments;
use crate::error::Refusal;
use crate::procfs::smaps::{self, VmFlags};
use crate::procfs::sysvipc::{self, Msg, Sem, Shm};
use crate::procfs::{self};
use crate::snapshot::{
    IpcNamespace, IpcPerm, IpcSettings, Message, MessageQueue, SemaphoreSet, ShmSegment,
};
use crate::sys::clone::CloneFlags;
use crate::sys::{self, Pid, ipc};
use std::collections::BTreeSet;

/// Id of an IPC namespace that is the tree's own: those of the caller are below.
pub const OWN: u32 = 9;
/// Bytes of the largest message that any queue may have (`kernel.msgmax` is an `int` in practice of a few KiB).
const MAX_MESSAGE: usize = 1 << 24;

/// What was found in a namespace.
#[derive(Debug, Default)]
pub struct Found {
    /// All but segments.
    pub namespace: IpcNamespace,
    /// Segments of shared memory.
    pub segments: Vec<ShmSegment>,
    /// Device of its POSIX message queues.
    pub device: Option<(u32, u32)>,
}

/// Returns whether a process is in another IPC namespace than ours.
pub fn is_own(pid: Pid) -> bool {
    link(pid).is_some_and(|theirs| Some(theirs) != link(Pid::this()))
}

fn link(pid: Pid) -> Option<Vec<u8>> {
    procfs::fd::read_link(pid, "ns/ipc").ok()
}

/// Collects what is in the namespace of the tree, which is its own; attachments of ours are added to `memory`, and its POSIX
/// queues to `posix`.
///
/// # Errors
/// It cannot be entered, or read.
pub fn collect(
    tasks: &[TaskFacts],
    (memory, posix): (&mut Vec<Segment>, &mut Vec<FoundQueue>),
    refusals: &mut Vec<Refusal>,
) -> Result<Found, Error> {
    let root = tasks.first().map_or(0, |facts| facts.task.pid);
    refuse_others(tasks, root, refusals);
    let path = format!("/proc/{root}/ns/ipc");
    let namespace = std::fs::File::open(path).map_err(Error::Descriptors)?;
    let look = || -> Result<Found, Error> {
        sys::ns::setns(&namespace, CloneFlags::NEWIPC).map_err(Error::Own)?;
        let settings = settings()?;
        let table = sysvipc::read_shm()?;
        let attached = segments::collect_own(tasks, &table, refusals);
        let segments = with_unattached(attached, &table, (root, settings), (memory, refusals))?;
        Ok(Found {
            device: queues::add_all(posix)?,
            namespace: IpcNamespace {
                settings,
                semaphores: semaphores(sysvipc::read_sem()?)?,
                queues: messages(sysvipc::read_msg()?, (root, refusals))?,
            },
            segments,
        })
    };
    std::thread::scope(|scope| scope.spawn(look).join().expect("a look does not panic"))
}

/// Refuses a namespace that others are in too: they would lose it, or go on to change it.
fn refuse_others(tasks: &[TaskFacts], root: i32, refusals: &mut Vec<Refusal>) {
    let own: BTreeSet<i32> = tasks.iter().map(|facts| facts.task.pid).collect();
    let wanted = link(Pid(root));
    let all = procfs::tasks::processes().unwrap_or_default();
    let mut others = all.iter().filter(|pid| !own.contains(&pid.0));
    if let Some(other) = others.find(|pid| wanted.is_some() && link(**pid) == wanted) {
        refusals.push(Refusal {
            task: root,
            object: "ipc namespace".into(),
            reason: format!("process {other}, which is outside of what is dumped, is in it too"),
            remedy: String::new(),
        });
    }
}

/// Adds segments that nobody has attached: we attach them, to read them.
fn with_unattached(
    mut segments: Vec<ShmSegment>,
    table: &[Shm],
    (root, settings): (i32, IpcSettings),
    (memory, refusals): (&mut Vec<Segment>, &mut Vec<Refusal>),
) -> Result<Vec<ShmSegment>, Error> {
    let unattached = table.iter().filter(|shm| shm.attached == 0);
    for shm in unattached {
        if settings.shm_rmid_forced != 0 {
            refusals.push(Refusal {
                task: root,
                object: format!("System V shared memory {}", shm.id),
                reason: "nobody has it attached, and by kernel.shm_rmid_forced it would go with our own look at it"
                    .into(),
                remedy: String::new(),
            });
            continue;
        }
        let at = ipc::attach_shm(shm.id).map_err(Error::Own)?;
        let areas = smaps::read(Pid::this())?;
        let Some(area) = areas.vmas.iter().find(|area| area.start == at) else {
            continue;
        };
        let huge = match area.vm_flags.contains(VmFlags::HUGETLB) {
            true => {
                libc::MAP_HUGETLB as u32
                    | area.sizes.kernel_page.trailing_zeros() << libc::MAP_HUGE_SHIFT
            }
            false => 0,
        };
        memory.push(Segment {
            id: u64::from(shm.id),
            holder: Pid::this(),
            range: [area.start, area.end],
        });
        segments.push(segments::segment(shm, huge));
    }
    segments.sort_by_key(|segment| segment.perm.id);
    Ok(segments)
}

fn perm(id: u32, key: u32, mode: u32, [uid, gid, cuid, cgid]: [u32; 4]) -> IpcPerm {
    IpcPerm {
        id,
        key,
        uid,
        gid,
        cuid,
        cgid,
        mode,
    }
}

fn semaphores(table: Vec<Sem>) -> Result<Vec<SemaphoreSet>, Error> {
    let set = |sem: Sem| {
        let values = ipc::semaphores(sem.id, sem.count as usize);
        Ok(SemaphoreSet {
            perm: perm(sem.id, sem.key, sem.mode, sem.owners),
            values: values.map_err(Error::Own)?,
        })
    };
    table.into_iter().map(set).collect()
}

fn messages(
    table: Vec<Msg>,
    (root, refusals): (i32, &mut Vec<Refusal>),
) -> Result<Vec<MessageQueue>, Error> {
    let mut all = Vec::new();
    for msg in table {
        all.push(queue(msg, (root, refusals))?);
    }
    Ok(all)
}

fn queue(msg: Msg, (root, refusals): (i32, &mut Vec<Refusal>)) -> Result<MessageQueue, Error> {
    let capacity = ipc::queue_capacity(msg.id).map_err(Error::Own)?;
    let most = (msg.bytes as usize).min(MAX_MESSAGE);
    let mut messages = Vec::new();
    for number in 0..msg.count {
        let looked = ipc::look_at_message(msg.id, number, most);
        // A copy may not be larger than what may be sent (`prepare_copy`, `ipc/msg.c`).
        if looked
            .as_ref()
            .is_err_and(|error| error.errno as i32 == libc::EINVAL)
        {
            refusals.push(Refusal {
                task: root,
                object: format!("System V message queue {}", msg.id),
                reason: format!("message {number} in it is larger than kernel.msgmax"),
                remedy: "raise kernel.msgmax in its IPC namespace".into(),
            });
            break;
        }
        let (kind, bytes) = looked.map_err(Error::Own)?;
        let kind = kind as u64;
        messages.push(Message { kind, bytes });
    }
    Ok(MessageQueue {
        perm: perm(msg.id, msg.key, msg.mode, msg.owners),
        capacity: capacity.min(u64::from(u32::MAX)) as u32,
        messages,
    })
}

fn settings() -> Result<IpcSettings, Error> {
    let one = |name: &str| {
        let all = sysvipc::read_settings(name)?;
        Ok::<u64, procfs::Error>(all.first().copied().unwrap_or(0))
    };
    let small = |name: &str| one(name).map(|value| value.min(u64::from(u32::MAX)) as u32);
    let sem = sysvipc::read_settings("kernel/sem")?;
    Ok(IpcSettings {
        sem: [0, 1, 2, 3].map(|at| sem.get(at).copied().unwrap_or(0) as u32),
        msgmax: small("kernel/msgmax")?,
        msgmnb: small("kernel/msgmnb")?,
        msgmni: small("kernel/msgmni")?,
        auto_msgmni: small("kernel/auto_msgmni").unwrap_or(0),
        shmmax: one("kernel/shmmax")?,
        shmall: one("kernel/shmall")?,
        shmmni: small("kernel/shmmni")?,
        shm_rmid_forced: small("kernel/shm_rmid_forced")?,
        mq_queues_max: small("fs/mqueue/queues_max").unwrap_or(0),
        mq_msg_max: small("fs/mqueue/msg_max").unwrap_or(0),
        mq_msgsize_max: small("fs/mqueue/msgsize_max").unwrap_or(0),
        mq_msg_default: small("fs/mqueue/msg_default").ok(),
        mq_msgsize_default: small("fs/mqueue/msgsize_default").ok(),
    })
}
