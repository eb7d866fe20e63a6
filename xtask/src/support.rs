//! `cargo xtask support [--check]`: writes what is kept and what is not, as the code has it, to `docs/support.md` and into
//! README between its markers, or says whether they are up to date.

use anyhow::{Context, Result, bail};
use orchestrator::support;
use std::fs;
use std::path::Path;

/// Where README's table begins and ends.
const MARKERS: [&str; 2] = ["<!-- support:begin -->", "<!-- support:end -->"];

/// Writes or checks both files.
pub fn run(args: &[String]) -> Result<()> {
    let check = match args {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("usage: cargo xtask support [--check]"),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    settle(&root.join("docs/support.md"), &support::document(), check)?;
    let readme = root.join("README.md");
    match fs::read_to_string(&readme) {
        Ok(text) => settle(&readme, &with_table(&text)?, check),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| readme.display().to_string()),
    }
}

/// Returns README with the table in its place.
fn with_table(text: &str) -> Result<String> {
    let [begin, end] = MARKERS;
    let (head, rest) = text
        .split_once(begin)
        .context("README.md has no place for the table")?;
    let (_, tail) = rest
        .split_once(end)
        .context("README.md has no end of the table")?;
    Ok(format!("{head}{begin}\n{}{end}{tail}", support::summary()))
}

fn settle(path: &Path, wanted: &str, check: bool) -> Result<()> {
    let name = path.display();
    if !check {
        return fs::write(path, wanted).with_context(|| format!("cannot write {name}"));
    }
    if fs::read_to_string(path).unwrap_or_default() != wanted {
        bail!("{name} is not what the table of the code says: run cargo xtask support");
    }
    Ok(())
}
