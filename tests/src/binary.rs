//! Finds the binary under test: the one that `ORCHESTRATOR` names, or the one of this build, which it brings up to date.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns the path of the binary under test.
///
/// Cargo gives the path of a binary (`CARGO_BIN_EXE_…`) only to tests of the same package.
pub fn orchestrator() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("ORCHESTRATOR") {
        Some(path) => path.into(),
        None => build(),
    })
}

/// Builds it with the profile of this test: its executable is `TARGET/PROFILE/deps/NAME-HASH`.
fn build() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this test");
    let profile = this
        .ancestors()
        .nth(2)
        .expect("the folder of the profile")
        .to_owned();
    let target = profile.parent().expect("the target folder");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--package", "orchestrator"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cargo can be started");
    assert!(
        status.success(),
        "cargo build of the orchestrator: {status}"
    );
    profile.join("orchestrator")
}
