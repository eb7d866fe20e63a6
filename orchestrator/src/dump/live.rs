//! A dump of a tree that runs on: it stands still only while its memory is copied on write (`infect/copied.rs`), and what copies
//! have is written afterwards.
//!
//! A copy has private memory as it was at that moment. What it has not is written while the tree stands still: memory that is shared,
//! deleted files, areas that are not copied or are emptied by a fork (`MADV_DONTFORK`, `MADV_WIPEONFORK`), rings of asynchronous I/O.
//!
//! Where a process cannot be copied (no more processes are allowed, it is under seccomp), the whole tree stands still until all is
//! written, and a word says so: half of a tree that ran on would be of another moment than the other half.

use super::Error;
use super::collect::Facts;
use super::drain::{self, Drained, Drains, drain_all};
use crate::image::LiveStats;
use crate::infect::questions::Questions;
use crate::infect::{self, Copied, Copying, Infected, Parasite as _};
use crate::memory::Tally;
use crate::memory::frames::{self, Parted};
use crate::memory::select::Take;
use crate::snapshot::{Mm, Vma, VmaKind};
use crate::sys::Pid;
use arch::abi::program::{Check, Op};
use std::time::Instant;

/// Memory of a tree that may go on.
#[derive(Debug)]
pub enum Taken {
    /// All of it is written.
    Whole(Drained),
    /// The rest of it is in copies.
    Part(Box<Part>),
}

/// Memory of which a part is in copies.
#[derive(Debug)]
pub struct Part {
    drained: Drained,
    /// Of each process; none where its address space is that of one before it.
    copies: Vec<Option<Copied>>,
    unwritten: Vec<Vec<[u64; 2]>>,
    tally: Tally,
    begin: Instant,
}

/// Copies the memory of a frozen tree, and writes what copies have not; or writes all of it. `unwritten` is what the set before
/// has of each process.
///
/// # Errors
/// Memory cannot be read, or a file not written.
pub fn take(
    infected: &mut [Infected],
    facts: &mut Facts,
    drains: &mut Drains<'_>,
    unwritten: Vec<Vec<[u64; 2]>>,
) -> Result<Taken, Error> {
    let begin = Instant::now();
    let own: Vec<Pid> = infected.iter().map(|infected| infected.pid()).collect();
    let left = drain::find(&own, facts, (drains, &unwritten), Take::NotCopied)?;
    let copied = match obstacle(infected, &left, drains) {
        Some(reason) => Err(reason),
        None => copy_all(infected, facts)?,
    };
    let copies = match copied {
        Ok(copies) => copies,
        Err(reason) => {
            tracing::warn!("the tree stands still until all is written: {reason}");
            return drain_all(infected, facts, drains, &unwritten).map(Taken::Whole);
        }
    };
    tracing::debug!("the memory was copied in {} us", super::micros(begin));
    let mut drained = Drained::default();
    let mut tally = Tally::default();
    for (index, parted) in left.into_iter().enumerate() {
        let task = &facts.tasks[index].task;
        let runs = match parted.own.is_empty() {
            true => parted.common,
            false => drains.write(&mut infected[index], task, parted, &mut tally)?,
        };
        drained.private.push(runs);
    }
    drains.shared(facts, &mut drained)?;
    Ok(Taken::Part(Box::new(Part {
        drained,
        copies,
        unwritten,
        tally,
        begin,
    })))
}

/// Returns why the tree cannot run on while its memory is written.
fn obstacle(infected: &[Infected], left: &[Parted], drains: &Drains<'_>) -> Option<String> {
    if let Some(confined) = infected.iter().find(|infected| !infected.may_call()) {
        return Some(format!(
            "process {} is under seccomp, and may not be able to fork",
            confined.pid()
        ));
    }
    let several = !drains.portable && drains.outlet.takes_several_files();
    let place = left.iter().position(|parted| !parted.own.is_empty());
    place.filter(|_| !several).map(|place| {
        format!(
            "memory of process {} is not copied by a fork, and such images have all pages in one file, in order",
            infected[place].pid()
        )
    })
}

/// Copies all address spaces, or says why that cannot be.
fn copy_all(
    infected: &mut [Infected],
    facts: &Facts,
) -> Result<Result<Vec<Option<Copied>>, String>, Error> {
    set_subreapers(infected, facts, Subreapers::Off)?;
    let mut begun: Vec<Option<Result<Copying, infect::Error>>> = Vec::new();
    for (index, infected) in infected.iter_mut().enumerate() {
        let mm = facts.tasks[index].task.mm.as_ref();
        let mm = mm.filter(|_| !drain::has_space_of_another(&facts.tasks, index));
        begun.push(mm.map(|mm| infected.begin_copy(shared_areas(mm))));
    }
    // Whatever became of one, none is left in the middle.
    let finish = |(infected, begun): (&mut Infected, Option<Result<Copying, infect::Error>>)| {
        let copying = begun?;
        Some(copying.and_then(|copying| infected.finish_copy(copying)))
    };
    let finished: Vec<_> = infected.iter_mut().zip(begun).map(finish).collect();
    set_subreapers(infected, facts, Subreapers::AsBefore)?;
    let finished = finished.into_iter().map(Option::transpose);
    match finished.collect::<Result<Vec<_>, _>>() {
        Ok(copies) => Ok(Ok(copies)),
        Err(error @ infect::Error::Copy { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Areas that a copy does without: they were written already, and nobody is to find the memory or its file in use for longer than
/// the target uses it.
fn shared_areas(mm: &Mm) -> Vec<[u64; 2]> {
    let is_left =
        |vma: &&Vma| !vma.is_private() && !matches!(vma.kind, VmaKind::Vvar | VmaKind::Vsyscall);
    let shared = mm.vmas.iter().filter(is_left);
    shared.map(|vma| [vma.start, vma.end]).collect()
}

/// What subreapers of the tree are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subreapers {
    /// None, so that the copies become the children of somebody outside.
    Off,
    /// What they were.
    AsBefore,
}

/// Changes which processes of the tree take the orphans below them. Should we end before they are as they were, the self-cure
/// mends it.
fn set_subreapers(infected: &mut [Infected], facts: &Facts, to: Subreapers) -> Result<(), Error> {
    let call = |on: u64| {
        let args = [libc::PR_SET_CHILD_SUBREAPER as u64, on, 0, 0, 0, 0];
        Op::call(libc::SYS_prctl as u32, args).check(Check::Ignore, 0)
    };
    for (infected, facts) in infected.iter_mut().zip(&facts.tasks) {
        if !facts.task.child_subreaper {
            continue;
        }
        let mut questions = Questions::default();
        match to {
            Subreapers::Off => {
                infected.set_cleanup(&[call(1)]);
                questions.add(call(0), &[]);
                infected.ask(&questions)?;
            }
            Subreapers::AsBefore => {
                // Off the list only when it is done: twice does no harm.
                questions.add(call(1), &[]);
                infected.ask(&questions)?;
                infected.set_cleanup(&[]);
            }
        }
    }
    Ok(())
}

impl Taken {
    /// Writes what copies have, each of which ends then. The tree runs.
    ///
    /// # Errors
    /// A copy ended, or a file cannot be written.
    pub fn finish(self, facts: &mut Facts, drains: &mut Drains<'_>) -> Result<Drained, Error> {
        let Part {
            mut drained,
            copies,
            unwritten,
            tally: frozen,
            begin,
        } = match self {
            Taken::Whole(drained) => return Ok(drained),
            Taken::Part(part) => *part,
        };
        let mut views: Vec<Pid> = Vec::new();
        for (facts, copy) in facts.tasks.iter().zip(&copies) {
            views.push(copy.as_ref().map_or(Pid(facts.task.pid), Copied::pid));
        }
        let parted = drain::find(&views, facts, (drains, &unwritten), Take::Copied)?;
        let mut tally = Tally::default();
        for (index, (parted, copy)) in parted.into_iter().zip(copies).enumerate() {
            let Some(mut copy) = copy else {
                continue;
            };
            let task = &facts.tasks[index].task;
            let runs = drains.write(&mut copy, task, parted, &mut tally)?;
            let left = std::mem::take(&mut drained.private[index]);
            drained.private[index] = frames::merged(runs, left);
        }
        drains.outlet.close()?;
        drains.stats.live = Some(LiveStats {
            pages_copied: tally.written,
            pages_frozen: frozen.written,
        });
        tally.add(&frozen);
        drains.count(&tally, begin);
        Ok(drained)
    }
}
