//! The command line: the peer's commands and options under the peer's names, so that habits and scripts carry over.

mod namespaces;
mod servers;
mod values;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

use crate::external::{External, Inherited, Object};
use crate::wire::batches::Packing;

pub use servers::{LazyGuardArgs, LazyPagesArgs, PageServerArgs, ServerArgs};
pub use values::normalise;
use values::{parse_inherited, parse_packing, parse_pid, parse_size};

/// Checkpoint and restore for Linux.
#[derive(Debug, Parser)]
#[command(
    name = "orchestrator",
    disable_version_flag = true,
    max_term_width = 120
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Print the version and end.
    #[arg(long, short = 'V')]
    pub version: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Freeze a process, write all of it to image files, and kill it or let it run on.
    Dump(DumpArgs),
    /// Write the memory of a process that runs on, or what of it changed since the last time, for a dump to come.
    PreDump(PreDumpArgs),
    /// Bring a dumped process back.
    Restore(RestoreArgs),
    /// Take out of the parents of an image set what it supersedes.
    Dedup(DedupArgs),
    /// End the tracking of changes that a pre-dump began.
    Untrack(UntrackArgs),
    /// Record which pages a tree uses that `restore --map-images` restored, for the next restore to have ready.
    WorkingSet(WorkingSetArgs),
    /// Let the network through again to connections that were dumped and are not restored.
    Unlock(UnlockArgs),
    /// Keep track between dumps.
    #[command(hide = true)]
    Keeper(KeeperArgs),
    /// Store the pages of a dump that runs elsewhere.
    PageServer(PageServerArgs),
    /// Bring the memory of a tree that `restore --lazy-pages` restores, while it runs.
    LazyPages(LazyPagesArgs),
    /// Watch over lazy memory.
    #[command(hide = true)]
    LazyGuard(LazyGuardArgs),
    /// Write an image set anew: for CRIU, or packed.
    Convert(ConvertArgs),
    /// Say what this kernel and this user can do.
    Check(CheckArgs),
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// Folder of the image files.
    #[arg(short = 'D', long, value_name = "DIR", default_value = ".")]
    pub images_dir: PathBuf,
    /// Folder for logs, pid files and statistics; the images folder unless given.
    #[arg(short = 'W', long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// Log file, in the work folder unless absolute; standard error unless given.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// How much to log: 0 nothing, 1 errors, 2 warnings, 3 what is done, 4 everything. Also -v, -vv, -v4.
    #[arg(
        long,
        value_name = "N",
        default_value = "2",
        overrides_with = "verbosity"
    )]
    pub verbosity: String,
    /// Put the process id before each log line.
    #[arg(long)]
    pub log_pid: bool,
    /// Read options from this file too: a name and value on each line, without the dashes.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Read no default configuration files.
    #[arg(long)]
    pub no_default_config: bool,
    /// Print the statistics of this run.
    #[arg(long)]
    pub display_stats: bool,
    /// Let a task keep its terminal and session that lie outside of what is dumped.
    #[arg(short = 'j', long)]
    pub shell_job: bool,
}

/// What lies outside of a tree, and who is told of what happens to it.
#[derive(Debug, Args)]
pub struct OutsideArgs {
    /// With `restore`: give a descriptor of the caller to the tree, for one that it had: fd[N]:KEY of pipe[INODE],
    /// socket[INODE], file[MOUNT:INODE], tty[RDEV:DEV], or the path of a file.
    #[arg(long, value_name = "fd[N]:KEY", value_parser = parse_inherited)]
    pub inherit_fd: Vec<Inherited>,
    /// Run this command at each stage, which CRTOOLS_SCRIPT_ACTION names; its failure stops the work.
    #[arg(long, value_name = "COMMAND")]
    pub action_script: Vec<String>,
}

/// Options that allow what a task may hold and what is not kept yet: they are taken, as scripts pass them for all tasks, and
/// change nothing; a task that holds such an object is refused by the object's name.
#[derive(Debug, Args)]
pub struct Permissions {
    /// Keep connections of TCP.
    #[arg(long)]
    pub tcp_established: bool,
    /// Leave connections of TCP out: their sockets are closed.
    #[arg(long)]
    pub tcp_close: bool,
    /// With `dump`: how the network is kept away from connections of TCP until they are restored: nftables, iptables (by its
    /// programs), or skip where somebody else does it.
    #[arg(long, value_name = "WAY", default_value = "nftables", value_parser = ["nftables", "iptables", "skip"])]
    pub network_lock: String,
    /// With `dump`: keep connections of Unix sockets that leave what is dumped, or those of one inode.
    #[arg(short = 'x', long, num_args = 0..=1, require_equals = true, default_missing_value = "", value_name = "INODE")]
    ext_unix_sk: Vec<String>,
    /// Masters whose slaves are outside are refused by name.
    #[arg(long, hide = true)]
    orphan_pts_master: bool,
    /// With `dump`: give files that were deleted under their name, and have others, one more until they are restored.
    #[arg(long)]
    pub link_remap: bool,
    /// With `dump`: keep locks on files.
    #[arg(short = 'l', long)]
    pub file_locks: bool,
    /// With `dump`: leave out connections that wait to be accepted.
    #[arg(long)]
    skip_in_flight: bool,
    /// With `dump`: an object that leaves what is dumped: file[MOUNT:INODE], pipe[INODE], tty[RDEV:DEV], or unix[INODE] of
    /// either end of a connection. With `restore`: veth[INNER]:OUTER@BRIDGE, the other end of a link, or macvlan[INNER]:OUTER,
    /// what one lies on.
    #[arg(long, value_name = "KIND[ID]:NAME")]
    pub external: Vec<External>,
    /// About namespaces.
    #[command(flatten)]
    pub namespaces: namespaces::Namespaces,
    #[arg(long, hide = true)]
    evasive_devices: bool,
    /// Names of what is watched are looked for in any case.
    #[arg(long, hide = true)]
    force_irmap: bool,
    /// With `pre-dump`: splice or read.
    #[arg(long, hide = true, value_name = "MODE", value_parser = ["splice", "read"])]
    pub pre_dump_mode: Option<String>,
    /// With `dump`: look for the names of watched files in this folder too, where the kernel has none.
    #[arg(long, value_name = "DIR")]
    pub irmap_scan_path: Vec<PathBuf>,
    /// Holes of deleted files are found by `SEEK_DATA`.
    #[arg(long, hide = true)]
    ghost_fiemap: bool,
    #[arg(long, hide = true)]
    no_ghost_fiemap: bool,
}

impl Permissions {
    /// Returns what becomes of connections of TCP.
    pub fn connections(&self) -> crate::objects::inet::collect::Choices {
        crate::objects::inet::collect::Choices {
            skip_pending: self.skip_in_flight,
            keep_connections: self.tcp_established,
            close_connections: self.tcp_close,
        }
    }

    /// Returns how the network is kept away from them.
    pub fn network_lock(&self) -> crate::snapshot::NetworkLock {
        match &*self.network_lock {
            "skip" => crate::snapshot::NetworkLock::Skip,
            "iptables" => crate::snapshot::NetworkLock::Iptables,
            _ => crate::snapshot::NetworkLock::Nftables,
        }
    }

    /// Returns which connections of Unix sockets may leave what is dumped.
    ///
    /// # Errors
    /// An inode that is no number, or an object that no restore could get from elsewhere.
    pub fn outside(&self) -> anyhow::Result<crate::dump::Outside> {
        self.check_external()?;
        let mut outside = crate::dump::Outside {
            all: self.ext_unix_sk.iter().any(String::is_empty),
            skip_pending: self.skip_in_flight,
            ..Default::default()
        };
        let inodes = self.ext_unix_sk.iter().filter(|inode| !inode.is_empty());
        for inode in inodes {
            let number = inode
                .parse()
                .map_err(|_| anyhow::anyhow!("{inode:?} is no inode of a socket"))?;
            outside.inodes.push(number);
        }
        let named = self.external.iter().filter_map(|one| match one.object {
            Some(Object::Socket(inode)) => Some(inode),
            _ => None,
        });
        outside.given.extend(named);
        Ok(outside)
    }

    /// Refuses objects that cannot be left out yet, whatever the command.
    ///
    /// # Errors
    /// Such an object, and why.
    pub fn check_external(&self) -> anyhow::Result<()> {
        let mut all = self.external.iter();
        match all.find_map(|one| Some((one, one.obstacle()?))) {
            Some((one, obstacle)) => anyhow::bail!("{one}: {obstacle}"),
            None => Ok(()),
        }
    }
}

/// Options of `restore` that are taken, without effect, with the other commands too: scripts pass one list to all.
#[derive(Debug, Args)]
pub struct OfRestore {
    #[arg(short = 'd', long = "restore-detached", hide = true)]
    detached: bool,
    #[arg(short = 'S', long = "restore-sibling", hide = true)]
    sibling: bool,
    #[arg(long, hide = true, value_name = "FILE")]
    pidfile: Option<PathBuf>,
}

/// Options of `dump` that are taken, without effect, with the other commands too.
#[derive(Debug, Args)]
pub struct OfDump {
    #[arg(short = 't', long, hide = true, value_name = "PID", value_parser = parse_pid)]
    tree: Option<i32>,
    #[arg(short = 'R', long = "leave-running", hide = true)]
    running: bool,
    #[arg(long, hide = true, value_name = "SECONDS")]
    timeout: Option<u64>,
    #[arg(long, hide = true, value_name = "PATH")]
    freeze_cgroup: Option<PathBuf>,
    #[arg(long, hide = true, value_name = "SIZE")]
    ghost_limit: Option<String>,
}

/// Options of `convert`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct ConvertArgs {
    /// Folder of the image files.
    #[arg(short = 'D', long, value_name = "DIR", default_value = ".")]
    pub images_dir: PathBuf,
    /// Folder for the new ones; made where there is none.
    #[arg(short = 'o', long, value_name = "DIR")]
    pub output: PathBuf,
    /// Write images that CRIU restores too.
    #[arg(long, required_unless_present = "native", conflicts_with_all = ["native", "compress", "checksum"])]
    pub portable: bool,
    /// Write images with what CRIU does not know.
    #[arg(long)]
    pub native: bool,
    /// Compress the pages: lz4, or zstd with a level if given; with checksums.
    #[arg(long, value_name = "lz4|zstd[:LEVEL]", value_parser = parse_packing)]
    pub compress: Option<Packing>,
    /// Keep checksums of the pages.
    #[arg(long)]
    pub checksum: bool,
}

impl ConvertArgs {
    /// Returns the options that other commands take and this does not.
    pub fn common(&self) -> CommonArgs {
        #[derive(Debug, Parser)]
        struct Defaults {
            #[command(flatten)]
            common: CommonArgs,
        }
        Defaults::parse_from(["orchestrator"]).common
    }
}

/// Options of rounds: dumps that store what changed since the one before.
#[derive(Debug, Args)]
pub struct RoundArgs {
    /// Track what changes from now on, for the next dump.
    #[arg(long)]
    pub track_mem: bool,
    /// Folder of the dump before, from the images folder on: pages that did not change since are not stored again.
    #[arg(long, value_name = "DIR")]
    pub prev_images_dir: Option<PathBuf>,
    /// Take out of the dumps before what this one supersedes: they cannot be restored for themselves then.
    #[arg(long)]
    pub auto_dedup: bool,
    /// How to track: wp-async or soft-dirty; the best that this kernel has unless given.
    #[arg(long, hide = true, value_name = "WAY", value_parser = ["wp-async", "soft-dirty"])]
    pub track_by: Option<String>,
}

/// Options of `pre-dump`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct PreDumpArgs {
    /// Process to dump.
    #[arg(value_name = "PID", conflicts_with = "tree", required_unless_present = "tree", value_parser = parse_pid)]
    pub pid: Option<i32>,
    /// Process to dump, with all that is below it.
    #[arg(short = 't', long, value_name = "PID", value_parser = parse_pid)]
    pub tree: Option<i32>,
    /// Write images that CRIU reads too.
    #[arg(long)]
    pub portable: bool,
    /// Send the pages to a page server.
    #[arg(long)]
    pub page_server: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub server: ServerArgs,
    /// Seconds after which an attempt to freeze is given up; 0 never.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub timeout: u64,
    /// Freeze this cgroup, given by its folder, until all threads are seized.
    #[arg(long, value_name = "PATH")]
    pub freeze_cgroup: Option<PathBuf>,
    /// For those who serve, which this command does not: taken without effect.
    #[arg(long, hide = true, value_name = "FD")]
    status_fd: Option<i32>,
    #[arg(short = 'R', long = "leave-running", hide = true)]
    running: bool,
    #[arg(long, hide = true, value_name = "SIZE")]
    ghost_limit: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub rounds: RoundArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub common: CommonArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "without effect")]
    pub of_restore: OfRestore,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub outside: OutsideArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "without effect")]
    pub permissions: Permissions,
}

/// Options of `dedup`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct DedupArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub common: CommonArgs,
}

/// Options of `untrack`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct UntrackArgs {
    /// Process that was pre-dumped.
    #[arg(value_name = "PID", value_parser = parse_pid)]
    pub pid: i32,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub common: CommonArgs,
}

/// Options of `working-set`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct WorkingSetArgs {
    /// Root of the restored tree.
    #[arg(value_name = "PID", value_parser = parse_pid)]
    pub pid: i32,
    /// Seconds to wait before.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub after: u64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub common: CommonArgs,
}

/// Options of `unlock`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct UnlockArgs {
    /// Root of the tree that was dumped; all of them unless given.
    #[arg(value_name = "PID", value_parser = parse_pid)]
    pub pid: Option<i32>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub common: CommonArgs,
}

/// Arguments of `keeper`, which this program gives itself.
#[derive(Debug, Args)]
pub struct KeeperArgs {
    /// Root of the tree.
    pub pid: i32,
    /// When it was started.
    pub started: u64,
    /// Descriptors to keep.
    pub keep: Vec<i32>,
}

/// Options of `dump`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct DumpArgs {
    /// Process to dump.
    #[arg(value_name = "PID", conflicts_with = "tree", required_unless_present = "tree", value_parser = parse_pid)]
    pub pid: Option<i32>,
    /// Process to dump, with all that is below it.
    #[arg(short = 't', long, value_name = "PID", value_parser = parse_pid)]
    pub tree: Option<i32>,
    /// Let it run on afterwards.
    #[arg(short = 'R', long, conflicts_with = "leave_stopped")]
    pub leave_running: bool,
    /// Leave it stopped afterwards (SIGSTOP). Its connections of TCP stay silent: to continue it, `orchestrator unlock PID`
    /// first.
    #[arg(short = 's', long)]
    pub leave_stopped: bool,
    /// Let it run on as soon as its memory is copied, on write, and write the copy while it runs.
    #[arg(long, conflicts_with_all = ["leave_stopped", "lazy_pages", "page_server", "stream"])]
    pub live: bool,
    /// Write images that CRIU restores too: pages that a child shares with its parent are stored once for each.
    #[arg(long)]
    pub portable: bool,
    /// Have the images on the disk before anything becomes of the process: they outlive a failure of power then.
    #[arg(long)]
    pub sync: bool,
    /// Send the pages to a page server.
    #[arg(long, conflicts_with = "stream")]
    pub page_server: bool,
    /// Leave most of the memory in the frozen process, and hand it out to a lazy-pages daemon that asks at --port.
    #[arg(long, conflicts_with_all = ["page_server", "stream", "compress", "checksum", "leave_running", "leave_stopped"])]
    pub lazy_pages: bool,
    /// With --lazy-pages: write a zero byte to this descriptor, and close it, once the images are there and a daemon can ask.
    #[arg(long, value_name = "FD")]
    pub status_fd: Option<i32>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub server: ServerArgs,
    /// Write all images to standard output, or to this descriptor, as one stream.
    #[arg(long, value_name = "FD", num_args = 0..=1, require_equals = true, default_missing_value = "1", conflicts_with_all = ["display_stats", "prev_images_dir"])]
    pub stream: Option<i32>,
    /// Compress the pages: lz4, or zstd with a level if given; with checksums, verified at restore.
    #[arg(long, value_name = "lz4|zstd[:LEVEL]", value_parser = parse_packing, conflicts_with_all = ["portable", "page_server", "prev_images_dir"])]
    pub compress: Option<Packing>,
    /// Keep checksums of the pages, verified at restore.
    #[arg(long, conflicts_with_all = ["portable", "page_server", "prev_images_dir"])]
    pub checksum: bool,
    /// Seconds after which an attempt to freeze is given up; 0 never.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub timeout: u64,
    /// Freeze this cgroup, given by its folder, until all threads are seized.
    #[arg(long, value_name = "PATH")]
    pub freeze_cgroup: Option<PathBuf>,
    /// Most bytes of a deleted file to keep in the images, with K, M or G.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_size)]
    pub ghost_limit: u64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub rounds: RoundArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub common: CommonArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "without effect")]
    pub of_restore: OfRestore,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub outside: OutsideArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "without effect")]
    pub permissions: Permissions,
}

/// Options of `restore`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct RestoreArgs {
    /// End once it runs, and leave it to init; else wait and end with its status.
    #[arg(short = 'd', long)]
    pub restore_detached: bool,
    /// Make it a sibling of this command: a child of the caller.
    #[arg(short = 'S', long)]
    pub restore_sibling: bool,
    /// Leave it stopped.
    #[arg(short = 's', long)]
    pub leave_stopped: bool,
    /// Write its process id to this file.
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Print the programs that would run, and run none.
    #[arg(long)]
    pub plan: bool,
    /// Read all images from standard input, or from this descriptor, as one stream.
    #[arg(long, value_name = "FD", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    pub stream: Option<i32>,
    /// Keep the clocks of this machine instead of the ones the process knew.
    #[arg(long)]
    pub host_clocks: bool,
    /// Take pages out of the images once they are restored: they cannot be restored again then.
    #[arg(long)]
    pub auto_dedup: bool,
    /// Let it run at once: its memory comes from a lazy-pages daemon that waits in the work folder.
    #[arg(long, conflicts_with_all = ["auto_dedup", "stream"])]
    pub lazy_pages: bool,
    /// Map memory from the page files, copied on write, instead of reading it: these must never be changed while it lives. See docs/warm.md
    /// for what differs (`madvise(MADV_DONTNEED)` fails).
    #[arg(long, conflicts_with_all = ["auto_dedup", "stream", "lazy_pages"])]
    pub map_images: bool,
    /// Become the command after `--` once it runs.
    #[arg(long)]
    pub exec_cmd: bool,
    /// For those who serve, which this command does not: taken without effect.
    #[arg(long, hide = true, value_name = "FD")]
    status_fd: Option<i32>,
    /// Command of --exec-cmd with its arguments.
    #[arg(last = true, value_name = "CMD", requires = "exec_cmd")]
    pub cmd: Vec<std::ffi::OsString>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub common: CommonArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "without effect")]
    pub of_dump: OfDump,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub outside: OutsideArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "without effect")]
    pub permissions: Permissions,
}

/// Options of `check`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct CheckArgs {
    /// Check the required and the extra features.
    #[arg(long)]
    pub all: bool,
    /// Check what some programs need.
    #[arg(long)]
    pub extra: bool,
    /// Check one feature; `list` names them.
    #[arg(long, value_name = "NAME")]
    pub feature: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub common: CommonArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "without effect")]
    pub of_dump: OfDump,
    #[command(flatten)]
    #[expect(missing_docs, reason = "without effect")]
    pub of_restore: OfRestore,
}
