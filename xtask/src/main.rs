//! Developer tasks: `cargo xtask TASK`.

use anyhow::{Result, bail};

mod blobs;
mod proto;
mod support;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((task, rest)) = args.split_first() else {
        bail!("usage: cargo xtask blobs | proto | support")
    };
    match task.as_str() {
        "blobs" => blobs::run(rest),
        "proto" => proto::run(rest),
        "support" => support::run(rest),
        _ => bail!("no task {task}"),
    }
}
