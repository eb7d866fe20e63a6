//! Memory: the address space, its areas, and where the bytes of its pages lie.

use super::file::FileId;

/// What `mm_struct` holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mm {
    /// `start_code`, `end_code`.
    pub code: [u64; 2],
    /// `start_data`, `end_data`.
    pub data: [u64; 2],
    /// `start_stack`.
    pub start_stack: u64,
    /// `start_brk` and the current break.
    pub brk: [u64; 2],
    /// Arguments.
    pub args: [u64; 2],
    /// Environment.
    pub env: [u64; 2],
    /// Auxiliary vector, words as the kernel keeps them.
    pub auxv: Vec<u64>,
    /// Open file description of the executable.
    pub exe: FileId,
    /// `PR_GET_DUMPABLE`.
    pub dumpable: Option<i32>,
    /// `PR_GET_THP_DISABLE`.
    pub thp_disabled: bool,
    /// With `PR_THP_DISABLE_EXCEPT_ADVISED`: but where `madvise` asks for them.
    pub thp_except_advised: bool,
    /// `mlockall`: `MCL_FUTURE`, with `MCL_ONFAULT` or without; 0 = later mappings are not locked.
    pub mlockall: u32,
    /// `modify_ldt` entries, 8 bytes each, from entry 0; empty = none.
    pub ldt: Vec<u8>,
    /// Protection keys.
    pub keys: ProtectionKeys,
    /// Areas by ascending address.
    pub vmas: Vec<Vma>,
    /// Pages whose bytes are stored, by ascending address.
    pub pages: Vec<PageRun>,
    /// Of a restore: pages that are put in place while the task runs.
    pub lazy: Vec<PageRun>,
    /// Of a restore: pages that are mapped from their page files.
    pub mapped: Vec<PageRun>,
    /// Of these, ranges that are wanted soon.
    pub wanted: Vec<[u64; 2]>,
}

/// Protection keys of an address space: `pkeys(7)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProtectionKeys {
    /// Those that the program has allocated: bit n = key n. Every program has key 0, which is not told.
    pub allocated: u16,
    /// That which the kernel has taken for areas that may be executed only.
    pub execute_only: Option<u8>,
}

impl ProtectionKeys {
    /// Returns whether the program has allocated this key.
    pub fn has(&self, key: u8) -> bool {
        self.allocated >> key & 1 != 0
    }
}

/// One memory area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// `PROT_*`.
    pub prot: u32,
    /// `MAP_*` flags that make it again (`MAP_SHARED`/`MAP_PRIVATE`, `MAP_ANONYMOUS`, `MAP_GROWSDOWN`, `MAP_NORESERVE`,
    /// `MAP_HUGETLB` with size, `MAP_DROPPABLE`).
    pub flags: u32,
    /// What it maps.
    pub kind: VmaKind,
    /// Offset into what it maps, in bytes.
    pub offset: u64,
    /// `madvise` settings, bit n = advice n.
    pub advice: u64,
    /// Locked: `mlock`.
    pub locked: bool,
    /// Locked on fault: `mlock2(MLOCK_ONFAULT)`.
    pub locked_on_fault: bool,
    /// `mseal`ed.
    pub sealed: bool,
    /// Protection key that the program gave it; 0 = none, as of what may be executed only by the kernel's own.
    pub protection_key: u8,
    /// NUMA policy of the area.
    pub mempolicy: Option<super::thread::MemPolicy>,
    /// Guard regions inside (`MADV_GUARD_INSTALL`): start and end addresses.
    pub guards: Vec<[u64; 2]>,
    /// `PR_SET_VMA_ANON_NAME`; empty = none.
    pub name: Vec<u8>,
}

/// What an area maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmaKind {
    /// Private anonymous memory.
    Anonymous,
    /// The break's area.
    Heap,
    /// The stack of the first thread.
    Stack,
    /// A file, private: pages that were written are stored.
    FilePrivate(FileId),
    /// A file, shared: nothing is stored.
    FileShared(FileId),
    /// Shared anonymous memory number n of [`super::Snapshot::shared`].
    SharedAnonymous(u64),
    /// A memfd (its descriptor is an open file description), shared or private by `flags`.
    Memfd(FileId),
    /// An attached segment of System V shared memory, number n of [`super::Snapshot::segments`].
    SystemV(u32),
    /// An attached segment, number n, that was attached for reading only (`SHM_RDONLY`).
    SystemVReadOnly(u32),
    /// The ring of a context of asynchronous I/O, whose id is the address.
    AioRing,
    /// The kernel's vDSO code.
    Vdso,
    /// The kernel's vvar data (and vvar_vclock).
    Vvar,
    /// The vsyscall page.
    Vsyscall,
    /// Of a dump: private anonymous memory that a restore has mapped from a page file. It is [`VmaKind::Anonymous`] once it is known
    /// that all of it is to be stored.
    PageFile,
}

impl Vma {
    /// Returns an area that has nothing beside where it lies, its protection (`PROT_*`), its flags (`MAP_*`) and what it is.
    pub fn new([start, end]: [u64; 2], prot: u32, flags: u32, kind: VmaKind) -> Self {
        Self {
            start,
            end,
            prot,
            flags,
            kind,
            offset: 0,
            advice: 0,
            locked: false,
            locked_on_fault: false,
            sealed: false,
            protection_key: 0,
            mempolicy: None,
            guards: Vec::new(),
            name: Vec::new(),
        }
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Returns whether it has no bytes (never, in a snapshot that was checked).
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Returns the segment of System V shared memory that it is of.
    pub fn segment(&self) -> Option<u32> {
        match self.kind {
            VmaKind::SystemV(id) | VmaKind::SystemVReadOnly(id) => Some(id),
            _ => None,
        }
    }

    /// Returns whether its pages may be put in place while the task runs: those of private anonymous memory, unless it is locked
    /// or of huge pages, or the kernel may drop them.
    pub fn may_be_lazy(&self) -> bool {
        let is_anonymous = matches!(
            self.kind,
            VmaKind::Anonymous | VmaKind::Heap | VmaKind::Stack
        );
        let is_plain = self.flags & libc::MAP_TYPE as u32 == libc::MAP_PRIVATE as u32
            && self.flags & libc::MAP_HUGETLB as u32 == 0;
        is_anonymous && is_plain && !self.locked && !self.locked_on_fault
    }

    /// Returns whether its pages may be mapped from a page file. Not what would be another kind of memory then: what grows by itself, is
    /// locked, of huge pages, executable, sealed, or has what only anonymous memory can have.
    pub fn may_be_mapped(&self) -> bool {
        const ADVICE: u64 = 1 << libc::MADV_DONTFORK | 1 << libc::MADV_DONTDUMP;
        let is_anonymous = matches!(self.kind, VmaKind::Anonymous | VmaKind::Heap);
        let not = (libc::MAP_GROWSDOWN | libc::MAP_HUGETLB) as u32;
        is_anonymous
            && self.may_be_lazy()
            && self.flags & not == 0
            && self.prot & libc::PROT_EXEC as u32 == 0
            && self.advice & !ADVICE == 0
            && !self.sealed
            && self.protection_key == 0
            && self.mempolicy.is_none()
            && self.guards.is_empty()
            && self.name.is_empty()
    }

    /// Returns whether it is mapped private: pages that are written are the task's own.
    pub fn is_private(&self) -> bool {
        self.flags & libc::MAP_SHARED as u32 == 0
    }

    /// Returns whether pages of it are stored for the task, and filled: they are its own.
    pub fn has_pages(&self) -> bool {
        match self.kind {
            VmaKind::AioRing => true,
            VmaKind::Vvar | VmaKind::Vsyscall => false,
            _ => self.is_private(),
        }
    }
}

/// A run of neighbouring pages whose bytes lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRun {
    /// Address of the first page.
    pub start: u64,
    /// Number of pages.
    pub pages: u64,
    /// Where the bytes are.
    pub at: PageLocation,
}

/// Where the bytes of a run lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageLocation {
    /// In the file `pages-ID.img` of this image set, from this offset on.
    Here {
        /// The ID.
        pages_id: u32,
        /// Offset in bytes.
        offset: u64,
    },
    /// In the parent image set.
    Parent,
    /// Where the task was dumped, which hands them out when they are asked for.
    Source,
    /// They are those of the parent task at the same addresses.
    ParentTask,
}

/// Shared memory that no file system keeps: a shared anonymous mapping, or a memfd's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedMemory {
    /// Its id in the image set (`shmid`).
    pub id: u64,
    /// Size in bytes.
    pub size: u64,
    /// Pages stored, addresses counted from its start.
    pub pages: Vec<PageRun>,
}
