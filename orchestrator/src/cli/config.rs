//! Configuration files: options as lines of `name value`, `#` starts a comment.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Returns `args` with the options of the configuration files put in front of those given, so that the latter win.
/// `args` start with the program and the command.
///
/// # Errors
/// A file that `--config` names and that cannot be read.
pub fn expand(args: Vec<OsString>) -> io::Result<Vec<OsString>> {
    let mut options = Vec::new();
    if !args.iter().any(|arg| arg == "--no-default-config") {
        for file in default_files() {
            match std::fs::read(&file) {
                Ok(bytes) => options.extend(parse(&bytes)),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                    ) => {}
                Err(error) => return Err(about(&file, &error)),
            }
        }
    }
    if let Some(file) = named_file(&args) {
        options.extend(parse(
            &std::fs::read(&file).map_err(|error| about(&file, &error))?,
        ));
    }
    let mut all = args;
    let after_command = all.len().min(2);
    all.splice(after_command..after_command, options);
    Ok(all)
}

fn default_files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/orchestrator/default.conf")];
    if let Some(home) = std::env::var_os("HOME") {
        files.push(Path::new(&home).join(".config/orchestrator/default.conf"));
    }
    files
}

fn named_file(args: &[OsString]) -> Option<PathBuf> {
    args.iter().enumerate().find_map(|(index, arg)| {
        if arg == "--config" {
            return args.get(index + 1).map(PathBuf::from);
        }
        arg.to_str()?.strip_prefix("--config=").map(PathBuf::from)
    })
}

fn about(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("configuration file {}: {error}", file.display()),
    )
}

fn parse(bytes: &[u8]) -> Vec<OsString> {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(|line| line.split('#').next().unwrap_or("").trim())
        .filter(|line| !line.is_empty())
        .map(|line| match line.split_once(char::is_whitespace) {
            Some((name, value)) => format!("--{name}={}", value.trim().trim_matches('"')).into(),
            None => format!("--{line}").into(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_options_and_comments_go() {
        let options = parse(b"# all\nshell-job\n verbosity 4 # loud\nwork-dir \"/a b\"\n\n");
        assert_eq!(options, ["--shell-job", "--verbosity=4", "--work-dir=/a b"]);
    }

    #[test]
    fn options_of_a_file_come_before_those_given() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), "verbosity 4\n").expect("write");
        let config = format!("--config={}", file.path().display());
        let args = ["p", "dump", "7", "--no-default-config", &config]
            .map(OsString::from)
            .to_vec();
        let all = expand(args).expect("readable");
        assert_eq!(all[2], "--verbosity=4");
        assert_eq!(all[3], "7");
    }
}
