//! The dump: seize, collect, infect, ask, drain, cure, encode, let go or kill.
//!
//! Everything that stands in the way is found before the target is changed, and told at once. Until the image set is
//! complete the target can be let go as it was, and every error path does that.

mod areas;
mod descriptor;
mod files;
mod losses;
mod policies;
mod process;
mod thread;

use crate::error::{Refusals, Target};
use crate::image::{self, DumpStats, ImageWriter};
use crate::infect::{self, Infected, questions::Questions};
use crate::memory::{self, Tally, drain, output::PageOutput, scan, select};
use crate::procfs::{self, smaps::VmFlags};
use crate::snapshot::{Origin, PageRun, PipeBuffer, SharedMemory, Snapshot, Task, Vma};
use crate::support::Loss;
use crate::sys::clock::{self, Clock};
use crate::sys::{self, Pid};
use crate::tracee::{self, Frozen};
use files::FileTable;
use policies::Policies;
use std::path::Path;
use std::time::{Duration, Instant};

/// What becomes of the target once it is dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It is killed.
    Kill,
    /// It runs on.
    Run,
    /// It is left stopped.
    Stop,
}

/// What to dump, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The process.
    pub pid: Pid,
    /// What becomes of it.
    pub after: After,
    /// A job of a shell: its session and terminal lie outside.
    pub shell_job: bool,
    /// Time after which freezing is given up; zero = never.
    pub timeout: Duration,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something cannot be kept.
    #[error("{0}")]
    Refused(#[from] Refusals),
    /// Freezing or letting go.
    #[error(transparent)]
    Tracee(#[from] tracee::Error),
    /// The parasite.
    #[error(transparent)]
    Infect(#[from] infect::Error),
    /// `/proc`.
    #[error(transparent)]
    Proc(#[from] procfs::Error),
    /// Memory.
    #[error(transparent)]
    Memory(#[from] memory::Error),
    /// The images.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A system call of ours.
    #[error(transparent)]
    Own(sys::Error),
    /// A pipe of the target.
    #[error("cannot read what a pipe holds")]
    Pipe(#[source] std::io::Error),
}

/// A dump that failed: why, and what became of the target.
#[derive(Debug, thiserror::Error)]
#[error("{source}; {target}")]
pub struct Failure {
    /// Why.
    pub source: Error,
    /// What became of the target.
    pub target: Target,
}

impl Failure {
    fn new(target: Target, source: impl Into<Error>) -> Self {
        let source = source.into();
        let target = if matches!(source, Error::Tracee(tracee::Error::Gone(_))) {
            Target::Lost
        } else {
            target
        };
        Self { source, target }
    }
}

/// What is known of the frozen process before the parasite is asked.
struct Facts {
    task: Task,
    files: FileTable,
    segments: Vec<areas::Segment>,
    timers: Vec<procfs::timers::TimerLine>,
    pipes: Vec<PipeBuffer>,
    losses: Vec<Loss>,
}

/// Dumps a process into the folder `dir`.
///
/// # Errors
/// With the word what became of the target.
pub fn dump(settings: &Settings, dir: &Path) -> Result<DumpStats, Failure> {
    let untouched = |error: Error| Failure::new(Target::Untouched, error);
    let begin = Instant::now();
    let mut writer = ImageWriter::create(dir).map_err(|error| untouched(error.into()))?;
    let missing = |error| {
        if is_missing(&error) {
            Error::Tracee(tracee::Error::Missing(settings.pid.0))
        } else {
            error
        }
    };
    let early = process::refuse_early(settings.pid, settings.shell_job)
        .map_err(|error| untouched(missing(error)))?;
    Refusals(early)
        .into_result()
        .map_err(|error| untouched(error.into()))?;
    let mut losses =
        losses::collect_early(settings.pid).map_err(|error| untouched(missing(error)))?;
    let mut pages = writer
        .pages_file(1)
        .map(|file| PageOutput::new(file, 1))
        .map_err(|error| untouched(error.into()))?;
    let seize = Instant::now();
    let frozen =
        tracee::freeze(settings.pid, settings.timeout).map_err(|error| untouched(error.into()))?;
    let mut stats = DumpStats {
        freezing_us: micros(seize),
        ..DumpStats::default()
    };
    let frozen_at = Instant::now();
    tracing::info!(
        "process {} with {} threads stands still",
        settings.pid.0,
        frozen.threads().len()
    );
    let mut facts = collect(&frozen, settings).map_err(untouched)?;
    let mut infected =
        infect::infect(frozen).map_err(|error| Failure::new(Target::PutBack, error))?;
    let put_back = |error: Error| Failure::new(Target::PutBack, error);
    let origin = ask(&mut infected, &mut facts).map_err(put_back)?;
    let drained = drain_all(
        &mut infected,
        &mut facts,
        &mut pages,
        &mut writer,
        &mut stats,
    )
    .map_err(put_back)?;
    losses.append(&mut facts.losses);
    let frozen = infected
        .cure()
        .map_err(|error| Failure::new(Target::PutBack, error))?;
    if settings.after == After::Run {
        // The image set is written beside the running target: all that it needs is here.
        frozen.release();
        stats.frozen_us = micros(frozen_at);
        let snapshot = assemble(facts, origin, drained);
        writer
            .finish(&snapshot, &stats)
            .map_err(|error| put_back(error.into()))?;
    } else {
        stats.frozen_us = micros(frozen_at);
        let snapshot = assemble(facts, origin, drained);
        writer
            .finish(&snapshot, &stats)
            .map_err(|error| put_back(error.into()))?;
        end(frozen, settings.after).map_err(put_back)?;
    }
    if let Some(words) = losses::words(&losses) {
        tracing::warn!("{words}");
    }
    tracing::info!(
        "dumped in {} us, of it {} us frozen",
        micros(begin),
        stats.frozen_us
    );
    Ok(stats)
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Proc(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ESRCH)))
}

fn micros(since: Instant) -> u32 {
    since.elapsed().as_micros().min(u128::from(u32::MAX)) as u32
}

fn end(frozen: Frozen, after: After) -> Result<(), Error> {
    match after {
        After::Kill => frozen.kill()?,
        After::Run => frozen.release(),
        After::Stop => frozen.release_stopped(),
    }
    Ok(())
}

/// Collects what can be told from outside, and refuses what cannot be kept.
fn collect(frozen: &Frozen, settings: &Settings) -> Result<Facts, Error> {
    let pid = frozen.pid();
    let mut refusals = Vec::new();
    let mut files = FileTable::default();
    let areas = procfs::smaps::read(pid)?;
    let fds = files.collect(pid, settings.shell_job, &mut refusals)?;
    let collected = areas::collect(pid, &areas, &mut files, &mut refusals);
    let mut task = process::collect(frozen, &mut files, &mut refusals)?;
    task.fds = fds;
    if let Some(mm) = &mut task.mm {
        mm.vmas = collected.vmas;
    }
    Refusals(refusals).into_result()?;
    Ok(Facts {
        // Now, as the target stands still: what it leaves in a pipe is what the image has.
        pipes: files.read_pipes()?,
        losses: losses::of_files(&task, &files),
        task,
        files,
        segments: collected.segments,
        timers: procfs::timers::read(pid)?,
    })
}

/// Asks the process and its threads what only they can tell.
fn ask(infected: &mut Infected, facts: &mut Facts) -> Result<Origin, Error> {
    let mut origin = Origin {
        wall_clock_ns: clock::now_ns(Clock::Realtime).ok().map(|ns| ns as u64),
        root_ids: process::root_ids(),
        ..Origin::default()
    };
    let mut questions = Questions::default();
    let of_process = process::ProcessQuestions::ask(&mut questions, &facts.timers);
    let vmas = facts.task.mm.as_ref().map_or(&[][..], |mm| &mm.vmas);
    let of_areas = Policies::ask_first(&mut questions, vmas);
    let answers = infected.ask(&questions)?;
    let losses = &mut facts.losses;
    of_process.read(&answers, &mut facts.task, &mut origin, losses);
    if let Some(mm) = &mut facts.task.mm {
        of_areas.collect(&answers, infected, &mut mm.vmas)?;
        mm.mlockall = mlockall(infected, &mm.vmas)?;
    }
    let mut questions = Questions::default();
    let of_thread = thread::ThreadQuestions::ask(&mut questions);
    let answers = infected.ask_threads(&questions)?;
    for (thread, answers) in facts.task.threads.iter_mut().zip(&answers) {
        of_thread.read(answers, thread, losses);
    }
    Ok(origin)
}

/// Returns with which flags later mappings are locked. The kernel tells nobody, but the parasite's memory is such a mapping.
fn mlockall(infected: &Infected, vmas: &[Vma]) -> Result<u32, Error> {
    let pid = infected.frozen().pid();
    let is_locked = |vma: &&Vma| vma.locked || vma.locked_on_fault;
    let before: u64 = vmas.iter().filter(is_locked).map(Vma::len).sum();
    let [start, end] = infected.range();
    if procfs::status::read(pid)?.locked_kib < (before + end - start) / 1024 {
        return Ok(0);
    }
    let areas = procfs::smaps::read(pid)?;
    let parasites = areas
        .vmas
        .iter()
        .find(|area| area.start <= start && start < area.end);
    let flags = parasites.map_or(VmFlags::empty(), |area| area.vm_flags);
    let more = match flags.contains(VmFlags::LOCKONFAULT) {
        true => libc::MCL_ONFAULT,
        false => 0,
    };
    Ok(if flags.contains(VmFlags::LOCKED) {
        (libc::MCL_FUTURE | more) as u32
    } else {
        0
    })
}

/// Memory that was written to page files.
#[derive(Debug, Default)]
struct Drained {
    private: Vec<PageRun>,
    shared: Vec<SharedMemory>,
}

/// Writes all memory to page files.
fn drain_all(
    infected: &mut Infected,
    facts: &mut Facts,
    pages: &mut PageOutput,
    writer: &mut ImageWriter,
    stats: &mut DumpStats,
) -> Result<Drained, Error> {
    let begin = Instant::now();
    let pid = infected.frozen().pid();
    let mut tally = Tally::default();
    if let Some(mm) = &mut facts.task.mm {
        let found = scan::pages(pid, &mm.vmas)?;
        let wanted = select::select(&mut mm.vmas, &found);
        drain::drain(infected, &wanted, pages, &mut tally)?;
    }
    let mut shared_tally = Tally::default();
    let shared = drain_shared(pid, facts, writer, &mut shared_tally)?;
    stats.memdump_us = micros(begin);
    stats.memwrite_us = stats.memdump_us;
    (stats.pages_scanned, stats.pages_written, stats.page_pipes) =
        (tally.scanned, tally.written, tally.pipes);
    (stats.shared_pages_scanned, stats.shared_pages_written) =
        (shared_tally.scanned, shared_tally.written);
    Ok(Drained {
        private: pages.take_runs(),
        shared,
    })
}

/// Writes shared anonymous memory and memfds, each to its page file.
fn drain_shared(
    pid: Pid,
    facts: &Facts,
    writer: &mut ImageWriter,
    tally: &mut Tally,
) -> Result<Vec<SharedMemory>, Error> {
    let mut all = Vec::new();
    let opened = |path: &str| {
        std::fs::File::open(path).map_err(|source| memory::Error::Read {
            pid: pid.0,
            start: 0,
            pages: 0,
            source,
        })
    };
    for segment in &facts.segments {
        let [start, end] = segment.range;
        let file = opened(&format!("/proc/{}/map_files/{start:x}-{end:x}", pid.0))?;
        all.push((segment.id, file));
    }
    for memfd in &facts.files.memfds {
        if let Some(own) = facts.files.memfd_content(memfd.shmid) {
            use std::os::fd::AsRawFd;
            // A descriptor for writing alone cannot be read; its file can.
            all.push((
                memfd.shmid,
                opened(&format!("/proc/self/fd/{}", own.as_raw_fd()))?,
            ));
        }
    }
    let mut shared = Vec::new();
    for (index, (id, file)) in all.into_iter().enumerate() {
        let size = sys::file::statx(&file).map_err(Error::Own)?.size;
        let pages_id = index as u32 + 2;
        let mut output = PageOutput::new(writer.pages_file(pages_id)?, pages_id);
        memory::shared::copy(pid.0, &file, size, &mut output, tally)?;
        shared.push(SharedMemory {
            id,
            size,
            pages: output.take_runs(),
        });
    }
    Ok(shared)
}

/// Puts the parts together.
fn assemble(facts: Facts, origin: Origin, drained: Drained) -> Snapshot {
    let Facts {
        mut task,
        mut files,
        pipes,
        ..
    } = facts;
    files.add_build_ids();
    if let Some(mm) = &mut task.mm {
        mm.pages = drained.private;
    }
    Snapshot {
        origin,
        tasks: vec![task],
        pipes,
        files: files.files,
        memfds: files.memfds,
        terminals: files.terminals,
        shared: drained.shared,
    }
}
