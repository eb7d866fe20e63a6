//! Readers: processes that fill a task's memory beside it.
//!
//! Most of the time of a large restore goes into page faults and copying while page files are read: a single processor does
//! it at half the speed of two. So the reads of a task with much memory are a list that several take from, one after the
//! other: the task itself, and readers that share its address space and its descriptors (`CLONE_VM`, `CLONE_FILES`) and end
//! when the list is empty. The task then waits for their ends, so nothing is left of them when it goes on.
//!
//! A reader has a process id that no process of the tree is to have, and is cloned with it: an id of the kernel's choice could
//! be one that is wanted later. Where that cannot be had, the task reads alone.

use std::collections::{BTreeMap, BTreeSet};

use arch::abi::program::{ARGS, ArgKind, Check, Op, special};

use super::birth::clone_arguments;
use super::family::{Family, Kind};
use super::fill::Read;
use super::program::{Builder, Object, Program};
use super::task::Making;
use super::{Host, birth};
use crate::snapshot::{PAGE_SIZE, PageLocation, Snapshot, Task};

/// Most processes that read for one task, itself included: beyond a few the memory is the limit.
const MAX_AT_ONCE: usize = 4;
/// Least memory that readers are worth their making for, in bytes.
const WORTH_READERS: u64 = 16 << 20;
/// Process ids are looked for downwards from here: the highest that every kernel has.
const HIGHEST_PID: i32 = 32767;
/// What a reader shares with its task.
const READER: u64 = (libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_FS) as u64;

/// A reader that was provided for.
#[derive(Debug, Clone, Copy)]
struct Place {
    context: u32,
    pid: i32,
}

/// The readers of a tree.
#[derive(Debug, Default)]
pub struct Readers {
    of_members: BTreeMap<usize, Vec<Place>>,
    programs: BTreeMap<u32, Program>,
}

impl Readers {
    /// Provides for the readers of a tree, whose contexts begin with number `first`.
    pub fn of(snapshot: &Snapshot, family: &Family, host: &Host, first: u32) -> Self {
        let processors: u32 = host.affinity.iter().map(|byte| byte.count_ones()).sum();
        let others = (processors as usize).clamp(1, MAX_AT_ONCE) - 1;
        let taken = numbers(snapshot, family);
        let free = (1..=HIGHEST_PID).rev().filter(|pid| !taken.contains(pid));
        let mut places = (first..).zip(free);
        let mut all = Self::default();
        for (index, member) in family.members.iter().enumerate() {
            let Kind::Living(place) = member.kind else {
                continue;
            };
            if stored(&snapshot.tasks[place]) < WORTH_READERS {
                continue;
            }
            let own = places.by_ref().take(others);
            let own = own.map(|(context, pid)| Place { context, pid });
            all.of_members.insert(index, own.collect());
        }
        for place in all.of_members.values().flatten() {
            let unused = Program {
                tid: place.pid,
                ops: vec![Op::special(special::EXIT, [0; ARGS])],
            };
            all.programs.insert(place.context, unused);
        }
        all
    }

    /// Returns the number of their contexts.
    pub fn contexts(&self) -> u32 {
        self.programs.len() as u32
    }

    /// Adds their programs, after all others.
    pub fn finish(self, b: &mut Builder) {
        self.programs
            .into_values()
            .for_each(|program| b.push_program(program));
    }
}

/// Returns the bytes that are read for a task.
fn stored(task: &Task) -> u64 {
    let runs = task.mm.iter().flat_map(|mm| &mm.pages);
    let own = runs.filter(|run| run.at != PageLocation::ParentTask);
    own.map(|run| run.pages * PAGE_SIZE).sum()
}

/// Returns the numbers of all that a tree has numbers for.
fn numbers(snapshot: &Snapshot, family: &Family) -> BTreeSet<i32> {
    let threads = snapshot.tasks.iter().flat_map(|task| &task.threads);
    let members = family.members.iter();
    let mut all: BTreeSet<i32> = threads.map(|thread| thread.tid).collect();
    all.extend(members.flat_map(|member| [member.pid, member.pgid, member.sid]));
    all
}

/// Adds reads that the task at hand shares with its readers, if they are worth it; else returns false.
pub fn plan_shared_reads(m: &mut Making<'_>, reads: &[Read], what: &'static str) -> bool {
    let total: u64 = reads.iter().map(Read::len).sum();
    let Some(places) = m.readers.of_members.remove(&m.own.member) else {
        return false;
    };
    if total < WORTH_READERS || places.is_empty() {
        return false;
    }
    m.b.object(Object::Named(format!("{what} from the page files")));
    let mut jobs = Vec::new();
    for read in reads {
        let vectors = m.b.put_words(&read.words());
        let fd = m.own.services.get(&read.pages_id()).copied().unwrap_or(-1);
        jobs.extend([fd as u64, vectors, read.vectors(), read.offset()]);
    }
    let (next, jobs) = (m.b.put_words(&[0]), m.b.put_words(&jobs));
    let share = [next, jobs, reads.len() as u64, 0, 0, 0];
    let made: Vec<usize> = places
        .iter()
        .map(|place| plan_reader(m, *place, share))
        .collect();
    m.b.special(special::READ_SHARED, &share[..3]);
    for made in made {
        // One that was not made is nobody's child (ECHILD).
        let args = [made as u64, 0, u64::from(libc::__WALL as u32), 0];
        let wait = m.b.call(libc::SYS_wait4, &args);
        *wait = wait.arg(0, ArgKind::Result).check(Check::Ignore, 0);
    }
    true
}

/// Adds the birth of a reader and its program, and returns the index of the operation that makes it.
fn plan_reader(m: &mut Making<'_>, place: Place, share: [u64; ARGS]) -> usize {
    let args = clone_arguments(&mut m.b, READER, 0, place.pid, place.context);
    let made = m.b.next_index();
    let call = m.b.call(libc::SYS_clone3, &[args, birth::CLONE_ARGS_LEN]);
    *call = call.check(Check::Ignore, 0);
    let death = [libc::PR_SET_PDEATHSIG as u64, libc::SIGKILL as u64];
    let ops = [
        Op::call(libc::SYS_prctl as u32, [death[0], death[1], 0, 0, 0, 0]),
        Op::special(special::READ_SHARED, share),
        Op::special(special::EXIT, [0; ARGS]),
    ];
    let ops = ops.map(|op| m.b.of_object(op)).to_vec();
    let tid = place.pid;
    m.readers
        .programs
        .insert(place.context, Program { tid, ops });
    made
}
