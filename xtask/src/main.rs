//! Developer tasks: `cargo xtask TASK`.

use anyhow::{Result, bail};

mod bench;
mod blobs;
mod demo;
mod proto;
mod sample;
mod support;
mod test;

const USAGE: &str = "usage: cargo xtask TASK
  demo      build all, dump a program that counts, restore it, and watch it count on (root)
  test      run all tests, and count those that are skipped
  bench     measure dump and restore, alone or beside another tool: [--beside PATH] [-n N] (root)
  blobs     build and audit the parasite and the restorer
  proto     generate the types of the image records; --check compares
  support   write the tables of what is supported; --check compares";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((task, rest)) = args.split_first() else {
        bail!("{USAGE}")
    };
    match task.as_str() {
        "bench" => bench::run(rest),
        "blobs" => blobs::run(rest),
        "demo" => demo::run(),
        "proto" => proto::run(rest),
        "support" => support::run(rest),
        "test" => test::run(rest),
        "help" | "--help" => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("no task {task}\n{USAGE}"),
    }
}
