//! Developer tasks: `cargo xtask TASK`.

use anyhow::{Result, bail};
use std::process::ExitCode;

mod bench;
mod blobs;
mod demo;
mod proto;
mod sample;
mod support;
mod test;
mod vm;

const USAGE: &str = "usage: cargo xtask TASK
  demo      build all, dump a program that counts, restore it, and watch it count on (root)
  test      run all tests, and count those that are skipped: [arguments of cargo test]
  bench     measure dump and restore, alone or beside another tool (root): [--beside PATH] [--work NAMES] [-n ROUNDS]
  blobs     build and audit the parasite and the restorer; --check-reproducible builds them twice
  proto     generate the types of the image records; --check compares
  support   write the tables of what is supported; --check compares
  vm        boot another kernel in qemu over the files of this machine, and run a command there, or the tests of
            dirty tracking (root): KERNEL [-- COMMAND]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without the backtrace that RUST_BACKTRACE adds: it helps nobody whose C compiler is missing.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let Some((task, rest)) = args.split_first() else {
        bail!("no task given\n{USAGE}")
    };
    match task.as_str() {
        "bench" => bench::run(rest),
        "blobs" => blobs::run(rest),
        "demo" => demo::run(),
        "proto" => proto::run(rest),
        "support" => support::run(rest),
        "test" => test::run(rest),
        "vm" => vm::run(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("no task {task}\n{USAGE}"),
    }
}
