//! Kinds of image file: the magic words at their start.

/// First word of most images.
pub const COMMON: u32 = 0x5456_4319;
/// First word of service files.
pub const SERVICE: u32 = 0x5510_5940;

/// The magic words at the start of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The word that says to which family it belongs; the inventory has none.
    pub family: Option<u32>,
    /// The word of this kind alone.
    pub own: u32,
}

/// Defines common images by name and own word.
macro_rules! common {
    ($($(#[$doc:meta])* $name:ident = $own:literal;)*) => {
        $($(#[$doc])* pub const $name: Kind = Kind { family: Some(COMMON), own: $own };)*
    };
}

/// `inventory.img`.
pub const INVENTORY: Kind = Kind {
    family: None,
    own: 0x5831_3116,
};
/// `stats-dump` and `stats-restore`.
pub const STATS: Kind = Kind {
    family: Some(SERVICE),
    own: 0x5709_3306,
};

common! {
    /// `pstree.img`.
    PSTREE = 0x5027_3030;
    /// `mqueues.img`, which is ours.
    MQUEUES = 0x4f51_2026;
    /// `core-TID.img`.
    CORE = 0x5505_3847;
    /// `ids-PID.img`.
    IDS = 0x5443_2030;
    /// `mm-PID.img`.
    MM = 0x5749_2820;
    /// `vmas-PID.img`, of older writers.
    VMAS = 0x5412_3737;
    /// `fs-PID.img`.
    FS = 0x5140_3912;
    /// `pagemap-PID.img` and `pagemap-shmem-ID.img`.
    PAGEMAP = 0x5608_4025;
    /// `files.img`.
    FILES = 0x5630_3138;
    /// `fdinfo-ID.img`.
    FDINFO = 0x5621_3732;
    /// `pipes-data.img`.
    PIPES_DATA = 0x5645_3709;
    /// `fifo-data.img`.
    FIFO_DATA = 0x5933_3054;
    /// `sk-queues.img`.
    SK_QUEUES = 0x5626_4026;
    /// `tcp-stream-INODE.img`, the inode in hexadecimal.
    TCP_STREAM = 0x5146_5506;
    /// `bpfmap-data.img`.
    BPFMAP_DATA = 0x6432_4033;
    /// `ipcns-var-ID.img`.
    IPCNS_VAR = 0x5311_5007;
    /// `ipcns-sem-ID.img`.
    IPCNS_SEM = 0x5957_3019;
    /// `ipcns-msg-ID.img`.
    IPCNS_MSG = 0x5545_3737;
    /// `ipcns-shm-ID.img`.
    IPCNS_SHM = 0x4628_3044;
    /// `netns-ID.img`.
    NETNS = 0x5593_3752;
    /// `netdev-ID.img`.
    NETDEV = 0x5737_3951;
    /// `memfd.img`.
    MEMFD = 0x4845_3499;
    /// `tty-data.img`.
    TTY_DATA = 0x5941_3026;
    /// `tty-info.img`.
    TTY_INFO = 0x5945_3036;
    /// `seccomp.img`.
    SECCOMP = 0x6441_3049;
    /// `timens-ID.img`.
    TIMENS = 0x4311_4433;
    /// `ghost-file-ID.img`, the ID in hexadecimal.
    GHOST_FILE = 0x5258_3605;
    /// `remap-fpath.img`.
    REMAP_FPATH = 0x5913_3954;
    /// `filelocks.img`.
    FILE_LOCKS = 0x5432_3616;
    /// `creds-PID.img`, of older writers.
    CREDS = 0x5402_3547;
    /// `rlimit-PID.img`, of older writers.
    RLIMIT = 0x5711_3925;
    /// `sigacts-PID.img`, of older writers.
    SIGACTS = 0x5534_4201;
    /// `signal-s-PID.img` and `signal-p-TID.img`, of older writers.
    SIGNALS = 0x5925_5647;
    /// `itimers-PID.img`, of older writers.
    ITIMERS = 0x5746_4056;
    /// `posix-timers-PID.img`, of older writers.
    POSIX_TIMERS = 0x5260_3957;
    /// `reg-files.img`, of older writers.
    REG_FILES = 0x5036_3636;
    /// `pipes.img`, of older writers.
    PIPES = 0x5651_3555;
    /// `eventfd.img`, of older writers.
    EVENTFD = 0x4452_3722;
    /// `eventpoll.img`, of older writers.
    EVENTPOLL = 0x4502_3858;
    /// `eventpoll-tfd.img`, of older writers.
    EVENTPOLL_TFD = 0x4443_3746;
    /// `signalfd.img`, of older writers.
    SIGNALFD = 0x5732_3820;
    /// `timerfd.img`, of older writers.
    TIMERFD = 0x5049_3712;
    /// `tty.img`, of older writers.
    TTY = 0x5943_3025;
}
