//! `cargo xtask proto [--check]`: makes the records' Rust types from the schemas, or says whether they are up to date.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Makes `proto/src/pb.rs` from `proto/schema`.
pub fn run(args: &[String]) -> Result<()> {
    let check = match args {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("usage: cargo xtask proto [--check]"),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let schema = root.join("schema");
    let target = root.join("src/pb.rs");
    let made = generate(&schema)?;
    if !check {
        return fs::write(&target, made)
            .with_context(|| format!("cannot write {}", target.display()));
    }
    let present =
        fs::read_to_string(&target).with_context(|| format!("cannot read {}", target.display()))?;
    if present != made {
        bail!("proto/src/pb.rs is not what the schemas make: run cargo xtask proto");
    }
    Ok(())
}

fn generate(schema: &Path) -> Result<String> {
    let descriptors = protox::compile(files(schema)?, [schema])?;
    let out = tempfile::tempdir()?;
    prost_build::Config::new()
        .out_dir(out.path())
        // Of a process with many areas few have it.
        .boxed("vma_entry.ext")
        .compile_fds(descriptors)?;
    Ok(fs::read_to_string(out.path().join("pb.rs"))?)
}

fn files(schema: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(schema)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
