//! `orchestrator restore`.

use super::args::RestoreArgs;
use super::log::work_dir;
use super::say;
use crate::image;
use crate::restore::{Options, plan_only, restore_images};
use crate::sys::{Pid, signal, wait};
use anyhow::Context as _;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Restores as the options say. In the foreground it waits and ends with the status of what it restored.
///
/// # Errors
/// Whatever stands in the way; nothing is left behind then.
pub fn run(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let dir = &args.common.images_dir;
    let waits = !args.restore_detached && !args.restore_sibling && !args.exec_cmd;
    let options = Options {
        sibling: args.restore_sibling,
        detached: args.restore_detached && !args.exec_cmd,
        host_clocks: args.host_clocks,
        shell_job: args.common.shell_job,
        foreground: waits,
        leave_stopped: args.leave_stopped,
    };
    if args.plan {
        say::line(format_args!("{}", plan_only(dir, &options)?));
        return Ok(ExitCode::SUCCESS);
    }
    let pidfile = args
        .pidfile
        .as_ref()
        .map(|file| work_dir(&args.common).join(file));
    if let Some(file) = &pidfile {
        // Found out now: later there would be a process to take back.
        std::fs::File::create(file)
            .with_context(|| format!("cannot make the pid file {}", file.display()))?;
    }
    let restored = restore_images(dir, &options).inspect_err(|_| {
        if let Some(file) = &pidfile {
            let _ = std::fs::remove_file(file);
        }
    })?;
    if let Some(file) = &pidfile {
        std::fs::write(file, restored.pid.0.to_string())
            .with_context(|| format!("cannot write the pid file {}", file.display()))?;
    }
    for words in &restored.not_kept {
        tracing::warn!("not kept: {words}");
    }
    if let Err(error) = image::write_restore_stats(work_dir(&args.common), &restored.stats) {
        tracing::warn!("no statistics: {error}");
    }
    if args.common.display_stats {
        say::line(format_args!("Displaying restore stats:"));
        say::line(format_args!(
            "Restore time: {} us",
            restored.stats.restore_us
        ));
        say::line(format_args!(
            "Pages restored: {}",
            restored.stats.pages_restored
        ));
    }
    tracing::info!("Restore finished successfully. Tasks resumed.");
    match (args.exec_cmd, args.cmd.split_first()) {
        (true, Some((program, rest))) => {
            let error = Command::new(program).args(rest).exec();
            Err(error).with_context(|| format!("cannot run {}", program.to_string_lossy()))
        }
        (true, None) => anyhow::bail!("--exec-cmd: no command after --"),
        (false, _) if waits => Ok(wait_for(restored.pid)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Waits for the restored process and returns its status as a shell tells it; killed by a signal, so are we.
fn wait_for(pid: Pid) -> ExitCode {
    loop {
        match wait::wait_tid(pid.leader()) {
            Ok(wait::WaitStatus::Exited(status)) => return ExitCode::from(status as u8),
            Ok(wait::WaitStatus::Signaled(by)) => {
                let _ = signal::kill(Pid::this(), by);
                return ExitCode::from(128u8.wrapping_add(by as u8));
            }
            Ok(_) => {}
            Err(error) if error.errno as i32 == libc::EINTR => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
}
