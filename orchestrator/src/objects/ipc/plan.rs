//! From the fact to operations. Pure. Each object gets its id by the file of its kind, for the next that anybody makes.

use crate::plan::Builder;
use crate::snapshot::{IpcNamespace, IpcPerm, IpcSettings, MessageQueue, PosixQueue, SemaphoreSet};

/// `kernel.sem_next_id`, `kernel.msg_next_id` (Linux 3.8; CAP_CHECKPOINT_RESTORE since 5.9).
pub const NEXT_SEMAPHORES: &[u8] = b"/proc/sys/kernel/sem_next_id";
/// As above.
pub const NEXT_QUEUE: &[u8] = b"/proc/sys/kernel/msg_next_id";
/// `IPC_CREAT | IPC_EXCL` (`include/uapi/linux/ipc.h`).
const NEW: u32 = 0o3000;
const IPC_SET: u64 = 1;
/// `SETALL` (`include/uapi/linux/sem.h`).
const SETALL: u64 = 17;
/// Bytes of `struct semid64_ds` and `struct msqid64_ds`, where owner, group and mode are, and the most bytes of a queue.
const SEMID_DS: usize = 104;
const MSQID_DS: usize = 120;
const QBYTES: usize = 88;

/// Adds the call that makes a set of semaphores, once its id is said.
pub fn plan_get_semaphores(b: &mut Builder, set: &SemaphoreSet) {
    let perm = &set.perm;
    let args = [perm.key, set.values.len() as u32, NEW | perm.mode].map(u64::from);
    b.call_returns(libc::SYS_semget, &args, i64::from(perm.id));
}

/// Adds their values and owner.
pub fn plan_semaphores(b: &mut Builder, set: &SemaphoreSet) {
    let values: Vec<u8> = set
        .values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let (id, at) = (u64::from(set.perm.id), b.put(&values));
    b.call_returns(libc::SYS_semctl, &[id, 0, SETALL, at], 0);
    if is_given(&set.perm) {
        let at = b.put(&owner(&set.perm, SEMID_DS));
        b.call_returns(libc::SYS_semctl, &[id, 0, IPC_SET, at], 0);
    }
}

/// Adds the call that makes a queue of messages, once its id is said.
pub fn plan_get_queue(b: &mut Builder, queue: &MessageQueue) {
    let perm = &queue.perm;
    let args = [perm.key, NEW | perm.mode].map(u64::from);
    b.call_returns(libc::SYS_msgget, &args, i64::from(perm.id));
}

/// Adds its messages, then its owner and how much it may hold.
pub fn plan_queue(b: &mut Builder, queue: &MessageQueue) {
    let id = u64::from(queue.perm.id);
    for message in &queue.messages {
        let mut bytes = message.kind.to_le_bytes().to_vec();
        bytes.extend_from_slice(&message.bytes);
        let (at, len) = (b.put(&bytes), message.bytes.len() as u64);
        b.call_returns(libc::SYS_msgsnd, &[id, at, len, libc::IPC_NOWAIT as u64], 0);
    }
    let mut set = owner(&queue.perm, MSQID_DS);
    set[QBYTES..QBYTES + 8].copy_from_slice(&u64::from(queue.capacity).to_le_bytes());
    let at = b.put(&set);
    b.call_returns(libc::SYS_msgctl, &[id, IPC_SET, at], 0);
}

fn is_given(perm: &IpcPerm) -> bool {
    (perm.uid, perm.gid) != (perm.cuid, perm.cgid)
}

fn owner(perm: &IpcPerm, len: usize) -> Vec<u8> {
    crate::objects::shm::plan::owner_of(perm, len)
}

/// Returns settings with which all objects can be made: none of them less than the kernel's own at the start, or than what is
/// there.
pub fn roomy(own: &IpcNamespace, posix: &[PosixQueue]) -> IpcSettings {
    let is = own.settings;
    let messages = own.queues.iter().flat_map(|queue| &queue.messages);
    let largest = messages.map(|message| message.bytes.len() as u32).max();
    let fullest = own.queues.iter().map(|queue| {
        let bytes: usize = queue
            .messages
            .iter()
            .map(|message| message.bytes.len())
            .sum();
        queue
            .capacity
            .max(bytes as u32)
            .max(queue.messages.len() as u32)
    });
    let most = |of: fn(&PosixQueue) -> u64| posix.iter().map(of).max().unwrap_or(0) as u32;
    // `include/uapi/linux/{msg,sem,shm}.h`.
    let sem = [32000, 1_024_000_000, 500, 32000];
    IpcSettings {
        sem: [0, 1, 2, 3].map(|at| is.sem[at].max(sem[at])),
        msgmax: is.msgmax.max(largest.unwrap_or(0)),
        msgmnb: is.msgmnb.max(fullest.max().unwrap_or(0)),
        msgmni: is.msgmni.max(32000),
        shmmax: is.shmmax.max(u64::MAX - (1 << 24)),
        shmall: is.shmall.max(u64::MAX - (1 << 24)),
        shmmni: is.shmmni.max(4096),
        shm_rmid_forced: 0,
        mq_queues_max: is.mq_queues_max.max(posix.len() as u32),
        mq_msg_max: is.mq_msg_max.max(most(|queue| queue.max_messages)),
        mq_msgsize_max: is.mq_msgsize_max.max(most(|queue| queue.message_size)),
        ..is
    }
}

/// Adds those settings that are not as `before`; what makes segments go comes later ([`plan_forced`]).
pub fn plan_settings(b: &mut Builder, is: &IpcSettings, before: Option<&IpcSettings>) {
    let before = before.map(texts).unwrap_or_default();
    for (name, text) in texts(is) {
        let is_same = before.iter().any(|other| *other == (name, text.clone()));
        if !is_same {
            b.write_file(format!("/proc/sys/{name}").as_bytes(), text.as_bytes());
        }
    }
}

/// Adds that segments go with their last attachment.
pub fn plan_forced(b: &mut Builder, is: &IpcSettings) {
    if is.shm_rmid_forced != 0 {
        b.write_file(b"/proc/sys/kernel/shm_rmid_forced", b"1");
    }
}

/// Returns the files of settings with their texts. Those of POSIX queues are none of a kernel without (0).
fn texts(is: &IpcSettings) -> Vec<(&'static str, String)> {
    let mut all = vec![
        (
            "kernel/sem",
            is.sem.map(|value| value.to_string()).join(" "),
        ),
        ("kernel/msgmax", is.msgmax.to_string()),
        ("kernel/msgmnb", is.msgmnb.to_string()),
        ("kernel/msgmni", is.msgmni.to_string()),
        ("kernel/shmmax", is.shmmax.to_string()),
        ("kernel/shmall", is.shmall.to_string()),
        ("kernel/shmmni", is.shmmni.to_string()),
    ];
    let queues = [
        ("fs/mqueue/queues_max", Some(is.mq_queues_max)),
        ("fs/mqueue/msg_max", Some(is.mq_msg_max)),
        ("fs/mqueue/msgsize_max", Some(is.mq_msgsize_max)),
        ("fs/mqueue/msg_default", is.mq_msg_default),
        ("fs/mqueue/msgsize_default", is.mq_msgsize_default),
    ];
    let known = queues.into_iter().filter(|_| is.mq_msg_max != 0);
    all.extend(known.filter_map(|(name, value)| Some((name, value?.to_string()))));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Message;

    #[test]
    fn a_queue_is_filled_before_it_is_made_small() {
        let mut b = Builder::for_test();
        let queue = MessageQueue {
            perm: IpcPerm {
                id: 5,
                uid: 7,
                ..IpcPerm::default()
            },
            capacity: 3,
            messages: vec![Message {
                kind: 9,
                bytes: b"longer".to_vec(),
            }],
        };
        plan_queue(&mut b, &queue);
        let calls = b.calls();
        assert_eq!((calls[0].0, calls[0].1[2]), (libc::SYS_msgsnd, 6));
        assert_eq!(b.data_at(calls[0].1[1], 9), b"\x09\0\0\0\0\0\0\0l");
        let (nr, args) = calls[1];
        assert_eq!((nr, args[1]), (libc::SYS_msgctl, IPC_SET));
        assert_eq!(b.data_at(args[2] + 4, 1), [7]);
        assert_eq!(b.data_at(args[2] + 88, 2), [3, 0]);
        let own = IpcNamespace {
            queues: vec![queue],
            ..IpcNamespace::default()
        };
        assert_eq!(roomy(&own, &[]).msgmnb, 6);
        assert_eq!(roomy(&own, &[]).msgmax, 6);
    }

    #[test]
    fn only_settings_that_differ_are_written() {
        let mut b = Builder::for_test();
        let is = IpcSettings {
            msgmax: 5,
            ..IpcSettings::default()
        };
        plan_settings(&mut b, &is, Some(&IpcSettings::default()));
        let opens = b.calls();
        let opens = opens.iter().filter(|(nr, _)| *nr == libc::SYS_openat);
        assert_eq!(opens.count(), 1);
    }
}
