//! The sample program: compiled, started alone, and always ended.

use anyhow::{Context as _, Result, bail, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for the sample program.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a command in a session of its own, without the descriptors that a caller may have left open: the pipe of a
/// terminal's or an editor's making would be refused.
const ALONE: &str = r#"
for path in /proc/$$/fd/*; do
    fd=${path##*/}
    [ "$fd" -le 2 ] || eval "exec $fd>&-"
done
exec setsid "$@"
"#;

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"))
}

/// Builds the orchestrator and returns its path.
///
/// # Errors
/// It does not build.
pub fn build_orchestrator() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", "orchestrator"])
        .current_dir(workspace())
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "the orchestrator does not build");
    Ok(target().join("release/orchestrator"))
}

/// The folder that builds go to.
pub fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    workspace().join(target)
}

/// Fails unless this is root: others may neither look into processes nor choose process ids.
///
/// # Errors
/// This is not root.
pub fn need_root() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").context("no /proc")?;
    ensure!(
        status.contains("\nUid:\t0\t0"),
        "this needs root: sudo -E cargo xtask …"
    );
    Ok(())
}

/// Compiles `xtask/src/NAME.c` into `folder`.
///
/// # Errors
/// No C compiler, or no static C library.
pub fn compile(folder: &Path, name: &str) -> Result<PathBuf> {
    let binary = folder.join(name);
    let source = workspace().join(format!("xtask/src/{name}.c"));
    let status = Command::new("cc")
        .args(["-O2", "-static", "-pthread", "-o"])
        .arg(&binary)
        .arg(source)
        .status()
        .context("no C compiler `cc` (Debian: apt-get install gcc libc6-dev)")?;
    ensure!(
        status.success(),
        "{name}.c does not compile: is the static C library there? (Debian: apt-get install libc6-dev)"
    );
    Ok(binary)
}

/// A running sample program.
#[derive(Debug)]
pub struct Sample {
    /// Its process id, also after a restore.
    pub pid: u32,
    child: Option<Child>,
    output: PathBuf,
}

impl Sample {
    /// Starts it with its output in `folder`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(binary: &Path, folder: &Path, args: &[&str]) -> Result<Self> {
        // A restored one becomes our child, so that it can be collected: not every init does that.
        nix::sys::prctl::set_child_subreaper(true).context("cannot become a subreaper")?;
        let output = folder.join("output");
        let log = File::create(&output).context("cannot make the output")?;
        let child = Command::new("bash")
            .args(["-c", ALONE, "bash"])
            .arg(binary)
            .arg(&output)
            .args(args)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start bash (the demo needs bash and setsid)")?;
        let sample = Self {
            pid: child.id(),
            child: Some(child),
            output,
        };
        sample.wait_for("the sample program to begin", |text| !text.is_empty())?;
        ensure!(
            sample.lives(),
            "the sample program does not begin: {}",
            sample.text()
        );
        Ok(sample)
    }

    /// Returns what it has written.
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Waits until what it has written is as wanted, and returns that.
    ///
    /// # Errors
    /// It does not come to pass.
    pub fn wait_for(&self, what: &str, done: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if done(&text) {
                return Ok(text);
            }
            if Instant::now() > deadline {
                bail!("waited in vain for {what}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        if self.lives() {
            let _ = Command::new("kill")
                .args(["-s", name, &self.pid.to_string()])
                .stderr(Stdio::null())
                .status();
        }
    }

    /// Collects our child that has been killed, so that its process id is free.
    pub fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Returns whether its process id is that of a process that writes to our output.
    pub fn lives(&self) -> bool {
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{}/fd", self.pid)) else {
            return false;
        };
        descriptors
            .flatten()
            .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|path| path == self.output))
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        if self.lives() {
            self.signal("KILL");
            // A restored one; our own child is collected below.
            if self.child.is_none() {
                let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(self.pid as i32), None);
            }
        }
        self.reap();
    }
}
