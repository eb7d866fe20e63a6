//! Options about namespaces.

use clap::Args;
use std::path::PathBuf;

/// Which network namespace a restored tree comes into.
#[derive(Debug, Args)]
pub struct Namespaces {
    /// Keep nothing of what is in the tree's own network namespace (net): it is empty after the restore.
    #[arg(long, value_name = "net", value_parser = ["net"])]
    empty_ns: Option<String>,
    /// With `restore`: the tree comes into this network namespace, by a file of it or a process in it, and finds there what is there.
    #[arg(long, value_name = "net:FILE|PID", value_parser = parse_joined, conflicts_with = "empty_ns")]
    pub join_ns: Option<PathBuf>,
}

impl Namespaces {
    /// Returns whether the network namespace is to be empty.
    pub fn is_network_empty(&self) -> bool {
        self.empty_ns.is_some()
    }
}

/// Returns the file of a namespace.
fn parse_joined(text: &str) -> Result<PathBuf, String> {
    match text.split_once(':') {
        Some(("net", place)) if !place.is_empty() => Ok(match place.parse::<u32>() {
            Ok(pid) => format!("/proc/{pid}/ns/net").into(),
            Err(_) => place.into(),
        }),
        _ => Err(format!(
            "{text:?} is no network namespace: net:FILE or net:PID is wanted, others cannot be joined yet"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_named_by_a_file_or_a_process() {
        assert_eq!(parse_joined("net:77"), Ok("/proc/77/ns/net".into()));
        assert_eq!(parse_joined("net:/run/x:y"), Ok("/run/x:y".into()));
        for wrong in ["net", "net:", "uts:77", ""] {
            assert!(parse_joined(wrong).is_err(), "{wrong}");
        }
    }
}
