//! Page files: where their descriptors stand in the tasks, and where temporaries begin.

use super::refusals::Report;
use super::{Host, Service, fill, terminals};
use crate::snapshot::Snapshot;

/// Least number of a service descriptor: above what most programs have, and within the table of 256 that bash leaves to
/// its children, so that the restored one need not be larger.
const SERVICES_FROM: i32 = 200;
/// `RLIMIT_NOFILE`.
const RLIMIT_NOFILE: usize = 7;
/// Most temporaries at one time: both ends of a pipe, memfds, and one at work.
const TEMPORARIES: i32 = 8;

/// Chooses the numbers of the page files' descriptors, and the first number after them; there is room for `more`, and then
/// temporaries.
pub fn place(
    snapshot: &Snapshot,
    host: &Host,
    more: i32,
    report: &mut Report,
) -> (Vec<Service>, i32) {
    let all = snapshot.tasks.iter().flat_map(|task| &task.fds);
    let highest = all.map(|entry| entry.fd).max().unwrap_or(-1);
    let limit = host.rlimits[RLIMIT_NOFILE].hard.min(i32::MAX as u64) as i32;
    let ids = fill::page_files(snapshot);
    // Both sides of each, and those that hold lower numbers until the right one comes.
    let ptys = terminals::pairs(snapshot);
    let ptys = 2 * ptys.len() as i32 + ptys.last().map_or(0, |(index, ..)| *index as i32 + 1);
    let needed = ids.len() as i32 + snapshot.memfds.len() as i32 + ptys + TEMPORARIES + more;
    let first = (highest + 1).max(SERVICES_FROM.min(limit.saturating_sub(needed)));
    if first.saturating_add(needed) > limit {
        report.refuse(
            format!("descriptor {highest}"),
            format!(
                "with {needed} more to restore it, it is above this process's limit of {limit}"
            ),
            "raise RLIMIT_NOFILE (ulimit -Hn) and try again",
        );
    }
    let services: Vec<Service> = ids
        .into_iter()
        .zip(first..)
        .map(|(pages_id, fd)| Service { fd, pages_id })
        .collect();
    let above = first.saturating_add(services.len() as i32);
    (services, above)
}
