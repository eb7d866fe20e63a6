//! `orchestrator working-set`.

use super::args::WorkingSetArgs;
use super::say;
use crate::restore::record_working_set;
use crate::sys::Pid;
use std::time::Duration;

/// Records what a restored tree has used of its page files, for the next restore of the set.
///
/// # Errors
/// There is no such tree, or the record cannot be written.
pub fn run(args: &WorkingSetArgs) -> anyhow::Result<()> {
    std::thread::sleep(Duration::from_secs(args.after));
    let pages = record_working_set(Pid(args.pid), &args.common.images_dir)?;
    say::line(format_args!("{pages} pages of the images are in use"));
    Ok(())
}
