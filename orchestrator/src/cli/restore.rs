//! `orchestrator restore`.

use super::args::RestoreArgs;
use super::log::work_dir;
use super::say;
use crate::image;
use crate::restore::{Network, Options, plan_only, restore_images};
use crate::stages::Stages;
use crate::sys::{Pid, signal, wait};
use anyhow::Context as _;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Restores as the options say. In the foreground it waits and ends with the status of what it restored.
///
/// # Errors
/// Whatever stands in the way; nothing is left behind then.
pub fn run(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    args.permissions.check_external()?;
    let stream = args.stream.map(receive).transpose()?;
    let dir = match &stream {
        // The folder in memory has no other name.
        Some(folder) => &PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())),
        None => &args.common.images_dir,
    };
    let waits = !args.restore_detached && !args.restore_sibling && !args.exec_cmd;
    if args.exec_cmd {
        check_command(args)?;
    }
    let options = Options {
        inherited: args.outside.inherit_fd.clone(),
        stages: Stages::new(&args.outside.action_script, dir),
        sibling: args.restore_sibling,
        detached: args.restore_detached && !args.exec_cmd,
        host_clocks: args.host_clocks,
        shell_job: args.common.shell_job,
        foreground: waits,
        leave_stopped: args.leave_stopped,
        tcp_established: args.permissions.tcp_established,
        outer_links: args
            .permissions
            .external
            .iter()
            .filter_map(|one| one.outer_link())
            .collect(),
        network: match &args.permissions.namespaces.join_ns {
            Some(path) => Network::Joined(path.clone()),
            None if args.permissions.namespaces.is_network_empty() => Network::Empty,
            None => Network::AsDumped,
        },
        tcp_close: args.permissions.tcp_close,
        dedup: args.auto_dedup,
        lazy: args
            .lazy_pages
            .then(|| work_dir(&args.common).to_path_buf()),
        map_images: args.map_images,
    };
    if args.plan {
        say::line(format_args!("{}", plan_only(dir, &options)?));
        return Ok(ExitCode::SUCCESS);
    }
    let pidfile = args
        .pidfile
        .as_ref()
        .map(|file| work_dir(&args.common).join(file));
    let is_new = pidfile.as_ref().is_some_and(|file| !file.exists());
    if let Some(file) = &pidfile {
        // Found out now: later there would be a process to take back.
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(file)
            .with_context(|| format!("cannot make the pid file {}", file.display()))?;
    }
    let restored = restore_images(dir, &options).inspect_err(|_| {
        if let Some(file) = pidfile.as_ref().filter(|_| is_new) {
            let _ = std::fs::remove_file(file);
        }
    })?;
    if let Some(file) = &pidfile {
        std::fs::write(file, restored.pid.0.to_string())
            .with_context(|| format!("cannot write the pid file {}", file.display()))?;
    }
    drop(stream);
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
        let mapped = restored.mapped;
        say::line(format_args!(
            "Pages mapped: {} in {} areas, {} used before",
            mapped.pages, mapped.areas, mapped.prefetched
        ));
    }
    tracing::info!("Restore finished successfully. Tasks resumed.");
    match (args.exec_cmd, args.cmd.split_first()) {
        (true, Some((program, rest))) => {
            let error = Command::new(program).args(rest).exec();
            // It was there before the restore: nobody waits for the tree now.
            let _ = signal::kill(restored.pid, libc::SIGKILL);
            Err(error).with_context(|| format!("cannot run {}", program.to_string_lossy()))
        }
        (true, None) => anyhow::bail!("--exec-cmd: no command after --"),
        (false, _) if waits => Ok(wait_for(restored.pid)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Looks whether the command of --exec-cmd can be run, before there is a tree that it is for.
fn check_command(args: &RestoreArgs) -> anyhow::Result<()> {
    let Some(program) = args.cmd.first() else {
        anyhow::bail!("--exec-cmd: no command after --");
    };
    let search = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = match Path::new(program).components().count() {
        1 => std::env::split_paths(&search)
            .map(|folder| folder.join(program))
            .collect(),
        _ => vec![program.into()],
    };
    let can_run = |path: &PathBuf| {
        let meta = std::fs::metadata(path);
        meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if !places.iter().any(can_run) {
        anyhow::bail!(
            "--exec-cmd: cannot run {}: there is no such program",
            program.to_string_lossy()
        );
    }
    Ok(())
}

/// Takes an image set from a descriptor, into memory.
fn receive(fd: i32) -> anyhow::Result<OwnedFd> {
    let from = crate::sys::fd::inherited(fd)
        .with_context(|| format!("cannot read a stream from descriptor {fd}"))?;
    let from = BufReader::with_capacity(1 << 20, File::from(from));
    Ok(image::receive(from)?)
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
