//! Values of options, and the peer's spellings.

use crate::external::Inherited;
use crate::wire::batches::{Packing, ZSTD_LEVEL};

pub(super) fn parse_pid(text: &str) -> Result<i32, String> {
    match text.parse::<i32>() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(format!(
            "{text:?} is no process id: a positive number is wanted"
        )),
    }
}

/// Looks whether there is such a descriptor before any of ours can have its number.
pub(super) fn parse_inherited(text: &str) -> Result<Inherited, String> {
    let inherited: Inherited = text.parse()?;
    match std::fs::symlink_metadata(format!("/proc/self/fd/{}", inherited.fd)) {
        Ok(_) => Ok(inherited),
        Err(_) => Err(format!("there is no descriptor {}", inherited.fd)),
    }
}

pub(super) fn parse_packing(text: &str) -> Result<Packing, String> {
    let wrong = || {
        format!("{text:?} is no way to compress: lz4 or zstd[:LEVEL] is wanted, LEVEL from 1 to 19")
    };
    match text.split_once(':') {
        None if text == "lz4" => Ok(Packing::Lz4),
        None if text == "zstd" => Ok(Packing::Zstd(ZSTD_LEVEL)),
        Some(("zstd", level)) => match level.parse() {
            Ok(level @ 1..=19) => Ok(Packing::Zstd(level)),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.chars().last() {
        Some('K' | 'k') => (&text[..text.len() - 1], 1 << 10),
        Some('M' | 'm') => (&text[..text.len() - 1], 1 << 20),
        Some('G' | 'g') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let size = digits.parse::<u64>().ok();
    let size = size.and_then(|size| size.checked_mul(unit));
    size.ok_or_else(|| format!("{text:?} is no size: a number is wanted, or one with K, M or G"))
}

/// Brings the peer's spellings of `-v` to one form: `-v` and `-vv` count up from nothing, `-v4` sets, and anything else
/// that follows the letter is ignored (scripts write `-verbosity=0`).
pub fn normalise(args: impl IntoIterator<Item = std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    let mut out = Vec::new();
    let mut past_end = false;
    for arg in args {
        past_end |= arg == "--";
        match arg.to_str().and_then(|text| text.strip_prefix("-v")) {
            Some(rest) if !past_end => {
                out.push(format!("--verbosity={}", short_verbosity(rest)).into())
            }
            _ => out.push(arg),
        }
    }
    out
}

fn short_verbosity(rest: &str) -> usize {
    if let Ok(level) = rest.parse::<usize>() {
        level
    } else if rest.chars().all(|c| c == 'v') {
        rest.len() + 1
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser as _;
    use std::ffi::OsString;

    fn verbosity(args: &[&str]) -> String {
        let all = ["orchestrator", "check"]
            .iter()
            .chain(args)
            .map(OsString::from);
        match Cli::try_parse_from(normalise(all)).expect("parses").command {
            Some(Command::Check(check)) => check.common.verbosity,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn verbosity_has_all_the_peers_spellings() {
        assert_eq!(verbosity(&["-v"]), "1");
        assert_eq!(verbosity(&["-vvv"]), "3");
        assert_eq!(verbosity(&["-v4"]), "4");
        assert_eq!(verbosity(&["--verbosity=3"]), "3");
        assert_eq!(verbosity(&["-verbosity=0", "--feature", "x"]), "1");
        assert_eq!(verbosity(&["--verbosity=3", "-v4"]), "4");
    }

    #[test]
    fn a_command_after_two_dashes_keeps_its_own_v() {
        let args = normalise(["restore", "--exec-cmd", "--", "cat", "-v"].map(OsString::from));
        assert_eq!(args.last(), Some(&OsString::from("-v")));
    }

    #[test]
    fn pids_are_positive_numbers() {
        for bad in ["0", "-5", "x", "99999999999"] {
            assert!(parse_pid(bad).is_err(), "{bad}");
        }
    }
}
