//! `cargo xtask vm KERNEL [--kvm] [-- COMMAND]`: boots another kernel in qemu, over the files of this machine, and runs a command
//! there as root. What the command writes is gone afterwards. The machine is emulated, and times measured there mean nothing;
//! `--kvm` has this machine's processors run it, which not every virtual machine can that has a `/dev/kvm`.
//!
//! Kernels are Debian's packages, fetched from the mirror that this machine uses, without a change to what apt knows or has
//! installed. The guest has a first program of ours (`vm_init.c`) and the few modules that it needs.

mod archive;
mod kernels;

use crate::sample;
use anyhow::{Context as _, Result, bail, ensure};
use kernels::Kernel;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the guest's first program says at the end.
const STATUS: &str = "guest: status ";
/// qemu's emulation, a thread for each processor.
const EMULATED: &str = "tcg,thread=multi,tb-size=512";
/// Memory of the guest.
const MEMORY: &str = "3072";
/// What the guest needs: the host's files, and what tests look at.
const MODULES: [&str; 17] = [
    "crc32c_generic",
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "unix_diag",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "netlink_diag",
    "af_packet_diag",
    "tun",
    "veth",
    "nf_tables",
    "ext4",
    "loop",
    "fuse",
];

/// Boots the kernel that the first argument names, and runs what follows `--`; the tests of dirty tracking where there is nothing.
///
/// # Errors
/// What is missing, or that the command failed.
pub fn run(args: &[String]) -> Result<()> {
    let (options, command) = match args.iter().position(|arg| arg == "--") {
        Some(at) => (&args[..at], Some(args[at + 1..].join(" "))),
        None => (args, None),
    };
    let (name, accelerator) = match options {
        [name] => (name, EMULATED),
        [name, kvm] if kvm == "--kvm" => (name, "kvm"),
        _ => bail!(
            "usage: cargo xtask vm KERNEL [--kvm] [-- COMMAND]; kernels: {}",
            kernels::names()
        ),
    };
    let kernel = Kernel::named(name)?;
    let command = match command {
        Some(command) => command,
        None => tracking_tests()?,
    };
    let folder = sample::target().join("vm");
    let fetched = kernels::fetch(kernel, &folder)?;
    let initramfs = folder.join(format!("{}.cpio", kernel.name));
    make_initramfs(&fetched.modules, &command, &initramfs)?;
    let status = boot(&fetched.image, &initramfs, accelerator)?;
    ensure!(
        status == 0,
        "the command ended with status {status} on {name}"
    );
    Ok(())
}

/// Builds the tests of dirty tracking, and returns the command that runs them. The guest has its temporary files in memory: kernels
/// before 6.2 do not open what is mapped from an overlay.
fn tracking_tests() -> Result<String> {
    let orchestrator = sample::build_orchestrator()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "test",
            "--package",
            "integration-tests",
            "--test",
            "rounds",
            "--no-run",
        ])
        .current_dir(sample::workspace())
        .stderr(Stdio::piped())
        .output()
        .context("cannot start cargo")?;
    let words = String::from_utf8_lossy(&built.stderr);
    ensure!(built.status.success(), "the tests cannot be built: {words}");
    let test = words
        .rsplit_once('(')
        .and_then(|(_, rest)| rest.split_once(')'));
    let (test, _) = test.context("cargo does not say where the tests are")?;
    Ok(format!(
        "cd {}/tests; uname -r; export TMPDIR=/dev/shm ORCHESTRATOR={}; {} --test-threads 1",
        sample::workspace().canonicalize()?.display(),
        orchestrator.canonicalize()?.display(),
        sample::workspace().join(test).canonicalize()?.display(),
    ))
}

fn make_initramfs(modules: &Path, command: &str, path: &Path) -> Result<()> {
    let source = sample::workspace().join("xtask/src/vm_init.c");
    let init = path.with_extension("init");
    let compiled = Command::new("cc")
        .args(["-O1", "-static", "-o"])
        .args([&init, &source])
        .status()
        .context("no cc")?;
    ensure!(
        compiled.success(),
        "cc cannot link statically: a static libc is needed"
    );
    let mut archive = archive::Archive::default();
    archive.folder("modules");
    archive.file("init", 0o755, &std::fs::read(&init)?);
    archive.file("command", 0o644, command.as_bytes());
    let mut order = String::new();
    for (name, bytes) in kernels::with_dependencies(modules, &MODULES)? {
        let place = format!("modules/{name}.ko");
        archive.file(&place, 0o644, &bytes);
        order += &format!("/{place}\n");
    }
    archive.file("modules/order", 0o644, order.as_bytes());
    // Standard input and output of the first program.
    archive.folder("dev");
    archive.device("dev/console", (5, 1));
    let mut file = File::create(path)?;
    file.write_all(&archive.finish())?;
    Ok(())
}

/// Runs the machine, shows what it says, and returns the status of the command.
fn boot(image: &Path, initramfs: &Path, accelerator: &str) -> Result<i32> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", accelerator, "-cpu", "max"])
        .args([
            "-smp",
            "2",
            "-m",
            MEMORY,
            "-nodefaults",
            "-no-user-config",
            "-nographic",
        ])
        .args(["-serial", "stdio", "-no-reboot"])
        .args([
            "-fsdev",
            "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
        ])
        .args(["-device", "virtio-9p-pci,fsdev=root,mount_tag=root"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = qemu
        .spawn()
        .context("cannot start qemu-system-x86_64 (Debian: qemu-system-x86)")?;
    let output = child.stdout.take().context("no output")?;
    let mut status = None;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        println!("{line}");
        if let Some(number) = line.strip_prefix(STATUS) {
            status = number.parse().ok();
        }
    }
    child.wait()?;
    status.context("the guest ended without a word: did it boot?")
}

/// Returns the first path below a folder that a function accepts.
fn find(folder: &Path, is_it: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    let here = entries.iter().find(|path| is_it(path)).cloned();
    here.or_else(|| {
        let folders = entries
            .iter()
            .filter(|path| path.is_dir() && !path.is_symlink());
        folders.into_iter().find_map(|path| find(path, is_it))
    })
}
