//! Between an IPC namespace and its files `ipcns-var-ID.img`, `ipcns-sem-ID.img` and `ipcns-msg-ID.img`. Values and messages are
//! raw bytes behind the records, filled up to a multiple of 8.

use proto::frame::{Encoded, Writer};
use proto::{kinds, pb};

use super::codec::{Decoder, encode, read_one};
use super::dir::Dir;
use super::error::{Checked, Result, Wrong, wrong};
use crate::objects::shm::image::{perm_from_record, perm_to_record};
use crate::snapshot::{IpcNamespace, IpcPerm, IpcSettings, Message, MessageQueue, SemaphoreSet};
use std::collections::BTreeSet;

/// Raw bytes are filled up to a multiple of this.
const ALIGN: usize = 8;
/// Most semaphores of a set (`SEMMSL` is at most 65536, `ipc/ipc_sysctl.c`).
const MAX_SEMAPHORES: u32 = 1 << 16;
/// Most bytes of a message: more than any kernel lets be sent.
const MAX_MESSAGE: u32 = 1 << 24;
/// Highest value of a semaphore (`SEMVMX`).
const MAX_VALUE: u16 = 32767;

/// Returns the names and contents of a namespace's files.
pub(super) fn to_files(own: &IpcNamespace, id: u32) -> Vec<(String, Encoded)> {
    let mut files = vec![(
        format!("ipcns-var-{id}.img"),
        encode(kinds::IPCNS_VAR, [&settings_to_record(&own.settings)]),
    )];
    if !own.semaphores.is_empty() {
        let mut file = Writer::new(kinds::IPCNS_SEM);
        for set in &own.semaphores {
            file.record(&pb::IpcSemEntry {
                desc: perm_to_record(&set.perm),
                nsems: set.values.len() as u32,
            });
            let values = set.values.iter().flat_map(|value| value.to_le_bytes());
            file.bytes(&filled(values.collect()));
        }
        files.push((format!("ipcns-sem-{id}.img"), file.done()));
    }
    if !own.queues.is_empty() {
        let mut file = Writer::new(kinds::IPCNS_MSG);
        for queue in &own.queues {
            file.record(&pb::IpcMsgEntry {
                desc: perm_to_record(&queue.perm),
                qbytes: queue.capacity,
                qnum: queue.messages.len() as u32,
            });
            for message in &queue.messages {
                file.record(&pb::IpcMsg {
                    mtype: message.kind,
                    msize: message.bytes.len() as u32,
                });
                file.bytes(&filled(message.bytes.clone()));
            }
        }
        files.push((format!("ipcns-msg-{id}.img"), file.done()));
    }
    files
}

fn filled(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
    bytes
}

/// Returns the namespace with this id.
pub(super) fn from_files(dir: &Dir, id: u32) -> Result<IpcNamespace> {
    let name = format!("ipcns-var-{id}.img");
    let record: pb::IpcVarEntry = read_one(dir, &name, kinds::IPCNS_VAR)?;
    Ok(IpcNamespace {
        settings: settings_from_record(&record).map_err(|wrong| wrong.at(&name, "settings"))?,
        semaphores: read_semaphores(dir, id)?,
        queues: read_queues(dir, id)?,
    })
}

fn read_semaphores(dir: &Dir, id: u32) -> Result<Vec<SemaphoreSet>> {
    let name = format!("ipcns-sem-{id}.img");
    let mut all: Vec<SemaphoreSet> = Vec::new();
    let mut seen = BTreeSet::new();
    let Some(mut records) = Decoder::open(dir, &name, kinds::IPCNS_SEM)? else {
        return Ok(all);
    };
    while let Some(record) = records.record::<pb::IpcSemEntry>()? {
        let at = |wrong: Wrong| wrong.at(&name, format!("semaphores {}", record.desc.id));
        let perm = new_perm(&record.desc, &mut seen).map_err(at)?;
        if !(1..=MAX_SEMAPHORES).contains(&record.nsems) {
            return Err(at(Wrong::new(format!("a set of {}", record.nsems))));
        }
        let len = record.nsems as usize * 2;
        let mut bytes = records.bytes(len.next_multiple_of(ALIGN) as u64)?;
        bytes.truncate(len);
        let values = bytes.chunks_exact(2);
        let values: Vec<u16> = values
            .map(|two| u16::from_le_bytes([two[0], two[1]]))
            .collect();
        if let Some(value) = values.iter().find(|value| **value > MAX_VALUE) {
            return Err(at(Wrong::new(format!(
                "{value} is no value of a semaphore"
            ))));
        }
        all.push(SemaphoreSet { perm, values });
    }
    Ok(all)
}

fn read_queues(dir: &Dir, id: u32) -> Result<Vec<MessageQueue>> {
    let name = format!("ipcns-msg-{id}.img");
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    let Some(mut records) = Decoder::open(dir, &name, kinds::IPCNS_MSG)? else {
        return Ok(all);
    };
    while let Some(record) = records.record::<pb::IpcMsgEntry>()? {
        let at = |wrong: Wrong| wrong.at(&name, format!("queue {}", record.desc.id));
        let perm = new_perm(&record.desc, &mut seen).map_err(at)?;
        let mut messages = Vec::new();
        for number in 0..record.qnum {
            let message = records.first::<pb::IpcMsg>()?;
            if message.msize > MAX_MESSAGE || !(1..=i64::MAX as u64).contains(&message.mtype) {
                let wrong = Wrong::new(format!("message {number} is none that can be sent"));
                return Err(at(wrong));
            }
            let len = message.msize as usize;
            let mut bytes = records.bytes(len.next_multiple_of(ALIGN) as u64)?;
            bytes.truncate(len);
            let kind = message.mtype;
            messages.push(Message { kind, bytes });
        }
        all.push(MessageQueue {
            perm,
            capacity: record.qbytes,
            messages,
        });
    }
    Ok(all)
}

/// Returns what a record says of an object that was not there before.
fn new_perm(record: &pb::IpcDescEntry, seen: &mut BTreeSet<u32>) -> Checked<IpcPerm> {
    let perm = perm_from_record(record)?;
    if perm.mode & !0o777 != 0 {
        return wrong!("mode {:#o} is not known", perm.mode);
    }
    match seen.insert(perm.id) {
        true => Ok(perm),
        false => wrong!("it is there twice"),
    }
}

fn settings_to_record(settings: &IpcSettings) -> pb::IpcVarEntry {
    pb::IpcVarEntry {
        sem_ctls: settings.sem.to_vec(),
        msg_ctlmax: settings.msgmax,
        msg_ctlmnb: settings.msgmnb,
        msg_ctlmni: settings.msgmni,
        auto_msgmni: settings.auto_msgmni,
        shm_ctlmax: settings.shmmax,
        shm_ctlall: settings.shmall,
        shm_ctlmni: settings.shmmni,
        shm_rmid_forced: settings.shm_rmid_forced,
        mq_queues_max: settings.mq_queues_max,
        mq_msg_max: settings.mq_msg_max,
        mq_msgsize_max: settings.mq_msgsize_max,
        mq_msg_default: settings.mq_msg_default,
        mq_msgsize_default: settings.mq_msgsize_default,
        ..Default::default()
    }
}

fn settings_from_record(record: &pb::IpcVarEntry) -> Checked<IpcSettings> {
    let Ok(sem) = <[u32; 4]>::try_from(&record.sem_ctls[..]) else {
        return wrong!("{} settings of semaphores", record.sem_ctls.len());
    };
    Ok(IpcSettings {
        sem,
        msgmax: record.msg_ctlmax,
        msgmnb: record.msg_ctlmnb,
        msgmni: record.msg_ctlmni,
        auto_msgmni: record.auto_msgmni,
        shmmax: record.shm_ctlmax,
        shmall: record.shm_ctlall,
        shmmni: record.shm_ctlmni,
        shm_rmid_forced: record.shm_rmid_forced,
        mq_queues_max: record.mq_queues_max,
        mq_msg_max: record.mq_msg_max,
        mq_msgsize_max: record.mq_msgsize_max,
        mq_msg_default: record.mq_msg_default,
        mq_msgsize_default: record.mq_msgsize_default,
    })
}
