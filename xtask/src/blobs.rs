//! `cargo xtask blobs`: builds and audits the blobs into `target/blobs`, and prints what they are.

use anyhow::{Context, Result, bail};
use blob_builder::{Blob, build, emit};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

/// Builds the blobs; with `--check-reproducible`, also from a copy of the sources elsewhere.
pub fn run(args: &[String]) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask stands in the workspace")?;
    let check = match args {
        [] => false,
        [flag] if flag == "--check-reproducible" => true,
        _ => bail!("usage: cargo xtask blobs [--check-reproducible]"),
    };
    let out = workspace.join("target/blobs");
    let blobs = build(workspace, &out.join("build"))?;
    emit::write(&blobs, &out)?;
    for blob in &blobs {
        println!("{blob}\n  sha256      {}\n", sha256(&blob.image.bytes));
    }
    println!("written to {}", out.display());
    if check {
        check_reproducible(workspace, &blobs)?;
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Builds again from a copy of the sources whose path differs and has a space, and compares ELF and image.
fn check_reproducible(workspace: &Path, blobs: &[Blob]) -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let copy = temporary.path().join("another checkout");
    copy_sources(workspace, &copy)?;
    let again = build(&copy, &copy.join("build"))?;
    for (one, other) in blobs.iter().zip(&again) {
        if one.elf != other.elf || one.image != other.image {
            bail!(
                "the {} blob differs when it is built in {}",
                one.spec.name,
                copy.display()
            );
        }
    }
    println!("the same, ELF and image, from {}", copy.display());
    Ok(())
}

/// Copies the sources: all of the tree but what builds and git left there.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_name() == "target" || entry.file_name() == ".git" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy_sources(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| entry.path().display().to_string())?;
        }
    }
    Ok(())
}
