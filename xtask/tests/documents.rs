//! Documents are true in what can be checked by a machine: the files they name are there, and the test command of README is
//! the one that `.ci/run` calls.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn documents() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).expect("docs");
    let mut all: Vec<PathBuf> = docs.map(|file| file.expect("a file").path()).collect();
    all.push(root().join("README.md"));
    all
}

/// Returns what of a document names a file: words in backticks with an ending that sources have, and targets of links.
fn named(text: &str) -> Vec<&str> {
    const ENDINGS: [&str; 6] = [".rs", ".c", ".proto", ".ld", ".md", ".toml"];
    let code = text.split('`').skip(1).step_by(2);
    let code = code.filter(|word| {
        let is_pattern =
            word.contains(['*', ' ', '\n', '(']) || word.contains("KIND") || word.contains("NAME");
        let of_kernel = word.starts_with("kernel/") || word.starts_with("fs/");
        ENDINGS.iter().any(|ending| word.ends_with(ending)) && !is_pattern && !of_kernel
    });
    let links = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    code.chain(links.filter(|link| !link.contains("://")))
        .collect()
}

#[test]
fn the_files_they_name_are_there() {
    // Where a name may count from: documents shorten what lies below the orchestrator's sources.
    let bases = [
        "",
        "docs",
        "orchestrator/src",
        "orchestrator",
        "proto/schema",
    ];
    let mut missing = Vec::new();
    for document in documents() {
        let text = read(&document);
        let names = named(&text);
        for name in names {
            let found = bases
                .iter()
                .any(|base| root().join(base).join(name).exists());
            if !found {
                missing.push(format!("{}: {name}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn names_are_found_in_a_text() {
    let text = "see `plan/mod.rs`, `a word`, `objects/KIND/plan.rs` and [that](docs/x.md), [web](https://a.b/c.md)";
    assert_eq!(named(text), ["plan/mod.rs", "docs/x.md"]);
}

#[test]
fn the_run_calls_the_test_command_of_readme() {
    let command = "cargo xtask test";
    let is_command = |line: &str| line.trim() == command;
    assert!(read(root().join(".ci/run")).lines().any(is_command));
    let readme = read(root().join("README.md"));
    assert!(
        readme
            .lines()
            .any(|line| line.starts_with(&format!("    {command}")))
    );
}

#[test]
fn the_help_names_all_tasks() {
    let main = read(root().join("xtask/src/main.rs"));
    let usage = main
        .split("const USAGE")
        .nth(1)
        .and_then(|rest| rest.split("\";\n").next())
        .expect("the help");
    let tasks = main
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => "));
    let tasks: Vec<&str> = tasks
        .filter(|(_, to)| to.contains("::run("))
        .map(|(task, _)| task)
        .collect();
    assert!(tasks.len() > 5, "{tasks:?}");
    for task in tasks {
        assert!(usage.contains(&format!("\n  {task} ")), "{task}");
    }
}
