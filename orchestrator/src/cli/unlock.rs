//! `orchestrator unlock`.

use super::args::UnlockArgs;
use super::say;
use crate::network;
use crate::sys::Pid;
use anyhow::Context as _;

/// Removes what dumps have left to keep the network away, and says what it was.
///
/// # Errors
/// The kernel does not let us.
pub fn run(args: &UnlockArgs) -> anyhow::Result<()> {
    let names = network::unlock_left(args.pid).context("cannot unlock the network")?;
    for name in names {
        say::line(format_args!("removed {name}"));
    }
    if let Some(pid) = args.pid {
        let mended = network::mend(Pid(pid)).context("cannot mend connections")?;
        for one in mended {
            say::line(format_args!(
                "mended {one}: a dump had left it in the mode of repair"
            ));
        }
    }
    Ok(())
}
