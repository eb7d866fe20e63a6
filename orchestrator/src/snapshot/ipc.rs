//! System V inter-process communication.

/// What every object of System V has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IpcPerm {
    /// Its id in its namespace.
    pub id: u32,
    /// Its key; 0 = `IPC_PRIVATE`.
    pub key: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// User who made it.
    pub cuid: u32,
    /// Group of who made it.
    pub cgid: u32,
    /// Permissions; of a segment with `SHM_DEST` and `SHM_LOCKED`.
    pub mode: u32,
}

/// `SHM_DEST`: removed, and gone with its last attachment. `SHM_LOCKED`: it stays in memory (`include/uapi/linux/shm.h`).
const SHM_DEST: u32 = 0o1000;
const SHM_LOCKED: u32 = 0o2000;

/// A segment of System V shared memory. Its content is the [`super::SharedMemory`] with its id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShmSegment {
    /// Id, key, owner, mode.
    pub perm: IpcPerm,
    /// Size in bytes.
    pub size: u64,
    /// `SHM_HUGETLB` with the size of its pages as `shmget` takes it; 0 = ordinary pages.
    pub huge: u32,
    /// Process that made it, and when it was made or its owner changed; `None` = not recorded.
    pub made: Option<(i32, i64)>,
}

impl ShmSegment {
    /// Returns whether it has been removed, and goes with its last attachment.
    pub fn is_removed(&self) -> bool {
        self.perm.mode & SHM_DEST != 0
    }

    /// Returns whether it stays in memory.
    pub fn is_locked(&self) -> bool {
        self.perm.mode & SHM_LOCKED != 0
    }
}
