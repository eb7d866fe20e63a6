//! Builds the blobs from source, audits them, and writes them as flat images with a Rust source that describes them.
//!
//! A blob is code that runs inside of somebody else's process, before or after that process has a loader, a C library or
//! even memory of its own. What an ordinary program may take for granted (relocation, thread-local storage, a signal
//! handler) is a crash of the target there, so what the compiler made is read back and refused unless it is as it must
//! be. `docs/blobs.md` tells the whole story; it is used by the orchestrator's build script and by `cargo xtask blobs`.

pub mod audit;
pub mod build_script;
pub mod emit;
pub mod image;
mod recipe;
pub mod report;

use audit::Refusal;
use image::Image;
use report::Report;
use std::path::{Path, PathBuf};

/// Environment variable that names a folder with `parasite.elf` and `restorer.elf`, built before by `cargo xtask blobs`,
/// to be taken instead of building them. They are audited all the same.
pub const PREBUILT_DIR: &str = "CRR_BLOB_DIR";

/// What is particular about one blob.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name of its files, its module and, in capitals, its constant.
    pub name: &'static str,
    /// Name of its package and of the package's binary.
    pub package: &'static str,
    /// Most bytes of memory that it may take: every injection writes and maps it.
    pub budget: usize,
    /// Whether it may make the tile registers usable.
    pub tiles: Tiles,
}

/// Whether a blob may hold the instructions that make AMX tile registers usable (`ldtilecfg`, `tilezero`, `tilerelease`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiles {
    /// No instruction of AMX.
    Refused,
    /// These three: a thread's tile state can only be restored into a thread that has used tiles.
    Configure,
}

/// The blob of dumps.
pub const PARASITE: Spec = Spec {
    name: "parasite",
    package: "parasite",
    budget: 16 * 1024,
    tiles: Tiles::Refused,
};

/// The blob of restores.
pub const RESTORER: Spec = Spec {
    name: "restorer",
    package: "restorer-blob",
    budget: 16 * 1024,
    tiles: Tiles::Configure,
};

/// All blobs.
pub const BLOBS: [&Spec; 2] = [&PARASITE, &RESTORER];

/// A blob that has passed the audit.
#[derive(Debug)]
pub struct Blob {
    /// Which one.
    pub spec: &'static Spec,
    /// The linker's output.
    pub elf: Vec<u8>,
    /// What is mapped.
    pub image: Image,
    /// What the audit saw.
    pub report: Report,
}

/// Why there is no blob.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A tool cannot be started.
    #[error("cannot run {tool}")]
    Tool {
        /// Its path.
        tool: String,
        /// Why.
        source: std::io::Error,
    },
    /// A tool has failed.
    #[error("{tool} failed:\n{stderr}")]
    Failed {
        /// Its path.
        tool: String,
        /// What it said.
        stderr: String,
    },
    /// The toolchain came without the linker that the scripts are written for.
    #[error(
        "no rust-lld at {}; install the toolchain with rustup, or name a folder of prebuilt blobs by {PREBUILT_DIR}",
        .0.display()
    )]
    NoLinker(PathBuf),
    /// The blob is not as it must be.
    #[error("the {blob} blob is refused")]
    Refused {
        /// Its name.
        blob: &'static str,
        /// Why.
        source: Refusal,
    },
}

/// Builds all blobs of the workspace in `target_dir`, and audits them.
pub fn build(workspace: &Path, target_dir: &Path) -> Result<Vec<Blob>, Error> {
    recipe::build(workspace, target_dir)?;
    BLOBS
        .map(|spec| load(spec, &recipe::artifact(target_dir, spec)))
        .into_iter()
        .collect()
}

/// Audits all blobs of a folder of prebuilt ones.
pub fn prebuilt(dir: &Path) -> Result<Vec<Blob>, Error> {
    BLOBS
        .map(|spec| load(spec, &dir.join(spec.name).with_extension("elf")))
        .into_iter()
        .collect()
}

fn load(spec: &'static Spec, path: &Path) -> Result<Blob, Error> {
    let elf = std::fs::read(path).map_err(|source| Error::File {
        path: path.into(),
        source,
    })?;
    let (image, report) = audit::audit(spec, &elf).map_err(|source| Error::Refused {
        blob: spec.name,
        source,
    })?;
    Ok(Blob {
        spec,
        elf,
        image,
        report,
    })
}
