//! Debian's kernels: their packages fetched and unpacked into the target folder, and what of their modules is needed.

use super::find;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel that is known.
#[derive(Debug)]
pub struct Kernel {
    /// How it is asked for.
    pub name: &'static str,
    /// Name of the package with the image, as a regular expression: the newest of these is taken.
    package: &'static str,
    /// What to put for what in that name, for the package with the modules where that is another.
    modules: Option<(&'static str, &'static str)>,
}

const KERNELS: [Kernel; 3] = [
    Kernel {
        name: "6.1",
        package: r"^linux-image-6\.1\.0-[0-9]+-amd64$",
        modules: None,
    },
    Kernel {
        name: "6.12",
        package: r"^linux-image-6\.12\.[0-9]+\+deb12-amd64$",
        modules: None,
    },
    Kernel {
        name: "7",
        package: r"^linux-binary-7\.[0-9.]+\+deb13-amd64$",
        modules: Some(("binary", "modules")),
    },
];
/// Where they are: Debian's suites.
const SUITES: [&str; 4] = [
    "bookworm",
    "bookworm-backports",
    "trixie",
    "trixie-backports",
];
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Returns the names of all.
pub fn names() -> String {
    KERNELS.map(|kernel| kernel.name).join(", ")
}

impl Kernel {
    /// Returns the one of this name.
    pub fn named(name: &str) -> Result<&'static Kernel> {
        let found = KERNELS.iter().find(|kernel| kernel.name == name);
        found.with_context(|| format!("no kernel {name} is known; these are: {}", names()))
    }
}

/// A kernel that was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// The image.
    pub image: PathBuf,
    /// The folder of its modules.
    pub modules: PathBuf,
}

/// Fetches a kernel, unless that was done before.
pub fn fetch(kernel: &Kernel, folder: &Path) -> Result<Fetched> {
    let root = folder.join(kernel.name);
    if !root.is_dir() {
        let fresh = folder.join(format!("{}.new", kernel.name));
        let _ = std::fs::remove_dir_all(&fresh);
        std::fs::create_dir_all(&fresh)?;
        unpack(kernel, folder, &fresh)?;
        std::fs::rename(&fresh, &root)?;
    }
    let is_image = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("vmlinuz") && path.is_file()
    };
    let is_modules =
        |path: &Path| path.is_dir() && path.parent().is_some_and(|up| up.ends_with("lib/modules"));
    Ok(Fetched {
        image: find(&root, &is_image).context("the package has no image")?,
        modules: find(&root, &is_modules).context("the package has no modules")?,
    })
}

fn unpack(kernel: &Kernel, folder: &Path, root: &Path) -> Result<()> {
    let apt = Apt::prepare(&folder.join("apt"))?;
    let image = apt.newest(kernel.package)?;
    let modules = kernel.modules.map(|(from, to)| image.replacen(from, to, 1));
    for package in std::iter::once(image).chain(modules) {
        println!("fetching {package}");
        let before = debs(root)?;
        call(
            apt.command("apt-get")
                .args(["-q", "download", &package])
                .current_dir(root),
        )?;
        for deb in debs(root)?.difference(&before) {
            call(Command::new("dpkg-deb").arg("-x").arg(deb).arg(root))?;
            std::fs::remove_file(deb)?;
        }
    }
    Ok(())
}

fn debs(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let entries = std::fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path());
    Ok(entries
        .filter(|path| path.extension().is_some_and(|end| end == "deb"))
        .collect())
}

/// apt with lists of its own.
#[derive(Debug)]
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn prepare(folder: &Path) -> Result<Self> {
        for name in ["lists/partial", "parts", "cache/archives/partial"] {
            std::fs::create_dir_all(folder.join(name))?;
        }
        let targets = Command::new("apt-get")
            .args([
                "indextargets",
                "--format",
                "$(REPO_URI)",
                "Created-By: Packages",
            ])
            .output()
            .context("no apt-get: kernels are Debian's packages")?;
        let targets = String::from_utf8_lossy(&targets.stdout).into_owned();
        let mut mirrors = targets.lines().filter(|line| !line.contains("security"));
        let mirror = mirrors.next().unwrap_or("http://deb.debian.org/debian");
        let suites = SUITES.map(|suite| format!("deb [signed-by={KEYS}] {mirror} {suite} main\n"));
        let sources = folder.join("sources.list");
        std::fs::write(&sources, suites.concat())?;
        let at = |name: &str| {
            folder
                .join(name)
                .canonicalize()
                .map(|path| path.display().to_string())
        };
        let options = [
            ("Dir::Etc::sourcelist", at("sources.list")?),
            ("Dir::Etc::sourceparts", at("parts")?),
            ("Dir::State::lists", at("lists")?),
            ("Dir::Cache", at("cache")?),
            ("APT::Sandbox::User", "root".into()),
        ];
        let options = options.map(|(name, value)| format!("{name}={value}"));
        let apt = Self {
            options: options.to_vec(),
        };
        call(apt.command("apt-get").args(["-q", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    /// Returns the package with the highest number of those whose names match.
    fn newest(&self, pattern: &str) -> Result<String> {
        let found = self
            .command("apt-cache")
            .args(["search", "--names-only", pattern])
            .output()?;
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        let names = found
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        let newest = names.max_by_key(|name| numbers(name));
        newest
            .map(str::to_string)
            .with_context(|| format!("no package is named {pattern}"))
    }
}

fn numbers(name: &str) -> Vec<u64> {
    let parts = name.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

fn call(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Returns modules with all that they need, what is needed first. Those that a kernel has built in are left out.
pub fn with_dependencies(folder: &Path, names: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for name in names {
        add(folder, name, &mut all)?;
    }
    Ok(all)
}

fn add(folder: &Path, name: &str, all: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let name = name.replace('-', "_");
    if all.iter().any(|(known, _)| *known == name) {
        return Ok(());
    }
    let is_it = |path: &Path| {
        let file = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .replace('-', "_");
        file.strip_prefix(&name)
            .is_some_and(|end| matches!(end, ".ko" | ".ko.xz" | ".ko.zst"))
    };
    let Some(path) = find(folder, &is_it) else {
        return Ok(());
    };
    let bytes = match path.extension().and_then(|end| end.to_str()) {
        Some("xz") => plain("xz", &path)?,
        Some("zst") => plain("zstd", &path)?,
        _ => std::fs::read(&path)?,
    };
    for needed in needed(&bytes) {
        add(folder, &needed, all)?;
    }
    all.push((name, bytes));
    Ok(())
}

fn plain(program: &str, path: &Path) -> Result<Vec<u8>> {
    let output = Command::new(program).arg("-dcq").arg(path).output();
    let output = output.with_context(|| format!("no {program}"))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => bail!("{program} {}: {}", path.display(), output.status),
    }
}

/// Returns what a module says that it needs: the word `depends=` of its section `.modinfo`.
fn needed(module: &[u8]) -> Vec<String> {
    const WORD: &[u8] = b"\0depends=";
    let at = module.windows(WORD.len()).position(|window| window == WORD);
    let rest = at.map_or(&[][..], |at| &module[at + WORD.len()..]);
    let end = rest.iter().position(|&byte| byte == 0).unwrap_or(0);
    let words = String::from_utf8_lossy(&rest[..end]).into_owned();
    words
        .split(',')
        .filter(|word| !word.is_empty())
        .map(str::to_string)
        .collect()
}
