//! The log: to a file in the work folder, or to standard error.

use super::args::CommonArgs;
use super::say::{self, Willing};
use anyhow::Context as _;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Returns the folder of logs and pid files.
pub fn work_dir(args: &CommonArgs) -> &Path {
    args.work_dir.as_deref().unwrap_or(&args.images_dir)
}

/// Starts logging as the options say.
///
/// # Errors
/// A log file that cannot be made.
pub fn start(args: &CommonArgs) -> anyhow::Result<()> {
    let level = match args.verbosity.parse::<u32>() {
        Ok(0) => LevelFilter::OFF,
        Ok(1) => LevelFilter::ERROR,
        Ok(2) => LevelFilter::WARN,
        Ok(3) => LevelFilter::INFO,
        Ok(_) => LevelFilter::DEBUG,
        Err(_) => anyhow::bail!(
            "--verbosity {:?}: a number from 0 to 4 is wanted",
            args.verbosity
        ),
    };
    if let Some(dir) = args.work_dir.as_ref().filter(|dir| !dir.is_dir()) {
        anyhow::bail!(
            "--work-dir {}: there is no such folder; make it first",
            dir.display()
        );
    }
    let format = Lines {
        begin: Instant::now(),
        pid: args.log_pid.then(std::process::id),
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .event_format(format);
    match &args.log_file {
        None => builder.with_writer(|| Willing(std::io::stderr())).init(),
        Some(name) => {
            let path: PathBuf = work_dir(args).join(name);
            let file = File::create(&path)
                .with_context(|| format!("cannot make the log file {}", path.display()))?;
            let file = Arc::new(LogFile::new(file, &path));
            file.begin(level)
                .with_context(|| format!("cannot write to the log file {}", path.display()))?;
            builder
                .with_writer(move || Willing(Shared(Arc::clone(&file))))
                .init();
        }
    }
    Ok(())
}

/// Says on standard error why the command failed, and in the log, in the form that callers of the peer look for.
pub fn failure(args: &CommonArgs, command: &str, words: &str) {
    let words = say::printable(words);
    if let Some(name) = &args.log_file {
        let path = work_dir(args).join(name);
        if let Ok(mut file) = std::fs::OpenOptions::new().append(true).open(path) {
            // The terminal has the line too; a log that cannot be written to must not hide it.
            let _ = writeln!(file, "Error (orchestrator): {command} failed: {words}");
        }
    }
    say::error(format_args!(
        "Error (orchestrator): {command} failed: {words}"
    ));
}

/// A log file. That it takes no more is said once; the work goes on, as it does where nobody listens.
#[derive(Debug)]
struct LogFile {
    file: File,
    path: PathBuf,
    is_lost: AtomicBool,
}

impl LogFile {
    fn new(file: File, path: &Path) -> Self {
        Self {
            file,
            path: path.into(),
            is_lost: AtomicBool::new(false),
        }
    }

    /// Writes who logs, so that a log that cannot be written is an error before anything is changed.
    fn begin(&self, level: LevelFilter) -> std::io::Result<()> {
        match level {
            LevelFilter::OFF => Ok(()),
            _ => writeln!(
                &self.file,
                "(00.000000) orchestrator {}",
                env!("CARGO_PKG_VERSION")
            ),
        }
    }
}

/// A log file as one of several writers.
#[derive(Debug)]
struct Shared(Arc<LogFile>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = (&self.0.file).write_all(bytes);
        if let Err(error) = &written
            && !self.0.is_lost.swap(true, Relaxed)
        {
            let path = self.0.path.display();
            say::error(format_args!(
                "Warn (orchestrator): cannot write to the log file {path}: {error}"
            ));
        }
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        (&self.0.file).flush()
    }
}

/// Lines of `(seconds) message`, as the peer's.
struct Lines {
    begin: Instant,
    pid: Option<u32>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let at = self.begin.elapsed();
        write!(out, "({:02}.{:06}) ", at.as_secs(), at.subsec_micros())?;
        if let Some(pid) = self.pid {
            write!(out, "{pid}: ")?;
        }
        match *event.metadata().level() {
            tracing::Level::ERROR => write!(out, "Error ({}): ", event.metadata().target())?,
            tracing::Level::WARN => write!(out, "Warn  ({}): ", event.metadata().target())?,
            _ => {}
        }
        ctx.field_format().format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}
