//! Jobs of a shell, and their terminals.

use integration_tests::{orchestrator, present, root};
use std::process::{Command, Stdio};

/// `cat` reads a terminal that does not echo; restored in the foreground of another, it reads that, which does not echo then.
#[test]
fn a_job_goes_on_in_another_terminal() {
    if !root() || !present("python3") {
        return;
    }
    let images = tempfile::TempDir::new().expect("a temporary folder");
    let output = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/job.py"))
        .arg(orchestrator())
        .arg(images.path())
        .stdin(Stdio::null())
        .output()
        .expect("python3 can be started");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "PASS\n", "{words}");
}
