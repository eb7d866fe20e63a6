//! The whole of the orchestrator's build script.

use crate::{Error, PREBUILT_DIR, build, emit, prebuilt};
use std::path::{Path, PathBuf};

/// Everything that the blobs are made from, relative to the workspace.
const SOURCES: [&str; 7] = [
    "parasite",
    "restorer-blob",
    "arch",
    "linker-scripts",
    "blob-builder",
    "Cargo.toml",
    "Cargo.lock",
];

/// Builds the blobs, or takes prebuilt ones, and writes them to cargo's `OUT_DIR`.
pub fn run(workspace: &Path) -> Result<(), Error> {
    let prebuilt_dir = std::env::var_os(PREBUILT_DIR).map(PathBuf::from);
    println!("cargo:rerun-if-env-changed={PREBUILT_DIR}");
    if let Some(dir) = &prebuilt_dir {
        println!("cargo:rerun-if-changed={}", dir.display());
    }
    for source in SOURCES {
        println!(
            "cargo:rerun-if-changed={}",
            workspace.join(source).display()
        );
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_else(|| ".".into()));
    let blobs = match prebuilt_dir {
        Some(dir) => prebuilt(&dir)?,
        None => build(workspace, &out.join("blob-build"))?,
    };
    emit::write(&blobs, &out)
}
