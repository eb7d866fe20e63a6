//! From the fact to operations. Pure.
//!
//! A segment gets its id by `kernel.shm_next_id`, which holds for the next segment that anybody makes in the namespace: who
//! gets another id fails there. Who made it is who it was (`cuid`), so it is made as that user.

use crate::plan::Builder;
use crate::snapshot::{IpcPerm, ShmSegment};

/// `kernel.shm_next_id` (Linux 3.8; CAP_CHECKPOINT_RESTORE since 5.9).
const NEXT_ID: &[u8] = b"/proc/sys/kernel/shm_next_id";
/// `IPC_CREAT`, `IPC_EXCL`, `IPC_RMID`, `IPC_SET` (`include/uapi/linux/ipc.h`).
const IPC_CREAT: u32 = 0o1000;
const IPC_EXCL: u32 = 0o2000;
const IPC_RMID: u64 = 0;
const IPC_SET: u64 = 1;
/// `SHM_LOCK` (`include/uapi/linux/shm.h`).
const SHM_LOCK: u64 = 11;
/// Permissions in a mode.
const PERMISSIONS: u32 = 0o777;
/// Bytes of `struct shmid64_ds`, and where its owner, group and mode are (`asm-generic/shmbuf.h`, `asm-generic/ipcbuf.h`).
const SHMID_DS: usize = 112;
const UID: usize = 4;
const GID: usize = 8;
const MODE: usize = 20;

/// Adds the next id that an object gets, by the file of its kind.
pub fn plan_next_id(b: &mut Builder, path: &[u8], id: u32) {
    b.write_file(path, id.to_string().as_bytes());
}

/// Adds the segment, made by who runs this.
pub fn plan_create(b: &mut Builder, segment: &ShmSegment) {
    let perm = &segment.perm;
    plan_next_id(b, NEXT_ID, perm.id);
}

/// Adds the call that makes it, once its id is said.
pub fn plan_get(b: &mut Builder, segment: &ShmSegment) {
    let perm = &segment.perm;
    let flags = IPC_CREAT | IPC_EXCL | segment.huge | perm.mode & PERMISSIONS;
    let args = [u64::from(perm.key), segment.size, u64::from(flags)];
    b.call_returns(libc::SYS_shmget, &args, i64::from(perm.id));
}

/// Returns `struct shmid64_ds`, or that of another kind, which begins alike, with owner, group and mode.
pub fn owner_of(perm: &IpcPerm, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[UID..UID + 4].copy_from_slice(&perm.uid.to_le_bytes());
    bytes[GID..GID + 4].copy_from_slice(&perm.gid.to_le_bytes());
    bytes[MODE..MODE + 4].copy_from_slice(&(perm.mode & PERMISSIONS).to_le_bytes());
    bytes
}

/// Adds owner and lock.
pub fn plan_owner(b: &mut Builder, segment: &ShmSegment) {
    let perm = &segment.perm;
    let id = u64::from(perm.id);
    if (perm.uid, perm.gid) != (perm.cuid, perm.cgid) {
        let at = b.put(&owner_of(perm, SHMID_DS));
        b.call_returns(libc::SYS_shmctl, &[id, IPC_SET, at], 0);
    }
    if segment.is_locked() {
        b.call_returns(libc::SYS_shmctl, &[id, SHM_LOCK, 0], 0);
    }
}

/// Adds an attachment at an address that is free.
pub fn plan_attach(b: &mut Builder, id: u32, at: u64, flags: u64) {
    b.call_returns(libc::SYS_shmat, &[u64::from(id), at, flags], at as i64);
}

/// Adds the end of an attachment.
pub fn plan_detach(b: &mut Builder, at: u64) {
    b.call_returns(libc::SYS_shmdt, &[at], 0);
}

/// Adds its removal: it goes with its last attachment.
pub fn plan_remove(b: &mut Builder, id: u32) {
    b.call_returns(libc::SYS_shmctl, &[u64::from(id), IPC_RMID, 0], 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_made_with_its_id_and_given_to_its_owner() {
        let mut b = Builder::for_test();
        let segment = ShmSegment {
            perm: IpcPerm {
                id: 32770,
                key: 9,
                uid: 5,
                mode: 0o3640,
                ..IpcPerm::default()
            },
            size: 100,
            ..ShmSegment::default()
        };
        plan_create(&mut b, &segment);
        plan_get(&mut b, &segment);
        plan_owner(&mut b, &segment);
        let calls = b.calls();
        let (nr, args) = calls[3];
        assert_eq!((nr, &args[..3]), (libc::SYS_shmget, &[9, 100, 0o3640][..]));
        let (nr, args) = calls[4];
        assert_eq!((nr, &args[..2]), (libc::SYS_shmctl, &[32770, 1][..]));
        assert_eq!(b.data_at(args[2] + 4, 4), [5, 0, 0, 0]);
        assert_eq!(calls[5].1[1], 11);
    }
}
