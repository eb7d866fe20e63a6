//! `orchestrator unlock`.

use super::args::UnlockArgs;
use super::say;
use crate::network;
use anyhow::Context as _;

/// Removes what dumps have left to keep the network away, and says what it was.
///
/// # Errors
/// The kernel does not let us.
pub fn run(args: &UnlockArgs) -> anyhow::Result<()> {
    let names = network::unlock_left(args.pid).context("cannot unlock the network")?;
    for name in names {
        say::line(format_args!("removed the table {name} of nftables"));
    }
    Ok(())
}
