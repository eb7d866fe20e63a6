//! `stats-dump` and `stats-restore`: how long the phases took and how many pages they saw.

use std::io::Write;
use std::path::Path;

use proto::{kinds, pb};

use super::codec::encode;
use super::dir::{Dir, failed};
use super::error::Result;

/// What a dump measured. Times in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DumpStats {
    /// From the first stop to the last thread frozen.
    pub freezing_us: u32,
    /// From frozen to let go.
    pub frozen_us: u32,
    /// Draining memory, all of it.
    pub memdump_us: u32,
    /// Of that, writing pages to their files.
    pub memwrite_us: u32,
    /// Private pages looked at.
    pub pages_scanned: u64,
    /// Private pages that the parent image set has.
    pub pages_skipped_parent: u64,
    /// Private pages written.
    pub pages_written: u64,
    /// Private pages left to a lazy restore.
    pub pages_lazy: u64,
    /// Pipes used for draining.
    pub page_pipes: u64,
    /// Buffers of those pipes.
    pub page_pipe_bufs: u64,
    /// Shared pages looked at.
    pub shared_pages_scanned: u64,
    /// Shared pages that the parent image set has.
    pub shared_pages_skipped_parent: u64,
    /// Shared pages written.
    pub shared_pages_written: u64,
    /// Of a live dump.
    pub live: Option<LiveStats>,
}

/// What of a live dump's memory was written when. All shared memory was written while the tree stood still.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveStats {
    /// Private pages written from copies, while the tree ran.
    pub pages_copied: u64,
    /// Private pages written while it stood still.
    pub pages_frozen: u64,
}

/// What a restore measured. Times in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoreStats {
    /// Pages compared with inherited ones.
    pub pages_compared: u64,
    /// Pages left as inherited.
    pub pages_skipped_cow: u64,
    /// Pages filled.
    pub pages_restored: u64,
    /// Making the tasks.
    pub forking_us: u32,
    /// The whole restore.
    pub restore_us: u32,
}

/// Writes `stats-restore` into the folder at `dir`.
pub fn write_restore_stats(dir: &Path, stats: &RestoreStats) -> Result<()> {
    let name = "stats-restore";
    let restore = pb::RestoreStatsEntry {
        pages_compared: stats.pages_compared,
        pages_skipped_cow: stats.pages_skipped_cow,
        forking_time: stats.forking_us,
        restore_time: stats.restore_us,
        pages_restored: Some(stats.pages_restored),
    };
    let record = pb::StatsEntry {
        dump: None,
        restore: Some(restore),
    };
    let mut file = Dir::open(dir)?.create(name)?;
    let bytes = encode(kinds::STATS, [&record]);
    file.write_all(&bytes.bytes)
        .map_err(|source| failed("write", name, source))
}

/// Returns the record of `stats`.
pub(super) fn to_record(stats: &DumpStats) -> pb::StatsEntry {
    let dump = pb::DumpStatsEntry {
        freezing_time: stats.freezing_us,
        frozen_time: stats.frozen_us,
        memdump_time: stats.memdump_us,
        memwrite_time: stats.memwrite_us,
        pages_scanned: stats.pages_scanned,
        pages_skipped_parent: stats.pages_skipped_parent,
        pages_written: stats.pages_written,
        irmap_resolve: Some(0),
        pages_lazy: stats.pages_lazy,
        page_pipes: Some(stats.page_pipes),
        page_pipe_bufs: Some(stats.page_pipe_bufs),
        shpages_scanned: Some(stats.shared_pages_scanned),
        shpages_skipped_parent: Some(stats.shared_pages_skipped_parent),
        shpages_written: Some(stats.shared_pages_written),
        ext: stats.live.map(|live| pb::ExtDumpStats {
            pages_copied: Some(live.pages_copied),
            pages_frozen: Some(live.pages_frozen),
        }),
    };
    pb::StatsEntry {
        dump: Some(dump),
        restore: None,
    }
}
