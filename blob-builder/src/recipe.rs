//! How the blobs are compiled: a cargo inside of cargo, with flags that are ours alone.
//!
//! The outer cargo's environment is full of what must not reach a blob: `RUSTFLAGS` of a coverage run, clippy's driver in
//! the place of the compiler, a profile override, the target folder whose lock the outer cargo holds. So everything of
//! cargo's is taken out of the child's environment, but for what is about reaching registries and about the terminal.

use crate::{BLOBS, Error, Spec};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The only target with blobs so far.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Flags of the compiler; `docs/blobs.md` says why for each. Paths come on top.
const RUSTFLAGS: [&str; 9] = [
    "-Crelocation-model=pie",
    "-Crelro-level=off",
    "-Cno-redzone=yes",
    "-Cforce-unwind-tables=no",
    "-Cno-vectorize-loops",
    "-Cno-vectorize-slp",
    "-Ctarget-cpu=x86-64",
    "-Csymbol-mangling-version=v0",
    "-Clinker-flavor=ld.lld",
];

/// Compiles and links all blobs of the workspace in `target_dir`.
pub fn build(workspace: &Path, target_dir: &Path) -> Result<(), Error> {
    let workspace = workspace.canonicalize().map_err(|source| Error::File {
        path: workspace.into(),
        source,
    })?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for (name, _) in std::env::vars_os() {
        if !is_inherited(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
        .current_dir(&workspace)
        .env("CARGO_ENCODED_RUSTFLAGS", encoded_rustflags(&workspace)?)
        // Empty is "none", also where the user's configuration names one.
        .env("RUSTC_WRAPPER", "")
        .env("RUSTC_WORKSPACE_WRAPPER", "")
        .args([
            "build",
            "--quiet",
            "--locked",
            "--bins",
            "--profile",
            "blob",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(target_dir);
    for spec in BLOBS {
        command
            .args(["--package", spec.package, "--features"])
            .arg(format!("{}/blob", spec.package));
    }
    run(command).map(drop)
}

/// Returns where [`build`] leaves a blob.
pub fn artifact(target_dir: &Path, spec: &Spec) -> PathBuf {
    target_dir.join(TARGET).join("blob").join(spec.package)
}

/// Returns whether the child sees this variable of our environment.
fn is_inherited(name: &str) -> bool {
    const KEPT: [&str; 9] = [
        "CARGO_HOME",
        "CARGO_MAKEFLAGS",
        "CARGO_BUILD_JOBS",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "CARGO_CREDENTIAL_",
    ];
    const OF_BUILD_SCRIPTS: [&str; 7] = [
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
        "OUT_DIR",
    ];
    let foreign = name.starts_with("CARGO")
        || name.starts_with("RUSTC_")
        || name.starts_with("CLIPPY_")
        || name.starts_with("DEP_")
        || ["RUSTFLAGS", "RUSTDOCFLAGS"].contains(&name)
        || OF_BUILD_SCRIPTS.contains(&name);
    !foreign || KEPT.iter().any(|kept| name.starts_with(kept))
}

/// Returns the compiler's flags as `CARGO_ENCODED_RUSTFLAGS` wants them: they replace any of the user's configuration.
fn encoded_rustflags(workspace: &Path) -> Result<OsString, Error> {
    let mut flags = OsString::from(RUSTFLAGS.join("\x1f"));
    let mut add = |prefix: &str, path: &Path, suffix: &str| {
        flags.push("\x1f");
        flags.push(prefix);
        flags.push(path);
        flags.push(suffix);
    };
    add("-Clinker=", &linker()?, "");
    // Where the sources lie must not be seen in the result, so that it can be compared between machines.
    add("--remap-path-prefix=", workspace, "=/src");
    if let Some(home) = cargo_home() {
        add("--remap-path-prefix=", &home, "=/cargo");
    }
    Ok(flags)
}

fn cargo_home() -> Option<PathBuf> {
    let default = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(default)
}

/// Returns the linker of the toolchain: the scripts rely on lld's reading of them, and a system may have no linker.
fn linker() -> Result<PathBuf, Error> {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--print", "sysroot", "--print", "host-tuple"]);
    let output = run(command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let sysroot = Path::new(lines.next().unwrap_or_default());
    let host = lines.next().unwrap_or_default();
    let linker = sysroot.join("lib/rustlib").join(host).join("bin/rust-lld");
    if linker.is_file() {
        Ok(linker)
    } else {
        Err(Error::NoLinker(linker))
    }
}

fn run(mut command: Command) -> Result<Output, Error> {
    let tool = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(output),
        Ok(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(Error::Failed { tool, stderr })
        }
        Err(source) => Err(Error::Tool { tool, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_build_does_not_reach_into_the_blobs() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER",
            "CARGO_PROFILE_BLOB_OPT_LEVEL",
            "CARGO_INCREMENTAL",
            "CARGO_MANIFEST_DIR",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC_BOOTSTRAP",
            "CLIPPY_ARGS",
            "OUT_DIR",
        ] {
            assert!(!is_inherited(name), "{name}");
        }
    }

    #[test]
    fn registries_and_the_toolchain_stay_reachable() {
        for name in [
            "PATH",
            "HOME",
            "RUSTC",
            "RUSTUP_TOOLCHAIN",
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_MIRROR_INDEX",
            "CARGO_REGISTRY_DEFAULT",
            "CARGO_HTTP_PROXY",
            "CARGO_MAKEFLAGS",
        ] {
            assert!(is_inherited(name), "{name}");
        }
    }
}
